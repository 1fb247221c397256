"""`ssah encode --backbone`: codes without a run, their model, more codes like them."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from search_cases import NUMBER, SMALL_CODES, call, mistake

from ssah_jax.cli.fit import unfinished_path
from ssah_jax.retrieval.code_files import read_codes
from ssah_jax.run.code_model import CodeModel
from ssah_jax.run.encoder import Encoder
from ssah_jax.run.frozen_encoder import FrozenEncoder
from ssah_jax.run.frozen_features import FrozenFeatures

pytestmark = pytest.mark.usefixtures("weights")


def bits_of(codes):
    return np.unpackbits(codes.packed, axis=1)[:, : codes.bits]


@pytest.mark.slow
def test_codes_and_their_model(frozen):
    found = read_codes(frozen)
    assert len(found.ids) == NUMBER and found.bits == 16
    assert sorted(os.listdir(frozen.parent)) == ["codes.model", "codes.parquet"]
    encoder = Encoder.load(frozen.with_suffix(".model"))
    assert encoder.fingerprint == found.fingerprint
    assert encoder.model.binariser.kind == "itq"
    assert len(np.unique(bits_of(found), axis=0)) > 30
    wanted = encoder.transform(list(found.ids))
    np.testing.assert_array_equal(bits_of(found), wanted > 0)


def test_the_model_is_of_all_images_and_said(run, frozen, tmp_path, capsys):
    """Features are computed once, though they are needed twice."""
    out = tmp_path / "codes.parquet"
    assert call("encode", *SMALL_CODES, run.photos, "--out", out) == 0
    text = capsys.readouterr().out
    assert text.startswith("learnt itq of 16 bits from 70 images: ")
    assert "encoded 70 images in " in text
    assert read_codes(out).fingerprint == read_codes(frozen).fingerprint


@pytest.mark.parametrize("how", ["--like", "--model"])
def test_more_codes_like_them(run, frozen, tmp_path, monkeypatch, how):
    out = tmp_path / "more.parquet"
    which = frozen if how == "--like" else frozen.with_suffix(".model")
    photos = [run.photos / name for name in run.names[10:20]]
    with monkeypatch.context() as patch:
        patch.setattr(FrozenEncoder, "fit_features", None)
        assert call("encode", how, which, *photos, "--out", out) == 0
    more, known = read_codes(out), read_codes(frozen)
    assert more.fingerprint == known.fingerprint
    by_name = dict(zip(known.ids, bits_of(known).tolist(), strict=True))
    # A batch of another size is rounded otherwise.
    different = bits_of(more) != np.array([by_name[name] for name in more.ids])
    assert different.mean() < 0.02
    # And the next ones like these.
    model = CodeModel.load(tmp_path / "more.model")
    assert model.fingerprint == known.fingerprint


def test_search_by_the_model(run, frozen, indexed, tmp_path, capsys):
    index, photo = tmp_path / "photos.index", run.photos / run.names[3]
    assert call("index", frozen, "--out", index) == 0
    capsys.readouterr()
    assert call("search", "--like", frozen, "--index", index, photo, "-k", "1") == 0
    assert str(photo) in capsys.readouterr().out.splitlines()[2]
    model = frozen.with_suffix(".model")
    line = mistake(capsys, "search", "--model", model, "--index", indexed, photo)
    assert "found queries of model" in line and "accepted" not in line[:20]
    line = mistake(capsys, "search", "--workdir", run.workdir, "--index", index, photo)
    assert "expected those of one model" in line


def test_what_it_learns_from(run, tmp_path, monkeypatch, capsys):
    looked = []
    compute = FrozenFeatures.compute

    def counted(self, images, *args, **kwargs):
        looked.append(list(images.names))
        yield from compute(self, images, *args, **kwargs)

    monkeypatch.setattr(FrozenFeatures, "compute", counted)
    few = [run.photos / name for name in run.names[:30]]
    call_of = ["encode", *SMALL_CODES, *few]
    assert call(*call_of, "--fit", 20, "--out", tmp_path / "a.parquet") == 0
    assert len(looked[0]) == 20 and len(looked[1]) == 30
    folder = run.photos / "4"
    capsys.readouterr()
    line = mistake(capsys, *call_of, "--fit", folder, "--out", "x.parquet")
    assert line.startswith("bits: found 16, accepted for itq are 1 to 10, with 10 ima")
    options = ["--fit", folder, "--binarise", "lsh", "--out", tmp_path / "b.parquet"]
    assert call(*call_of, *options) == 0
    assert [Path(name).parent for name in looked[2]] == [folder] * 10


def test_sign_has_a_bit_for_each_feature(run, tmp_path):
    out = tmp_path / "c.parquet"
    options = [*SMALL_CODES[:-2], "--binarise", "sign"]
    few = [run.photos / name for name in run.names[:3]]
    assert call("encode", *options, *few, "--out", out) == 0
    assert read_codes(out).bits == 512


def test_interrupted_it_learns_no_second_time(run, frozen, tmp_path, monkeypatch):
    out = tmp_path / "codes.parquet"
    arguments = ["encode", *SMALL_CODES, run.photos, "--out", out]

    def stop(*_, **__):
        raise KeyboardInterrupt
        yield

    with monkeypatch.context() as patch:
        patch.setattr(FrozenEncoder, "encode", stop)
        assert call(*arguments) == 130
    assert not out.exists() and not (tmp_path / "codes.model").exists()
    assert unfinished_path(out).exists()
    with monkeypatch.context() as patch:
        patch.setattr(FrozenEncoder, "fit_features", None)
        assert call(*arguments) == 0
    assert sorted(os.listdir(tmp_path)) == ["codes.model", "codes.parquet"]
    np.testing.assert_array_equal(read_codes(out).packed, read_codes(frozen).packed)


def test_unreadable_images_are_left_out_of_both(run, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in run.names[:20]:
        shutil.copy(run.photos / name, folder)
    (folder / "000.png").write_bytes(b"no image")
    out = tmp_path / "c.parquet"
    assert call("encode", *SMALL_CODES, folder, "--out", out) == 0
    text, err = capsys.readouterr()
    assert "encoded 19 images" in text and "1 unreadable" in text
    assert err.count("\n") == 1 and "000.png: found" in err
    line = mistake(
        capsys,
        *("encode", *SMALL_CODES, folder, "--out", tmp_path / "d.parquet"),
        *("--on-error", "raise"),
    )
    assert "000.png: found" in line
    assert not (tmp_path / "d.model").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bits", "9"], "one of the arguments --workdir --backbone --like --model"),
        (["--workdir", "r", "--bits", "9"], "--bits: accepted with --backbone alone"),
        (["--like", "c", "--binarise", "pca"], "--binarise: accepted with --backbone"),
        (["--like", "c", "--step", "9"], "--step: accepted with --workdir alone"),
        ([*SMALL_CODES, "--bits", "0"], "--bits: found 0, accepted is at least 1"),
        (
            [*SMALL_CODES, "--bits", "90"],
            "bits: found 90, accepted for itq are 1 to",
        ),
        ([*SMALL_CODES, "--image-size", "4"], "--image-size: found images of 4 x 4"),
        ([*SMALL_CODES, "--fit", "nowhere"], "nowhere: found no such file or folder"),
        ([*SMALL_CODES, "--weights", "nowhere"], "'nowhere': found no such file"),
        (["--backbone", "vit"], "--backbone: found vit, accepted are"),
        (["--like", "none.parquet"], "--like: found no none.model beside none.parquet"),
        (["--model", "none.model"], "none.model: found no such file"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    arguments = ["encode", *arguments, run.photos, "--out", "c.parquet"]
    assert message in mistake(capsys, *arguments)
    assert os.listdir(tmp_path) == []


def test_models_that_do_not_fit(run, frozen, encoded, tmp_path, capsys):
    copy = tmp_path / "codes.parquet"
    shutil.copy(frozen.with_suffix(".model"), tmp_path)
    shutil.copy(encoded, copy)
    to = ["--out", tmp_path / "more.parquet"]
    line = mistake(capsys, "encode", "--like", copy, run.photos, *to)
    assert line.startswith(f"--like: found {copy} of model ")
    other = ["--model", tmp_path / "codes.model", "--weights", "of others"]
    line = mistake(capsys, "encode", *other, run.photos, *to)
    assert line.startswith("--weights: found of others with sha256 ")
    # Another model in the way.
    (tmp_path / "more.model").write_text("precious")
    line = mistake(capsys, "encode", *SMALL_CODES, run.photos, *to)
    assert "more.model: is there already; replace it with --overwrite" in line
    line = mistake(capsys, "encode", "--like", frozen, run.photos, *to)
    assert "more.model: is there already" in line
    assert (tmp_path / "more.model").read_text() == "precious"
    arguments = ["encode", *SMALL_CODES, run.photos, *to, "--overwrite"]
    assert call(*arguments) == 0
    assert CodeModel.load(tmp_path / "more.model").binariser.bits == 16
    capsys.readouterr()
    line = mistake(
        capsys, "encode", *SMALL_CODES, run.photos, "--out", tmp_path / "x.model"
    )
    assert "accepted is another suffix" in line


def test_an_update_learns_nothing_new(run, tmp_path, monkeypatch, capsys):
    """What comes later must be comparable with what is there."""
    photos = shutil.copytree(run.photos / "0", tmp_path / "photos")
    out = tmp_path / "codes.parquet"
    arguments = ["encode", *SMALL_CODES[:-2], "--bits", 4, photos, "--out", out]
    assert call(*arguments) == 0
    known = read_codes(out)
    shutil.copytree(run.photos / "1", photos / "more")
    with monkeypatch.context() as patch:
        patch.setattr(FrozenEncoder, "fit_features", None)
        assert call(*arguments, "--update") == 0
    assert "10 new" in capsys.readouterr().out
    found = read_codes(out)
    assert (len(found.ids), found.fingerprint) == (20, known.fingerprint)
    line = mistake(capsys, *arguments, "--update", "--binarise", "pca")
    assert "codes.model: found none of this backbone, weights and binariser" in line
    os.remove(tmp_path / "codes.model")
    assert "codes.model: found none" in mistake(capsys, *arguments, "--update")
