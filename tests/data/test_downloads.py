"""Files that `ssah prepare` needs: found, checked, downloaded, gone on with."""

import dataclasses
import hashlib
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tree_tfds
from file_server import serving
from tree_tfds import left_over

from ssah_jax.data import archives as archives_lib
from ssah_jax.data.archives import Archives
from ssah_jax.data.prepare import prepare
from ssah_jax.data.source import DataError
from ssah_jax.data.tfds import find_builder


@dataclasses.dataclass
class Known:
    """As TFDS's `UrlInfo`."""

    size: int
    checksum: str
    filename: str | None = None


def known_of(content: bytes, filename: str | None = None) -> Known:
    return Known(len(content), hashlib.sha256(content).hexdigest(), filename)


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


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as running:
        yield running


def test_download_goes_on_where_it_was_cut(tmp_path, server):
    content = np.random.default_rng(0).bytes(3_000_000)
    server.files["x.bin"] = content
    url = server.url("x.bin")
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
    server.files["x.bin"] = b"<html>please log in</html>"
    url = server.url("x.bin")
    with pytest.raises(DataError, match=r"found 26 bytes, expected 3.*--from DIR"):
        local(None, {url: known_of(b"abc")}, root=tmp_path).download(url)
    assert list((tmp_path / "downloads").iterdir()) == []


def test_download_that_is_refused(tmp_path, server):
    url = server.url("gone.bin")
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
    server.files[name] = (tmp_path / name).read_bytes()
    info = find_builder("cifar10")._cifar_info._replace(url=server.url(name))
    monkeypatch.setattr(cifar.Cifar10, "_cifar_info", info)
    summary = prepare("cifar10", data_dir=str(tmp_path / "data"))
    assert summary.splits == {"train": 100, "test": 50}
    assert left_over(tmp_path / "data" / "downloads") == [f"cifar10/{name}"]
    for path in summary.directory.iterdir():
        path.unlink()
    summary.directory.rmdir()
    prepare("cifar10", data_dir=str(tmp_path / "data"))
    assert len(server.asked) == 1
