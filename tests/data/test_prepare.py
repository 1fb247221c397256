"""`ssah prepare`: data sets without TensorFlow, downloads, interruptions, mistakes."""

import contextlib
import dataclasses
import fcntl
import hashlib
import http.server
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tree_tfds
from PIL import Image

from ssah_jax import cli as commands
from ssah_jax.data import archives as archives_lib
from ssah_jax.data.archives import Archives
from ssah_jax.data.prepare import KNOWN, prepare, unreadable_images
from ssah_jax.data.source import DataError
from ssah_jax.data.tensorflow_free import MissingPackage, tensorflow_free
from ssah_jax.data.tfds import find_builder, open_images, tfds_source


@dataclasses.dataclass
class Known:
    """As TFDS's `UrlInfo`."""

    size: int
    checksum: str
    filename: str | None = None


def known_of(content: bytes, filename: str | None = None) -> Known:
    return Known(len(content), hashlib.sha256(content).hexdigest(), filename)


def left_over(root: Path) -> list[str]:
    """Everything below `root` but locks and whole downloads."""
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and path.name != ".lock"
    )


# Data sets.


@pytest.mark.parametrize(
    ("name", "write", "sizes", "classes"),
    [
        ("cifar10", tree_tfds.cifar10, {"train": 100, "test": 50}, 10),
        ("cifar100", tree_tfds.cifar100, {"train": 200, "test": 100}, 100),
        ("caltech_birds2011", tree_tfds.cub200, {"train": 400, "test": 200}, 200),
        ("stanford_dogs", tree_tfds.stanford_dogs, {"train": 240, "test": 120}, 120),
    ],
)
def test_data_sets(tmp_path, capfd, name, write, sizes, classes):
    write(tmp_path / "original")
    options = {"data_dir": str(tmp_path / "data"), "verify": False}
    summary = prepare(name, source=str(tmp_path / "original"), **options)
    assert capfd.readouterr() == ("", "")
    assert summary.splits == sizes
    assert not summary.was_prepared and summary.seconds > 0
    assert (summary.directory / "dataset_info.json").exists()
    source = tfds_source(name, data_dir=str(tmp_path / "data"), size=16)
    assert source.num_classes == classes
    assert {part: len(rows) for part, rows in source.parts.items()} == sizes
    for rows in source.parts.values():
        counts = source.labels[rows].sum(axis=0)
        assert counts.min() == counts.max() == len(rows) / classes
    # Classes can be told apart: the nearest training image is of the same class.
    train, test = (
        np.stack([source.images[i] for i in source.parts[part]]).astype(np.float32)
        for part in ("train", "test")
    )
    distances = ((train[None] - test[:, None]) ** 2).sum(axis=(2, 3, 4))
    nearest = source.parts["train"][distances.argmin(axis=1)]
    same = source.labels[nearest].argmax(1) == source.labels[
        source.parts["test"]
    ].argmax(1)
    assert same.mean() > 0.7
    assert "tensorflow" not in sys.modules
    again = prepare(name, **options)
    assert again.was_prepared and again.splits == sizes
    assert left_over(tmp_path / "data" / "downloads") == []


def test_birds_masks_survive(tmp_path):
    """They are written as PNG, of the size of their image."""
    import tensorflow_datasets as tfds

    tree_tfds.cub200(tmp_path, train_per_class=1, test_per_class=1)
    summary = prepare(
        "caltech_birds2011",
        data_dir=str(tmp_path / "data"),
        source=str(tmp_path),
        verify=False,
    )
    builder = tfds.builder_from_directory(str(summary.directory))
    skip = tfds.decode.SkipDecoding()
    decoders = {"image": skip, "segmentation_mask": skip}
    for example in list(builder.as_data_source("train", decoders=decoders))[:5]:
        mask = Image.open(io.BytesIO(example["segmentation_mask"]))
        image = Image.open(io.BytesIO(example["image"]))
        assert mask.format == "PNG" and mask.mode == "L"
        assert mask.size == image.size
        assert set(np.unique(np.asarray(mask))) <= {0, 255}
        assert 0 < example["bbox"][2] <= 1


def test_more_than_fits_into_memory(tmp_path, monkeypatch):
    from tensorflow_datasets.core import shuffle

    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 5000)
    tree_tfds.cifar10(tmp_path)
    prepare(
        "cifar10", data_dir=str(tmp_path / "data"), source=str(tmp_path), verify=False
    )
    source = tfds_source("cifar10", data_dir=str(tmp_path / "data"))
    assert source.labels.sum(axis=0).tolist() == [15] * 10
    assert len({source.images[i].tobytes() for i in range(150)}) == 150


def test_nothing_is_replaced_afterwards():
    from tensorflow_datasets.core import lazy_imports_lib, shuffle
    from tensorflow_datasets.core.features import image_feature

    def state():
        return (
            shuffle.tf,
            image_feature._ImageEncoder._encode_image,
            vars(lazy_imports_lib.LazyImporter)["cv2"],
        )

    before = state()
    with pytest.raises(RuntimeError), tensorflow_free(find_builder("cifar10")):
        assert all(a is not b for a, b in zip(before, state(), strict=True))
        raise RuntimeError
    assert all(a is b for a, b in zip(before, state(), strict=True))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_arrays_become_png(channels):
    import tensorflow_datasets as tfds

    array = np.random.default_rng(0).integers(
        256, size=(5, 6, channels), dtype=np.uint8
    )
    feature = tfds.features.Image(shape=(5, 6, channels))
    with tensorflow_free(find_builder("cifar10")):
        encoded = feature.encode_example(array)
    found = np.asarray(Image.open(io.BytesIO(encoded))).reshape(array.shape)
    np.testing.assert_array_equal(found, array)


def test_what_takes_tensorflow_says_so(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds
    from tensorflow_datasets.image_classification import cifar

    with tensorflow_free(find_builder("cifar10")):
        feature = tfds.features.Image(shape=(2, 2, 3), encoding_format="jpeg")
        with pytest.raises(MissingPackage, match="encode_jpeg"):
            feature.encode_example(np.zeros((2, 2, 3), np.uint8))
    monkeypatch.setattr(cifar, "_load_data", lambda *_: cifar.tf.image.decode_png("x"))
    tree_tfds.cifar10(tmp_path)
    with pytest.raises(DataError) as error:
        prepare(
            "cifar10",
            data_dir=str(tmp_path / "data"),
            source=str(tmp_path),
            verify=False,
        )
    assert "takes tf.image of tensorflow" in str(error.value)
    assert "pip install tensorflow" in str(error.value)


def test_nus_wide_is_got_by_hand(tmp_path):
    with pytest.raises(DataError, match=r"--from: found none.*by hand.*ImageList"):
        prepare("nus_wide/top21", data_dir=str(tmp_path))


# Original files.


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(
        DataError, match=r"found no cifar-10-binary\.tar\.gz in .*toronto"
    ):
        prepare("cifar10", data_dir=str(tmp_path / "data"), source=str(tmp_path))
    with pytest.raises(DataError, match=r"--from: found no directory /nowhere"):
        prepare("cifar10", data_dir=str(tmp_path / "data"), source="/nowhere")
    assert left_over(tmp_path) == []


def test_file_of_another_size_or_digest(tmp_path):
    tree_tfds.cifar10(tmp_path)
    archive = tmp_path / "cifar-10-binary.tar.gz"
    with pytest.raises(DataError) as error:
        prepare("cifar10", data_dir=str(tmp_path / "data"), source=str(tmp_path))
    found = archive.stat().st_size
    assert f"{archive}: found {found} bytes, expected 170052171" in str(error.value)
    with archive.open("r+b") as file:
        file.truncate(170052171)
    with pytest.raises(DataError, match=r"found sha256 .*, expected c4a38c50a1bc5f3a"):
        prepare("cifar10", data_dir=str(tmp_path / "data"), source=str(tmp_path))


@pytest.mark.parametrize("damage", ["cut", "noise"])
def test_damaged_archive(tmp_path, damage):
    tree_tfds.cifar10(tmp_path)
    archive = tmp_path / "cifar-10-binary.tar.gz"
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2] if damage == "cut" else b"x" * 999)
    with pytest.raises(DataError) as error:
        prepare(
            "cifar10",
            data_dir=str(tmp_path / "data"),
            source=str(tmp_path),
            verify=False,
        )
    assert f"{archive}: found a damaged archive" in str(error.value)
    assert "\n" not in str(error.value)
    assert left_over(tmp_path / "data") == []


def test_archive_with_other_content(tmp_path):
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("something"), io.BytesIO())
    with pytest.raises(DataError, match=r"cannot prepare \(FileNotFoundError"):
        prepare(
            "cifar10",
            data_dir=str(tmp_path / "data"),
            source=str(tmp_path),
            verify=False,
        )
    assert left_over(tmp_path / "data") == []


def test_archive_cannot_write_elsewhere(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../../evil"), io.BytesIO())
    with pytest.raises(DataError, match="found a damaged archive"):
        local(tmp_path, {}).extract(tmp_path / "x.tar")
    assert not (tmp_path.parent / "evil").exists()


def local(source: Path | None, known, **options) -> Archives:
    root = source or options.pop("root")
    (root / "extracted").mkdir(exist_ok=True)
    return Archives(
        "name",
        download_dir=root / "downloads",
        extract_dir=root / "extracted",
        source=source,
        known=known,
        verify=options.get("verify", True),
        progress=False,
    )


def test_archive_members_in_any_order(tmp_path):
    members = {"b/2.jpg": b"two", "a/1.jpg": b"one", "a/._1.jpg": b"hidden"}
    tree_tfds._tar(tmp_path / "x.tgz", members)
    found = list(local(tmp_path, {}).iter_archive(tmp_path / "x.tgz"))
    assert [name for name, _ in found] == ["a/1.jpg", "b/2.jpg"]
    assert [file.read() for _, file in reversed(found)] == [b"two", b"one"]


def test_urls_are_mapped_by_the_name_that_is_known(tmp_path):
    (tmp_path / "real.bin").write_bytes(b"abc")
    url = "http://nowhere.invalid/x.tgz?download=1"
    archives = local(tmp_path, {url: known_of(b"abc", "real.bin")})
    found = archives.download({"a": [url]})
    assert os.fspath(found["a"][0]) == str(tmp_path / "real.bin")
    assert archives.downloaded_size == 3
    with pytest.raises(DataError, match=r"found no x\.tgz"):
        local(tmp_path, {}).download(url)


# Downloads.


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, in ranges too, and remembers what was asked for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.asked: list[tuple[str, str | None]] = []
        self.cut = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content) // 2 if self.server.cut else len(content)
        self.wfile.write(content[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server({}) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_download_goes_on_where_it_was_cut(tmp_path, server):
    content = np.random.default_rng(0).bytes(3_000_000)
    server.files["/x.bin"] = content
    url = f"{server.url}/x.bin"
    server.cut = True
    known = {url: known_of(content)}
    with pytest.raises(DataError, match=r"cannot download .*x\.bin .*--from DIR"):
        local(None, known, root=tmp_path).download(url)
    assert not (tmp_path / "downloads" / "x.bin").exists()
    server.cut = False
    path = local(None, known, root=tmp_path).download(url)
    assert Path(path).read_bytes() == content
    (_, first), (_, second) = server.asked
    assert first is None
    assert second is not None and 0 < int(second[6:-1]) <= len(content) // 2
    local(None, known, root=tmp_path).download(url)
    assert len(server.asked) == 2
    assert [p.name for p in (tmp_path / "downloads").iterdir()] == ["x.bin"]


def test_download_of_something_else_is_thrown_away(tmp_path, server):
    server.files["/x.bin"] = b"<html>please log in</html>"
    url = f"{server.url}/x.bin"
    with pytest.raises(DataError, match=r"found 26 bytes, expected 3.*--from DIR"):
        local(None, {url: known_of(b"abc")}, root=tmp_path).download(url)
    assert list((tmp_path / "downloads").iterdir()) == []


def test_download_that_is_refused(tmp_path, server):
    url = f"{server.url}/gone.bin"
    with pytest.raises(DataError, match=rf"cannot download {url} \(404 .*--from DIR"):
        local(None, {}, root=tmp_path).download(url)


def test_no_internet(tmp_path, monkeypatch):
    import requests

    def fail(*_, **__):
        raise requests.ConnectionError("Temporary failure in name resolution")

    monkeypatch.setattr(requests, "get", fail)
    with pytest.raises(DataError) as error:
        prepare("cifar10", data_dir=str(tmp_path))
    assert str(error.value) == (
        "cifar10: cannot download https://www.cs.toronto.edu/~kriz/cifar-10-binary."
        "tar.gz (Temporary failure in name resolution); download it by hand and run: "
        "ssah prepare cifar10 --from DIR"
    )
    assert left_over(tmp_path) == []


def test_disk_too_small(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(archives_lib.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="found 1000 bytes free, expected 170052171"):
        prepare("cifar10", data_dir=str(tmp_path))


def test_disk_that_fills_up(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "/disk/file")

    monkeypatch.setattr(tarfile.TarFile, "extractall", full)
    tree_tfds.cifar10(tmp_path)
    with pytest.raises(DataError, match="/disk/file: found No space left on device"):
        prepare(
            "cifar10",
            data_dir=str(tmp_path / "data"),
            source=str(tmp_path),
            verify=False,
        )


def test_prepare_from_a_server_and_again_without(tmp_path, server, monkeypatch):
    from tensorflow_datasets.image_classification import cifar

    tree_tfds.cifar10(tmp_path)
    name = "cifar-10-binary.tar.gz"
    server.files[f"/{name}"] = (tmp_path / name).read_bytes()
    info = find_builder("cifar10")._cifar_info._replace(url=f"{server.url}/{name}")
    monkeypatch.setattr(cifar.Cifar10, "_cifar_info", info)
    summary = prepare("cifar10", data_dir=str(tmp_path / "data"))
    assert summary.splits == {"train": 100, "test": 50}
    assert left_over(tmp_path / "data" / "downloads") == [f"cifar10/{name}"]
    for path in summary.directory.iterdir():
        path.unlink()
    summary.directory.rmdir()
    prepare("cifar10", data_dir=str(tmp_path / "data"))
    assert len(server.asked) == 1


# Interruptions.


def test_interrupted_preparation_can_be_repeated(tmp_path, monkeypatch, capsys):
    from tensorflow_datasets.image_classification import cifar

    tree_tfds.cifar10(tmp_path)
    arguments = ["prepare", "cifar10", "--from", str(tmp_path), "--no-verify"]
    arguments += ["--data-dir", str(tmp_path / "data")]
    load_data = cifar._load_data

    def interrupted(path, *_):
        yield from list(load_data(path))[:5]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cifar, "_load_data", interrupted)
        assert commands.main(arguments) == 130
    assert left_over(tmp_path / "data") == []
    assert capsys.readouterr().out == ""
    with pytest.raises(DataError, match="found no prepared data"):
        tfds_source("cifar10", data_dir=str(tmp_path / "data"))
    assert commands.main(arguments) == 0
    assert "prepared cifar10 3.0.2 (train 100, test 50)" in capsys.readouterr().out
    assert commands.main(arguments) == 0
    assert capsys.readouterr().out == (
        f"already prepared: {tmp_path}/data/cifar10/3.0.2\n"
    )


def test_leftovers_of_a_killed_process_are_cleared(tmp_path):
    tree_tfds.cifar10(tmp_path)
    data = tmp_path / "data"
    for left in ("downloads/cifar10/extracted.abc", "cifar10/incomplete.AB_3.0.2"):
        (data / left).mkdir(parents=True)
        (data / left / "file").write_text("x")
    prepare("cifar10", data_dir=str(data), source=str(tmp_path), verify=False)
    assert [p.name for p in (data / "cifar10").iterdir()] == ["3.0.2"]
    assert [p.name for p in (data / "downloads/cifar10").iterdir()] == [".lock"]


def test_two_at_once(tmp_path):
    lock = tmp_path / "data" / "downloads" / "cifar10" / ".lock"
    lock.parent.mkdir(parents=True)
    tree_tfds.cifar10(tmp_path)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)  # keeps out only those who want it alone
        with pytest.raises(DataError, match="found another process preparing cifar10"):
            prepare("cifar10", data_dir=str(tmp_path / "data"), source=str(tmp_path))


def test_directory_that_is_no_data_set(tmp_path):
    tree_tfds.cifar10(tmp_path)
    (tmp_path / "data" / "cifar10" / "3.0.2").mkdir(parents=True)
    with pytest.raises(DataError, match=r"without dataset_info\.json"):
        prepare("cifar10", data_dir=str(tmp_path / "data"), source=str(tmp_path))


def test_an_interrupt_that_is_swallowed_comes_again(monkeypatch):
    swallowed = []

    def busy(arguments):
        # As in a callback of the garbage collector.
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            swallowed.append(True)
        for _ in range(500):
            time.sleep(0.01)
        return 0

    monkeypatch.setattr(commands, "_run", busy)
    monkeypatch.setattr(commands, "_INSISTENCE", 0.05)
    before = signal.getsignal(signal.SIGINT)
    assert commands.main([]) == 130
    assert swallowed == [True]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_killed_processes(tmp_path):
    """fashion_mnist, as TFDS fixes its 70,000 images, so that there is time to kill."""
    tree_tfds.fashion_mnist(tmp_path)
    data = tmp_path / "data"
    script = "import sys; from ssah_jax.cli import main; sys.exit(main())"
    arguments = ["prepare", "fashion_mnist", "--from", str(tmp_path), "--no-verify"]
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    command += ["--data-dir", str(data)]
    for number, status in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            while not list(data.glob("fashion_mnist/incomplete.*")):
                assert process.poll() is None
                time.sleep(0.01)
            time.sleep(0.5)
            process.send_signal(number)
            out, err = process.communicate()
        assert process.returncode == status
        assert out == ""
        if number == signal.SIGINT:
            assert err == "interrupted\n"
            assert left_over(data) == []
    assert list(data.glob("fashion_mnist/incomplete.*"))
    summary = prepare(
        "fashion_mnist", data_dir=str(data), source=str(tmp_path), verify=False
    )
    assert summary.splits == {"train": 60_000, "test": 10_000}
    assert not list(data.glob("fashion_mnist/incomplete.*"))
    source = tfds_source("fashion_mnist", data_dir=str(data), channels=1)
    assert source.images.shape == (70_000, 28, 28, 1)
    assert source.class_names[9] == "Ankle boot"
    assert source.labels.sum(axis=0).tolist() == [7000] * 10


# The command.


def test_names_are_listed(capsys):
    assert commands.main(["prepare"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == list(KNOWN)
    for name in KNOWN:
        find_builder(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "cifar11"], "cifar11: found no data set"),
        (["prepare", "cifar10", "--form", "x"], "unrecognized arguments: --form"),
        (["prepear"], "invalid choice: 'prepear'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, arguments, message):
    assert commands.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    assert message in err


def test_defects_keep_their_traceback(monkeypatch):
    from ssah_jax.cli import prepare as command

    def defect(options):
        raise ValueError("a defect of ours")

    monkeypatch.setattr(command, "run", defect)
    with pytest.raises(ValueError, match="a defect"):
        commands.main(["prepare", "cifar10"])


def test_help_loads_no_data_code():
    script = (
        "import sys; from ssah_jax.cli import main; status = main(['--help']); "
        "print([m for m in sys.modules if m.startswith('tensorflow') or "
        "m.startswith('ssah_jax.data')]); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "prepare" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_check_lists_what_cannot_be_decoded(tmp_path, capsys, monkeypatch):
    whole = tree_tfds._jpeg
    count = iter(range(10**6))

    def jpeg(image):
        content = whole(image)
        return content[:300] if next(count) in (3, 200) else content

    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(monkeypatch.context())
        patch.setattr(tree_tfds, "_jpeg", jpeg)
        tree_tfds.stanford_dogs(tmp_path, train_per_class=1, test_per_class=1)
    arguments = ["prepare", "stanford_dogs", "--from", str(tmp_path), "--no-verify"]
    arguments += ["--data-dir", str(tmp_path / "data"), "--check"]
    assert commands.main(arguments) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("prepared stanford_dogs 0.2.0 (train 120, test 120)")
    assert len(lines) == 4
    assert lines[1].startswith("stanford_dogs/train/0000")
    assert lines[2].startswith("stanford_dogs/test/000")
    assert lines[3] == "checked 240 images: 2 unreadable"
    builder = find_builder("stanford_dogs", data_dir=str(tmp_path / "data"))
    images = open_images(builder, name="stanford_dogs", size=8)
    with pytest.raises(DataError):
        images[int(lines[1].split("/")[2][:6])]


def test_check_of_sound_images(tmp_path):
    with pytest.raises(DataError, match="found no prepared data"):
        unreadable_images("cifar10", data_dir=str(tmp_path))
    tree_tfds.cifar10(tmp_path, num_train=10, num_test=10)
    arguments = ["prepare", "cifar10", "--from", str(tmp_path), "--no-verify"]
    arguments += ["--data-dir", str(tmp_path), "--check"]
    assert commands.main(arguments) == 0
    assert unreadable_images("cifar10", data_dir=str(tmp_path)) == []
