"""`ssah encode`, `index` and `search`: from a folder of images to what is nearest."""

import base64
import dataclasses
import html.parser
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import ROOT, environment
from PIL import Image

from ssah_jax import cli as commands
from ssah_jax.cli import encode as encode_lib
from ssah_jax.cli.encode import encode_images, find_names
from ssah_jax.cli.found import Hit, QueryResult, as_table
from ssah_jax.cli.index import index_codes
from ssah_jax.cli.result_page import render
from ssah_jax.cli.search import search_images
from ssah_jax.config import from_config_dict
from ssah_jax.data import DataError
from ssah_jax.retrieval import code_files
from ssah_jax.retrieval import index as index_lib
from ssah_jax.retrieval.code_files import read_codes
from ssah_jax.run import evaluators, train_lib
from ssah_jax.run.encoder import Encoder, load_encoder
from ssah_jax.run.experiment import prepare
from ssah_jax.run.workdir import Workdir
from ssah_jax.types import TrainState

NUMBER = 70


def config(**data):
    return from_config_dict(
        {
            "bits": 20,
            "steps": 2,
            "labels_per_class": 5,
            "batch": {"labelled": 8, "unlabelled": 8},
            "hnet": {"widths": (8, 16)},
            "anet": {"width": 4, "grid": 3},
            "data": {"num_queries": 50, "num_validation": 50} | data,
            "eval": {"batch": 24},
        }
    )


def as_if_trained(state: TrainState) -> TrainState:
    """`state` with another teacher, whose codes tell most images apart."""
    key = jax.random.key(1)

    def moved(leaf):
        moves = jax.random.normal(jax.random.fold_in(key, leaf.size), leaf.shape)
        return leaf + 0.3 * jax.device_put(moves, leaf.sharding)

    return state.replace(teacher=jax.tree.map(moved, state.teacher))


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, the images it was evaluated on as files, and their codes."""

    workdir: Path
    photos: Path
    names: list[str]
    codes: np.ndarray

    @property
    def encoder(self) -> Encoder:
        return load_encoder(Workdir(self.workdir))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    root = tmp_path_factory.mktemp("search")
    experiment = prepare(config())
    with train_lib.open_run(experiment, Workdir(root / "run")) as opened:
        state = as_if_trained(opened.state)
        opened.checkpoints.save(2, state, iterators={}, metric=None)
        codes, _ = evaluators.Evaluator(experiment).codes(state, np.arange(NUMBER))
    names = [f"{i % 7}/{i:03}.png" for i in range(NUMBER)]
    for name, image in zip(names, experiment.source.images, strict=False):
        path = root / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    assert len(np.unique(codes >= 0, axis=0)) > 40
    return Run(root / "run", root / "photos", names, codes)


@pytest.fixture(scope="module")
def encoded(run, tmp_path_factory) -> Path:
    """The file of codes of all photos, called by their absolute paths."""
    out = tmp_path_factory.mktemp("codes") / "codes.parquet"
    assert call("encode", "--workdir", run.workdir, run.photos, "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def indexed(encoded) -> Path:
    out = encoded.with_name("photos.index")
    assert call("index", encoded, "--out", out) == 0
    return out


def call(*arguments) -> int:
    """The exit status of `ssah`, in this process."""
    return commands.main([str(argument) for argument in arguments])


def mistake(capsys, *arguments) -> str:
    """The one line that `ssah` says, without its `error: `."""
    assert call(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and err[:-1].isprintable()
    return err.removeprefix("error: ")


def distances(run: Run, row: int) -> np.ndarray:
    """Hamming distances of one photo to all, bit by bit."""
    ones = run.codes >= 0
    return np.array(
        [sum(a != b for a, b in zip(ones[row], o, strict=True)) for o in ones]
    )


def image_file(path: Path, size=(8, 8), mode="RGB", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, "red").save(path, **options)
    return path


# Which images.


def test_names_are_kept_as_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "f/b.jpg", "f/g/c.png", "f/notes.txt", "h/[x].png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    assert find_names(["a.png"]) == ["a.png"]
    assert find_names(["./a.png", str(tmp_path / "a.png")]) == [
        "./a.png",
        f"{tmp_path}/a.png",
    ]
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
    assert list(read_codes(out).ids) == [
        *ones,
        "photos/0/000.png",
        "./photos/0/000.png",
    ]


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
        self._encode = Encoder.encode

    def install(self, monkeypatch) -> "Interrupting":
        def encode(encoder, images, **options):
            found = self._encode(encoder, images, **options)
            for number, (indices, codes) in enumerate(found):
                if number == self.batches:
                    raise self.error
                self.encoded += [images.names[index] for index in indices]
                yield indices, codes

        monkeypatch.setattr(Encoder, "encode", encode)
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
    monkeypatch.setattr(encode_lib, "load", lambda *_: other)
    assert "fingerprint" in mistake(capsys, *arguments)


def test_a_file_is_replaced_only_when_asked(run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "codes.parquet"
    out.write_text("precious")
    arguments = ["encode", "--workdir", run.workdir, run.photos, "--out", out]
    with monkeypatch.context() as patch:
        # Before the model is loaded.
        patch.setattr(encode_lib, "load", None)
        line = mistake(capsys, *arguments)
    assert line == f"{out}: is there already; replace it with --overwrite\n"
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


def test_every_process_encodes_its_share(run, encoded, tmp_path, monkeypatch):
    names = list(read_codes(encoded).ids)
    out = tmp_path / "codes.parquet"
    encoder = run.encoder
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    for process in (0, 2, 1):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        summary = encode_images(encoder, names, out)
        assert summary.path == code_files.shard_path(out, process, 3)
        assert list(read_codes_alone(summary.path)) == names[process::3]
    assert not out.exists()
    whole, shards = read_codes(encoded), read_codes(out)
    wanted = dict(zip(whole.ids, whole.packed.tolist(), strict=True))
    assert dict(zip(shards.ids, shards.packed.tolist(), strict=True)) == wanted


def read_codes_alone(path: Path) -> list[str]:
    """Ids of one shard, which `read_codes` wants to see with all others."""
    import pyarrow.parquet as pq

    return pq.read_table(path)["id"].to_pylist()


def test_a_share_may_be_empty(run, tmp_path, monkeypatch):
    name, encoder = str(run.photos / run.names[0]), run.encoder
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for process in range(2):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        encode_images(encoder, [name], tmp_path / "c.parquet")
    assert read_codes(tmp_path / "c.parquet").ids == (name,)


def stopped(command: list[str], when: Path, number: int) -> tuple[int, str, str]:
    """Starts a command, sends a signal once something is there; what came of it."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not list(when.parent.glob(when.name)):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.slow
def test_killed_processes_go_on(run, tmp_path, capsys):
    folder, out = tmp_path / "many", tmp_path / "codes.parquet"
    folder.mkdir()
    for index in range(12_000):
        os.link(run.photos / run.names[index % NUMBER], folder / f"{index:05}.png")
    script = "import sys; from ssah_jax.cli import main; sys.exit(main())"
    arguments = ["encode", "--workdir", run.workdir, folder, "--out", out]
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    part = tmp_path / ".codes.parquet.parts" / "part-*0.parquet"
    status, text, err = stopped(command, part, signal.SIGKILL)
    assert (status, text) == (-signal.SIGKILL, "")
    assert not out.exists()
    part = part.with_name("part-*3.parquet")
    status, text, err = stopped(command, part, signal.SIGINT)
    assert (status, text, err) == (130, "", "interrupted\n")
    assert not out.exists()
    assert call(*arguments) == 0
    before = re.search(r"images and (\d+) before", capsys.readouterr().out)
    assert before and 4 * encode_lib.PART_ROWS <= int(before[1]) < 12_000
    found = read_codes(out)
    assert list(found.ids) == [f"{folder}/{index:05}.png" for index in range(12_000)]
    bits = np.unpackbits(found.packed, axis=1)[:, :20]
    wanted = (run.codes >= 0)[np.arange(12_000) % NUMBER]
    np.testing.assert_array_equal(bits, wanted)
    assert sorted(os.listdir(tmp_path)) == ["codes.parquet", "many"]


@pytest.mark.slow
def test_two_processes_of_one_program(run, encoded, tmp_path):
    """With JAX's own coordination, on a share of unequal length."""
    script = (
        "import sys, jax\n"
        "address, index = sys.argv[1:3]\n"
        "jax.distributed.initialize(address, 2, int(index))\n"
        "from ssah_jax.cli import main\n"
        "sys.exit(main(sys.argv[3:]))\n"
    )
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    names = [str(run.photos / name) for name in run.names[:49]]
    out = tmp_path / "codes.parquet"
    arguments = ["encode", "--workdir", str(run.workdir), *names, "--out", str(out)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, address, str(index), *arguments],
            cwd=ROOT,
            env=environment(2),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert sorted(os.listdir(tmp_path)) == [
        "codes-00000-of-00002.parquet",
        "codes-00001-of-00002.parquet",
    ]
    found = read_codes(out)
    assert list(found.ids) == names[::2] + names[1::2]
    bits = np.unpackbits(found.packed, axis=1)[:, :20]
    wanted = run.codes[:49] >= 0
    np.testing.assert_array_equal(bits, np.concatenate([wanted[::2], wanted[1::2]]))


def test_one_writer_at_a_time(run, tmp_path, capsys):
    from filelock import FileLock

    out = tmp_path / "codes.parquet"
    arguments = ["--workdir", run.workdir, run.photos, "--out", out]
    with FileLock(tmp_path / ".codes.parquet.lock"):
        line = mistake(capsys, "encode", *arguments)
    assert "codes.parquet: another process is writing it" in line
    assert not out.exists()
    assert call("encode", *arguments) == 0
    assert os.listdir(tmp_path) == ["codes.parquet"]


# index


def test_index_tells_what_it_did(encoded, tmp_path, capsys):
    out = tmp_path / "photos.index"
    arguments = ["--kind", "hnsw", "--m", "8", "--ef-search", "99", "--out", out]
    assert call("index", encoded, *arguments) == 0
    text, err = capsys.readouterr()
    head, _, tail = text.partition(") in ")
    settings = "m 8, ef_search 99, ef_construction 100"
    assert head.startswith("indexed 70 codes of 20 bits (hnsw, ")
    assert {*head.split(", ")[1:]} == {*settings.split(", ")}
    assert re.fullmatch(rf"\d+\.\d s: {out}\n", tail)
    assert err == ""
    index = index_lib.load_index(out)
    assert (index.kind, index.options["m"], index.options["ef_search"]) == (
        "hnsw",
        8,
        99,
    )
    assert index.ids == read_codes(encoded).ids


def test_mistakes_of_index(run, encoded, tmp_path, capsys):
    out = tmp_path / "photos.index"
    cases = [
        ([tmp_path / "none", "--out", out], "none"),
        ([run.photos / run.names[0], "--out", out], "000.png"),
        ([encoded, "--out", tmp_path], "found a folder"),
        ([encoded, "--out", tmp_path / "no" / "x"], "found no folder to write it in"),
        ([encoded, "--out", encoded, "--overwrite"], "one of the files of codes"),
        ([encoded, "--out", encoded], "is there already; replace it with --overwrite"),
        ([encoded, "--out", out, "--nlist", "3"], "nlist"),
        ([encoded, "--out", out, "--kind", "tree"], "invalid choice: 'tree'"),
        ([encoded, encoded, "--out", out], "000.png"),
    ]
    for arguments, message in cases:
        assert message in mistake(capsys, "index", *arguments)
    assert os.listdir(tmp_path) == []
    assert len(read_codes(encoded).ids) == NUMBER
    index_codes(encoded, out=out)
    assert call("index", encoded, "--out", out, "--overwrite", "--kind", "ivf") == 0
    assert index_lib.load_index(out).kind == "ivf"


# search


def test_an_indexed_image_is_found_first(run, indexed, capsys):
    rows = np.flatnonzero([(distances(run, row) == 0).sum() == 1 for row in range(30)])
    assert len(rows) > 15
    queries = [run.photos / run.names[row] for row in rows]
    arguments = ["--workdir", run.workdir, "--index", indexed, *queries]
    assert call("search", *arguments, "-k", 6, "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["query"] for line in lines] == [str(query) for query in queries]
    for row, line in zip(rows, lines, strict=True):
        wanted = sorted(distances(run, row))[:6]
        assert [result["rank"] for result in line["results"]] == [1, 2, 3, 4, 5, 6]
        assert [result["distance"] for result in line["results"]] == wanted
        assert line["results"][0] == {
            "rank": 1,
            "distance": 0,
            "id": line["query"],
            "labels": [],
        }
        for result in line["results"]:
            found = run.names.index(result["id"].removeprefix(f"{run.photos}/"))
            assert distances(run, row)[found] == result["distance"]


@pytest.mark.parametrize("kind", index_lib.KINDS)
def test_every_kind_is_searched(run, encoded, tmp_path, kind):
    options = {"nprobe": 8} if kind == "ivf" else {}
    out = tmp_path / "photos.index"
    index = index_codes(encoded, out=out, kind=kind, **options)
    name = str(run.photos / run.names[5])
    result = search_images(run.encoder, index, [name], k=500)[0]
    assert result.query == name
    assert name in [hit.id for hit in result.hits if hit.distance == 0]
    # All of them, but of a hash table.
    assert kind == "multihash" or len(result.hits) == NUMBER
    assert [hit.rank for hit in result.hits] == [*range(1, len(result.hits) + 1)]
    assert max(hit.distance for hit in result.hits) <= 20


@pytest.mark.parametrize("kind", ["flat", "multihash"])
def test_everything_within_a_radius(run, encoded, tmp_path, kind):
    options = {"nhash": 3, "nflip": 1} if kind == "multihash" else {}
    index = index_codes(encoded, out=tmp_path / "i", kind=kind, **options)
    by_name = {f"{run.photos}/{name}": row for row, name in enumerate(run.names)}
    names = list(by_name)[:10]
    for radius in (0, 2, 5):
        results = search_images(run.encoder, index, names, radius=radius)
        for row, result in enumerate(results):
            wanted = set(np.flatnonzero(distances(run, row) <= radius).tolist())
            assert {by_name[hit.id] for hit in result.hits} == wanted


def test_radius_of_an_index_that_cannot_promise(run, encoded, tmp_path, capsys):
    photo = run.photos / run.names[0]
    for kind, radius, accepted in (
        ("hnsw", 2, "accepted is -k instead with an hnsw index"),
        ("multihash", 6, "accepted is up to 5 with this multihash index"),
        ("flat", 21, "accepted is 0 to the code's 20 bits"),
        ("flat", -1, "accepted is 0 to the code's 20 bits"),
    ):
        options = {"nhash": 3} if kind == "multihash" else {}
        out = tmp_path / "photos.index"
        index_codes(encoded, out=out, kind=kind, overwrite=True, **options)
        arguments = ["search", "--workdir", run.workdir, "--index", out, photo]
        line = mistake(capsys, *arguments, "--radius", radius)
        assert line.startswith(f"--radius: found {radius}, ") and accepted in line


def test_mistakes_of_search(run, indexed, tmp_path, capsys):
    photo = run.photos / run.names[0]
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    here = ["--workdir", run.workdir, "--index", indexed]
    cases = [
        ([*here, photo, "-k", "0"], "-k: found 0, accepted is at least 1"),
        ([*here, tmp_path / "none.jpg"], "none.jpg: found no such file"),
        ([*here, text], "text.jpg: found no image"),
        ([*here, photo, "-k", "3", "--radius", "2"], "not allowed with argument"),
        ([*here, photo, "--html", tmp_path / "no" / "x"], "--html: found no folder"),
        ([*here, photo, "--html", tmp_path], "cannot be written"),
        (["--workdir", run.workdir, "--index", text, photo], "text.jpg: "),
        (["--workdir", run.workdir, "--index", tmp_path / "n", photo], "n: "),
    ]
    for arguments, message in cases[:5] + cases[6:]:
        assert message in mistake(capsys, "search", *arguments)
    arguments, message = cases[5]
    assert call("search", *arguments) == 2
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["text.jpg"]


def test_one_unreadable_query_leaves_the_others_answered(
    run, indexed, tmp_path, capsys
):
    text, page = tmp_path / "text.jpg", tmp_path / "page.html"
    text.write_text("no image")
    photos = [run.photos / name for name in run.names[:2]]
    arguments = ["--workdir", run.workdir, "--index", indexed, "--json", "-k", 1]
    queries = [photos[0], text, photos[1]]
    assert call("search", *arguments, *queries, "--html", page) == 1
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    assert [line["query"] for line in found] == [str(photo) for photo in photos]
    assert all(line["results"][0]["distance"] == 0 for line in found)
    assert err.startswith(f"{text}: found no image") and err.count("\n") == 1
    assert page.is_file()
    other = shutil.copy(text, tmp_path / "other.jpg")
    line = mistake(capsys, "search", *arguments, text, other)
    assert "found none of 2 queries readable" in line and "text.jpg" in line


def test_an_index_of_another_model(run, indexed, tmp_path, capsys):
    copy = shutil.copytree(run.workdir, tmp_path / "run")
    text = (copy / "config.json").read_text()
    assert '"resize": "crop"' in text
    (copy / "config.json").write_text(text.replace('"crop"', '"squash"'))
    photo = run.photos / run.names[0]
    line = mistake(capsys, "search", "--workdir", copy, "--index", indexed, photo)
    assert "photos.index" in line and run.encoder.fingerprint in line
    other = load_encoder(Workdir(copy))
    with pytest.raises(ValueError, match=other.fingerprint):
        search_images(other, index_lib.load_index(indexed), [str(photo)])


RESULTS = [
    QueryResult(
        "q,\n<b>&\"'.jpg",
        (
            Hit(1, 0, "a.png", ("cat", "black & <i>white")),
            Hit(2, 11, "日本.png", ()),
            Hit(10, 12, "x\udcff\n</section>.png", ("dog",)),
        ),
    ),
    QueryResult("none.jpg", ()),
]


def test_the_table_is_aligned():
    assert as_table(RESULTS[0]).splitlines() == [
        "q,\\n<b>&\"'.jpg",
        "  rank  distance  id                       labels",
        "     1         0  a.png                    cat, black & <i>white",
        "     2        11  日本.png",
        "    10        12  x\\udcff\\n</section>.png  dog",
    ]
    assert as_table(RESULTS[1]) == "none.jpg\n  nothing found"
    without = QueryResult("q.jpg", (Hit(1, 0, "a.png", ()),))
    assert as_table(without).splitlines()[1] == "  rank  distance  id"


def test_a_table_a_query(run, indexed, capsys):
    queries = [run.photos / name for name in run.names[:2]]
    arguments = ["--workdir", run.workdir, "--index", indexed, "-k", "3", *queries]
    assert call("search", *arguments) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    for block, query in ((first, queries[0]), (second, queries[1])):
        lines = block.splitlines()
        assert lines[0] == str(query) and len(lines) == 5
        assert lines[1].split() == ["rank", "distance", "id"]


def test_json_takes_any_name(run, tmp_path, monkeypatch, capsysbinary):
    monkeypatch.chdir(tmp_path)
    names = ["a\n<b>.png", "\udcff,.png"]
    for name, photo in zip(names, run.names, strict=False):
        shutil.copy(run.photos / photo, name)
    where = ["--workdir", run.workdir]
    assert call("encode", *where, *names, "--out", "c.parquet") == 0
    assert call("index", "c.parquet", "--out", "i") == 0
    capsysbinary.readouterr()
    assert call("search", *where, "--index", "i", *names, "--json", "-k", "1") == 0
    lines = capsysbinary.readouterr().out.decode("ascii").splitlines()
    for line, name in zip(lines, names, strict=True):
        found = json.loads(line)
        assert found["query"] == found["results"][0]["id"] == name


# The page.


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and text, of a page that must be well-formed."""

    VOID = ("meta", "img", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def page(tmp_path) -> str:
    """Two images are there, one is damaged, two are gone."""
    image_file(tmp_path / "q,\n<b>&\"'.jpg", (300, 200))
    image_file(tmp_path / "a.png", (3, 5), "L")
    (tmp_path / "日本.png").write_bytes(b"nothing")
    return render(RESULTS, about="3 images & more", root=tmp_path)


def test_the_page_shows_names_as_text(page):
    parsed = Page(page)
    alts = [image["alt"] for image in parsed.all("img")]
    assert alts == ["q,\\n<b>&\"'.jpg", "a.png"]
    labels = [a["aria-label"] for a in parsed.all("span") if a.get("role") == "img"]
    assert labels == ["日本.png", "x\\udcff\\n</section>.png", "none.jpg"]
    assert not parsed.all("i")
    for text in (*alts, *labels, "cat, black & <i>white", "3 images & more"):
        assert text in parsed.text
    assert parsed.text.count("cannot be read") == 1
    assert parsed.text.count("not there any more") == 2
    assert "Nothing found." in parsed.text


def test_the_page_is_complete_in_itself(page, tmp_path):
    parsed = Page(page)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in parsed.tags}
    assert "prefers-color-scheme: dark" in page
    policy = next(m["content"] for m in parsed.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")
    for image in parsed.all("img"):
        head, _, data = image["src"].partition(",")
        assert head == "data:image/jpeg;base64"
        content = base64.b64decode(data)
        assert len(content) < 10_000
        with Image.open(io.BytesIO(content)) as picture:
            assert (picture.format, *picture.size) == ("JPEG", 192, 192)
            red, green, blue = picture.convert("RGB").getpixel((96, 96))
            # Of red, and of red as grey.
            assert (red > 240 and green < 20) or red == green == blue


def test_search_writes_the_page(run, indexed, tmp_path, capsys):
    query = run.photos / run.names[0]
    out = tmp_path / "page.html"
    arguments = ["--workdir", run.workdir, "--index", indexed, query, "-k", "4"]
    assert call("search", *arguments, "--html", out) == 0
    assert capsys.readouterr().out.count("\n") == 6
    parsed = Page(out.read_text())
    assert len(parsed.all("img")) == 5
    assert "70 images, 20 bits, flat index" in parsed.text
    assert os.listdir(tmp_path) == ["page.html"]


def test_thumbnails_of_relative_ids(run, tmp_path, monkeypatch):
    monkeypatch.chdir(run.photos)
    where = ["--workdir", run.workdir]
    assert call("encode", *where, "0", "1", "--out", tmp_path / "c.parquet") == 0
    assert call("index", tmp_path / "c.parquet", "--out", tmp_path / "i") == 0
    monkeypatch.chdir(tmp_path)
    query = run.photos / run.names[0]
    arguments = ["search", *where, "--index", "i", query, "-k", "3", "--html", "p"]
    assert call(*arguments) == 0
    assert Path("p").read_text().count("not there any more") == 3
    assert call(*arguments, "--root", run.photos) == 0
    assert Path("p").read_text().count("not there any more") == 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("size", ["1200,800", "500,900"])
def test_a_browser_has_no_complaint(page, tmp_path, size):
    path, shot = tmp_path / "page.html", tmp_path / "shot.png"
    path.write_text(page)
    done = subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu"),
            *("--enable-logging=stderr", f"--window-size={size}"),
            *(f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={shot}"),
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr
    with Image.open(shot) as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 20


# Help.


@pytest.mark.parametrize("command", ["encode", "index", "search"])
def test_help_loads_neither_models_nor_data(command):
    script = (
        "import sys; from ssah_jax.cli import main; status = main(sys.argv[1:]); "
        "heavy = 'faiss', 'pyarrow', 'PIL', 'orbax', 'grain', 'ssah_jax.data'; "
        "print([m for m in heavy if m in sys.modules]); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, command, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    for needed in {
        "encode": "--workdir IMAGES --out",
        "index": "CODES --out --kind",
    }.get(command, "--workdir --index QUERY -k --json --html").split():
        assert needed in done.stdout


def test_ssah_lists_the_commands(capsys):
    assert commands.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"encode +hash images .*\n +index .*\n +search ", text)
