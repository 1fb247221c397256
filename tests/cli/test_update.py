"""`ssah encode --update`: what is encoded, what is kept; labels; files as they were."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from search_cases import call, mistake, old_photos

from ssah_jax.cli import encode as encode_lib
from ssah_jax.data.changes import file_states, find_changes
from ssah_jax.retrieval.code_columns import Stamp, stamps_of
from ssah_jax.retrieval.code_files import read_codes, read_table
from ssah_jax.run.run_encoder import RunEncoder


@pytest.fixture
def photos(run, tmp_path, monkeypatch) -> Path:
    """Some of the run's photos, last changed long ago, with their codes."""
    monkeypatch.chdir(tmp_path)
    folder = old_photos(run, 30)
    assert encode(run) == 0
    return folder


def encode(run, *more, out="codes.parquet") -> int:
    return call("encode", "--workdir", run.workdir, "photos", "--out", out, *more)


def counting(monkeypatch) -> list[str]:
    """Names of the images that are encoded from here on."""
    found: list[str] = []
    original = RunEncoder.encode

    def counted(encoder, images, **options):
        for indices, codes in original(encoder, images, **options):
            found.extend(images.names[index] for index in indices)
            yield indices, codes

    monkeypatch.setattr(RunEncoder, "encode", counted)
    return found


def change(photos: Path, run) -> dict[str, str]:
    """Two new, one changed, three renamed, one copied, one touched, two gone."""
    for name in run.names[30:32]:
        shutil.copy(run.photos / name, photos / name)
    names = run.names
    shutil.copy(run.photos / names[40], photos / names[0])  # other content
    for number in (3, 4, 5):
        (photos / names[number]).rename(photos / f"a moved {number}.png")
    shutil.copy(photos / names[6], photos / "zz copy.png")
    os.utime(photos / names[7])
    for number in (8, 9):
        (photos / names[number]).unlink()
    return {name: str(photos / name) for name in (names[0], *names[30:32])}


def read_stamps(path: Path | str) -> list[Stamp | None]:
    return stamps_of(read_table(Path(path))[0])


def same(one: Path | str, other: Path | str) -> None:
    a, b = read_codes(one), read_codes(other)
    assert (a.ids, a.labels, a.fingerprint) == (b.ids, b.labels, b.fingerprint)
    np.testing.assert_array_equal(a.packed, b.packed)
    assert [s[::2] for s in read_stamps(one)] == [s[::2] for s in read_stamps(other)]


@pytest.mark.slow
def test_an_update_is_what_encoding_all_gives(run, photos, monkeypatch, capsys):
    wanted = change(photos, run)
    encoded = counting(monkeypatch)
    capsys.readouterr()
    assert encode(run, "--update") == 0
    assert sorted(encoded) == sorted(wanted.values())
    out = capsys.readouterr().out
    assert out.startswith("encoded 3 images in ")
    assert out.splitlines()[1] == (
        "since the last time: 2 new, 1 changed, 24 unchanged, 3 renamed, 1 copied, "
        "2 gone"
    )
    assert encode(run, out="anew.parquet") == 0
    same("codes.parquet", "anew.parquet")
    assert sorted(os.listdir()) == ["anew.parquet", "codes.parquet", "photos"]


def test_nothing_changed_writes_nothing(run, photos, monkeypatch, capsys):
    encoded = counting(monkeypatch)
    before = os.stat("codes.parquet")
    assert encode(run, "--update") == 0
    assert encoded == []
    after = os.stat("codes.parquet")
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert "0 new, 0 changed, 30 unchanged" in capsys.readouterr().out
    # Labels alone are reason enough.
    assert encode(run, "--update", "--labels", "folders") == 0
    assert encoded == []
    names = read_codes("codes.parquet")
    assert names.labels == tuple((name.split("/")[1],) for name in names.ids)


def test_an_update_makes_what_is_not_there(run, photos):
    assert encode(run, "--update", out="other.parquet") == 0
    same("codes.parquet", "other.parquet")


@pytest.mark.slow
def test_interrupted_an_update_leaves_the_old_file_whole(run, photos, monkeypatch):
    change(photos, run)
    before = Path("codes.parquet").read_bytes()
    with monkeypatch.context() as patch:

        def interrupted(encoder, images, **options):
            for row in (0, 1):
                yield np.array([row]), np.ones((1, 20), np.float32) * _one(images, row)
            raise KeyboardInterrupt

        codes = {
            str(photos / name): run.codes[run.names.index(name)]
            for name in run.names[30:32]
        } | {str(photos / run.names[0]): run.codes[40]}

        def _one(images, row):
            images[row]  # as the encoder reads it
            return codes[images.names[row]]

        patch.setattr(RunEncoder, "encode", interrupted)
        assert encode(run, "--update") == 130
    assert Path("codes.parquet").read_bytes() == before
    encoded = counting(monkeypatch)
    assert encode(run, "--update") == 0
    assert len(encoded) == 1
    assert encode(run, out="anew.parquet") == 0
    same("codes.parquet", "anew.parquet")


def test_what_was_left_of_a_file_that_changed_is_not_taken(run, photos, monkeypatch):
    with monkeypatch.context() as patch:

        def interrupted(encoder, images, **options):
            images[0]
            yield np.array([0]), run.codes[:1]
            raise KeyboardInterrupt

        patch.setattr(RunEncoder, "encode", interrupted)
        assert encode(run, out="other.parquet") == 130
    shutil.copy(run.photos / run.names[40], photos / run.names[0])
    encoded = counting(monkeypatch)
    assert encode(run, out="other.parquet") == 0
    assert str(photos / run.names[0]) in encoded and len(encoded) == 30


def test_a_file_that_was_too_new_is_read_again(tmp_path, monkeypatch):
    """A change within one step of the clock leaves size and time as they were."""
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(b"one")
    stamps = [Stamp(3, file_states(["a.png"])["a.png"].modified, b"another digest..")]
    assert stamps[0].modified == -1
    assert find_changes(file_states(["a.png"]), ["a.png"], ["a.png"], stamps).changed
    os.utime("a.png", ns=(0, 10**18))
    states = file_states(["a.png"])
    trusted = [stamps[0]._replace(modified=10**18)]
    assert find_changes(states, ["a.png"], ["a.png"], trusted).unchanged == 1


@pytest.mark.slow
def test_what_an_update_refuses(run, photos, monkeypatch, capsys):
    capsys.readouterr()
    shutil.move("photos", "elsewhere")
    Image.new("L", (8, 8), 77).save("one.png")
    arguments = ("encode", "--workdir", run.workdir, "--out", "codes.parquet")
    line = mistake(capsys, *arguments, "one.png", "--update")
    assert line.startswith("codes.parquet: found none of its 30 images among those")
    # All of them moved is no mistake.
    assert call(*arguments, "elsewhere", "--update") == 0
    assert "30 renamed, 0 copied, 0 gone" in capsys.readouterr().out
    other = Path("other.parquet")
    other.write_text("no codes")
    line = mistake(capsys, *arguments[:-1], other, "elsewhere", "--update")
    assert re.match("other.parquet: found ArrowInvalid", line)
    import dataclasses

    another = dataclasses.replace(run.encoder, fingerprint="0" * 16)
    monkeypatch.setattr(encode_lib, "load_encoder", lambda *_: another)
    line = mistake(capsys, *arguments, "elsewhere", "--update")
    assert "found codes with fingerprint" in line and "--overwrite" in line


@pytest.mark.slow
def test_labels(run, photos, capsys):
    capsys.readouterr()
    train = Path("photos/train")
    train.mkdir()
    shutil.move("photos/1", train)
    shutil.move("photos/2", "photos/unlabelled")
    assert encode(run, "--update", "--labels", "folders") == 0
    found = read_codes("codes.parquet")
    by_id = dict(zip(found.ids, found.labels, strict=True))
    assert by_id["photos/train/1/001.png"] == ("1",)
    assert by_id["photos/unlabelled/002.png"] == ()
    assert by_id["photos/0/000.png"] == ("0",)
    Path("t.csv").write_text("path,labels\nphotos/0/000.png,cat|sea\nno.png,dog\n")
    assert encode(run, "--update", "--labels", "t.csv") == 0
    assert dict.fromkeys(read_codes("codes.parquet").labels).keys() == {
        (),
        ("cat", "sea"),
    }
    # Kept where none are given, also when the file is renamed.
    Path("photos/0/000.png").rename("photos/0/new.png")
    assert encode(run, "--update") == 0
    found = read_codes("codes.parquet")
    assert found.labels[found.ids.index("photos/0/new.png")] == ("cat", "sea")
    Path("t.csv").write_text("path,labels\nno.png,dog\n")
    capsys.readouterr()
    arguments = ["--workdir", run.workdir, "photos", "--out", "codes.parquet"]
    line = mistake(capsys, "encode", *arguments, "--update", "--labels", "t.csv")
    assert line.startswith("t.csv: found none of the 30 images")
