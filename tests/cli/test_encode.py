"""`ssah encode`: which images, their codes, and what is left out."""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from search_cases import (
    NUMBER,
    call,
    image_file,
    mistake,
)

from ssah_jax.cli import encode as encode_lib
from ssah_jax.cli.encoding import encode_images
from ssah_jax.cli.images import find_and_tell, find_names
from ssah_jax.data import DataError
from ssah_jax.retrieval.code_files import read_codes
from ssah_jax.run.run_encoder import RunEncoder

# Which images.


def test_names_are_kept_as_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "f/b.jpg", "f/g/c.png", "f/notes.txt", "h/[x].png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    assert find_names(["a.png"]) == ["a.png"]
    assert find_names(["./a.png"]) == ["./a.png"]
    assert find_names([f"{tmp_path}/a.png"]) == [f"{tmp_path}/a.png"]
    # A folder by suffix; a file that is named needs none.
    assert find_names(["f", "f/notes.txt"]) == ["f/b.jpg", "f/g/c.png", "f/notes.txt"]
    assert find_names(["f/"]) == ["f/b.jpg", "f/g/c.png"]
    assert find_names(["."])[0] == "./a.png"
    # Twice is once, at its first place.
    assert find_names(["f/g/c.png", "f"]) == ["f/g/c.png", "f/b.jpg"]
    # A file of that very name goes before the pattern.
    assert find_names(["h/[x].png"]) == ["h/[x].png"]
    assert find_names(["f/*"]) == ["f/b.jpg", "f/notes.txt"]
    assert find_names(["**/*.[jp][pn]g"]) == [
        *("a.png", "f/b.jpg", "f/g/c.png", "h/[x].png")
    ]


def test_a_file_is_one_image_however_it_is_spelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("base/0.png", "base/1.png", "base/in/2.png"):
        image_file(tmp_path / name)
    Path("link").symlink_to("base")
    Path("base/3.png").symlink_to("0.png")
    repeated = []
    arguments = ["base/1.png", "./base", f"{tmp_path}/base/in", "link", "base/../base"]
    found = find_names(arguments, repeated=repeated)
    assert found == ["base/1.png", "./base/0.png", "./base/in/2.png"]
    assert len(repeated) == 2 + 1 + 4 + 4
    assert repeated[0] == "./base/1.png: is base/1.png, left out"
    told = []
    assert find_and_tell(arguments, told) == found
    assert told == [*repeated[:10], "1 more names of the same files left out"]
    os.link("base/0.png", "again.png")
    assert find_names(["base/0.png", "again.png"]) == ["base/0.png"]
    # Two files of one content are two images: whoever copied may want both.
    shutil.copy("base/0.png", "copy.png")
    assert find_names(["base/0.png", "copy.png"]) == ["base/0.png", "copy.png"]


def test_lists_of_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_bytes(b"x/1.png\r\n\nno such.png\n*.png\nx/1.png\n\xff.png")
    assert find_names(["@list.txt"]) == [
        "x/1.png",
        "no such.png",
        "*.png",
        "\udcff.png",
    ]
    Path("null.txt").write_bytes(b"two\nlines.png\0 b.png \0")
    assert find_names(["@null.txt"]) == ["two\nlines.png", " b.png "]
    Path("@x.png").touch()
    assert find_names(["./@x.png"]) == ["./@x.png"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("nothing\n.png", r"nothing\\n\.png: found no such file or folder"),
        ("*.jpg", r"\*\.jpg: found no images, expected at least one"),
        ("empty", "empty: found no images"),
        ("@nowhere.txt", r"nowhere\.txt: found No such file"),
        ("@empty/none.txt", r"empty/none\.txt: found no images"),
    ],
)
def test_no_names(tmp_path, monkeypatch, argument, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "none.txt").write_text("\n\n")
    with pytest.raises(DataError, match=message):
        find_names([argument])


# encode


def test_codes_are_the_evaluators_bit_for_bit(run, encoded):
    found = read_codes(encoded)
    by_name = dict(zip(found.ids, found.packed, strict=True))
    assert sorted(by_name) == sorted(f"{run.photos}/{name}" for name in run.names)
    for name, code in zip(run.names, run.codes, strict=True):
        bits = np.unpackbits(by_name[f"{run.photos}/{name}"])[:20]
        np.testing.assert_array_equal(bits, code >= 0)
    assert (found.bits, found.fingerprint) == (20, run.encoder.fingerprint)
    assert found.labels is None
    assert os.listdir(encoded.parent).count("codes.parquet") == 1


def test_encode_tells_what_it_did(run, tmp_path, capsys):
    out = tmp_path / "codes.parquet"
    assert call("encode", "--workdir", run.workdir, run.photos, "--out", out) == 0
    text, err = capsys.readouterr()
    assert re.fullmatch(
        rf"encoded 70 images in \d+\.\d s \(\d+ a second\): {out}\n", text
    )
    assert err == ""  # no progress bar where there is no terminal
    assert os.listdir(tmp_path) == ["codes.parquet"]


def test_ids_are_the_paths_as_given(run, tmp_path, monkeypatch):
    monkeypatch.chdir(run.photos.parent)
    arguments = ["photos/1", "photos/0/000.png", "./photos/0/000.png", "photos/1/"]
    out = tmp_path / "codes.parquet"
    assert call("encode", "--workdir", "run", *arguments, "--out", out) == 0
    ones = [f"photos/{name}" for name in run.names if name.startswith("1/")]
    assert list(read_codes(out).ids) == [*ones, "photos/0/000.png"]


def test_images_of_any_size_and_format(run, tmp_path):
    """What is brought to the run's input is the centre square, in grey."""
    wide = np.full((8, 24, 3), 255, np.uint8)
    digit = np.asarray(Image.open(run.photos / run.names[4]))
    wide[:, 8:16] = digit[..., None]
    Image.fromarray(wide).save(tmp_path / "a wide one.webp", lossless=True)
    Image.fromarray(digit).save(tmp_path / "grey.bmp")
    Image.fromarray(digit).resize((800, 800)).save(tmp_path / "large.JPEG")
    out = tmp_path / "codes.parquet"
    assert call("encode", "--workdir", run.workdir, tmp_path, "--out", out) == 0
    found = read_codes(out)
    assert [Path(name).name for name in found.ids] == [
        *("a wide one.webp", "grey.bmp", "large.JPEG")
    ]
    bits = np.unpackbits(found.packed, axis=1)[:, :20]
    np.testing.assert_array_equal(bits[:2], run.codes[[4, 4]] >= 0)
    assert np.sum(bits[2] != (run.codes[4] >= 0)) <= 6


@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_images_become_square_as_in_training(run, tmp_path, resize):
    """White with a black left edge that the centre square lacks."""
    picture = Image.new("L", (32, 16), 255)
    picture.paste(0, (0, 0, 6, 16))
    picture.save(tmp_path / "a.png")
    encoder = run.encoder
    data = dataclasses.replace(encoder.config.data, resize=resize)
    config = dataclasses.replace(encoder.config, data=data)
    encoder = dataclasses.replace(encoder, config=config)
    images = encode_lib.images_as_in_training(encoder, [str(tmp_path / "a.png")])
    assert images.shape == (1, 8, 8, 1)
    assert (images[0].min() == 255) == (resize == "crop")


def test_labels_are_kept(run, tmp_path):
    names = [str(run.photos / name) for name in run.names[:3]]
    labels = {names[0]: ["zero"], names[2]: ["two", "even"]}
    out = tmp_path / "codes.parquet"
    summary = encode_images(run.encoder, names, out, labels=labels)
    assert (summary.num_encoded, summary.num_resumed, summary.path) == (3, 0, out)
    assert read_codes(out).labels == (("zero",), (), ("two", "even"))


BAD = ("1 empty.png", "2 text.jpg", "3 cut\n<off>,.png", "4 \udcff.png", "5 pipe.png")


@pytest.fixture
def damaged(run, tmp_path) -> Path:
    """A folder with five files that are no images among seven that are."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for index in range(7):
        shutil.copy(run.photos / run.names[index], folder / f"{index} good.png")
    contents = (b"", b"no image", (run.photos / run.names[0]).read_bytes()[:60], b"x")
    for name, content in zip(BAD, contents, strict=False):
        (folder / name).write_bytes(content)
    os.mkfifo(folder / BAD[4])
    (tmp_path / "list").write_bytes(
        b"".join(os.fsencode(name) + b"\0" for name in sorted(os.listdir(folder)))
    )
    return folder


def test_unreadable_images_are_left_out_and_listed(
    run, damaged, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(damaged)
    out = tmp_path / "codes.parquet"
    arguments = ["encode", "--workdir", run.workdir, "@../list", "--out", out]
    assert call(*arguments) == 0
    text, err = capsys.readouterr()
    assert text.startswith("encoded 7 images in ") and ", 5 unreadable: " in text
    lines = err.splitlines()
    assert len(lines) == 5
    for line, name in zip(lines, BAD, strict=True):
        assert line.startswith(name[:2]) and ": found " in line and line.isprintable()
    assert lines[2].startswith("3 cut\\n<off>,.png: ")
    assert lines[3].startswith("4 \\udcff.png: ")
    found = read_codes(out)
    assert list(found.ids) == [f"{index} good.png" for index in range(7)]
    bits = np.unpackbits(found.packed, axis=1)[:, :20]
    np.testing.assert_array_equal(bits, run.codes[:7] >= 0)


def test_unreadable_images_may_be_an_error(run, damaged, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(damaged)
    out = tmp_path / "codes.parquet"
    arguments = ["encode", "--workdir", run.workdir, "@../list", "--out", out]
    line = mistake(capsys, *arguments, "--on-error", "raise")
    assert line.startswith("1 empty.png: found an empty file")
    assert not out.exists()


def test_no_readable_image(run, damaged, tmp_path, capsys):
    out = tmp_path / "codes.parquet"
    bad = [damaged / name for name in BAD[:3]]
    line = mistake(capsys, "encode", "--workdir", run.workdir, *bad, "--out", out)
    assert line.startswith("found none of 3 images readable (the first: ")
    assert "1 empty.png" in line
    assert not out.exists()


class Interrupting:
    """Encodes some batches, then raises."""

    def __init__(self, batches: int, error: BaseException) -> None:
        self.batches, self.error = batches, error
        self.encoded: list[str] = []
        self._encode = RunEncoder.encode

    def install(self, monkeypatch) -> "Interrupting":
        def encode(encoder, images, **options):
            found = self._encode(encoder, images, **options)
            for number, (indices, codes) in enumerate(found):
                if number == self.batches:
                    raise self.error
                self.encoded += [images.names[index] for index in indices]
                yield indices, codes

        monkeypatch.setattr(RunEncoder, "encode", encode)
        return self


def test_interrupted_it_goes_on(run, encoded, tmp_path, monkeypatch, capsys):
    out = tmp_path / "codes.parquet"
    arguments = ["encode", "--workdir", run.workdir, run.photos, "--out", out]
    with monkeypatch.context() as patch:
        first = Interrupting(2, KeyboardInterrupt()).install(patch)
        assert call(*arguments) == 130
    assert capsys.readouterr() == ("", "interrupted\n")
    assert not out.exists()
    assert len(first.encoded) == 48
    with monkeypatch.context() as patch:
        second = Interrupting(99, KeyboardInterrupt()).install(patch)
        assert call(*arguments) == 0
    assert len(second.encoded) == 22 and not {*first.encoded} & {*second.encoded}
    assert "encoded 22 images and 48 before in " in capsys.readouterr().out
    whole, resumed = read_codes(encoded), read_codes(out)
    assert whole.ids == resumed.ids
    np.testing.assert_array_equal(whole.packed, resumed.packed)
    assert os.listdir(tmp_path) == ["codes.parquet"]


def test_what_was_left_of_other_images_is_discarded(run, tmp_path, monkeypatch):
    names = [str(run.photos / name) for name in run.names]
    out = tmp_path / "codes.parquet"
    with monkeypatch.context() as patch:
        Interrupting(1, KeyboardInterrupt()).install(patch)
        with pytest.raises(KeyboardInterrupt):
            encode_images(run.encoder, names[:40], out)
    summary = encode_images(run.encoder, names[10:], out)
    assert (summary.num_encoded, summary.num_resumed) == (60, 0)
    assert list(read_codes(out).ids) == names[10:]


def test_what_another_model_left_is_an_error(run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "codes.parquet"
    arguments = ["encode", "--workdir", run.workdir, run.photos, "--out", out]
    with monkeypatch.context() as patch:
        Interrupting(1, KeyboardInterrupt()).install(patch)
        assert call(*arguments) == 130
    capsys.readouterr()
    other = dataclasses.replace(run.encoder, fingerprint="0" * 16)
    monkeypatch.setattr(encode_lib, "load_encoder", lambda *_: other)
    assert "fingerprint" in mistake(capsys, *arguments)


def test_a_file_is_replaced_only_when_asked(run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "codes.parquet"
    out.write_text("precious")
    arguments = ["encode", "--workdir", run.workdir, run.photos, "--out", out]
    with monkeypatch.context() as patch:
        # Before the model is loaded.
        patch.setattr(encode_lib, "load_encoder", None)
        line = mistake(capsys, *arguments)
    assert line == (
        f"{out}: is there already; bring it up to date with --update, or replace it "
        "with --overwrite\n"
    )
    assert out.read_text() == "precious"
    with monkeypatch.context() as patch:
        Interrupting(1, KeyboardInterrupt()).install(patch)
        assert call(*arguments, "--overwrite") == 130
    assert out.read_text() == "precious"
    assert call(*arguments, "--overwrite") == 0
    assert "24 before" in capsys.readouterr().out
    assert len(read_codes(out).ids) == NUMBER
    with pytest.raises(ValueError, match="is there already"):
        encode_images(run.encoder, ["a.png"], out)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (".", "found a folder, expected the name of a file"),
        ("no/codes.parquet", "found no folder to write it in"),
    ],
)
def test_a_file_that_cannot_be_written(
    run, tmp_path, monkeypatch, capsys, out, message
):
    monkeypatch.chdir(tmp_path)
    arguments = ["encode", "--workdir", run.workdir, run.photos, "--out", out]
    assert message in mistake(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir", "nowhere"], "no config.json, so not the workdir of a run"),
        (["--workdir", "{run}", "--step", "7"], "step 7"),
        (["--workdir", "{run}", "--step", "first"], "accepted are last, best or a"),
        (["--workdir", "{run}", "--step", "best"], "no checkpoint has a validation"),
    ],
)
def test_runs_that_cannot_encode(run, indexed, tmp_path, capsys, arguments, message):
    arguments = [a.format(run=run.workdir) for a in arguments]
    photo = run.photos / run.names[0]
    out = tmp_path / "codes.parquet"
    assert message in mistake(capsys, "encode", *arguments, photo, "--out", out)
    assert message in mistake(capsys, "search", *arguments, "--index", indexed, photo)
    assert os.listdir(tmp_path) == []


def test_a_run_on_images_that_are_not_square(run, tmp_path, capsys):
    copy = shutil.copytree(run.workdir, tmp_path / "run")
    info = json.loads((copy / "model.json").read_text())
    (copy / "model.json").write_text(json.dumps(info | {"image_shape": [8, 9, 1]}))
    arguments = ["encode", "--workdir", copy, run.photos, "--out", tmp_path / "x"]
    line = mistake(capsys, *arguments)
    assert line.startswith("--workdir: found a run on images of 8 x 9 pixels, accepted")
