"""Weights from a hub and from URLs: where they are kept, and what is told."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.numpy
from commands import ROOT, environment
from file_server import Server, serving
from weight_files import FLOATS, complaint, written

from ssah_jax.networks.pretrained import (
    TORCHVISION,
    cache_dir,
    digest,
    locate,
)

# Where weights are.


def test_local_files_and_directories(tmp_path):
    file = written(tmp_path, b"x", "weights.pth")
    assert locate(str(file)) == file
    assert locate(str(tmp_path)) == tmp_path
    inside = written(tmp_path, b"x", "model.safetensors")
    assert locate(str(tmp_path)) == inside
    assert digest(file) == hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize("spec", ["", "lost.pth", "ftp://host/x-01234567.pth", "a:b"])
def test_what_is_nowhere_is_told(spec):
    text = complaint(locate, spec)
    assert text.startswith(f"{spec!r}: found no such file, accepted are hf:OWNER/")


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "cache" / "ssah"
    monkeypatch.setenv("SSAH_CACHE", str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


def test_where_downloads_are_kept(tmp_path, monkeypatch):
    monkeypatch.delenv("SSAH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert cache_dir() == tmp_path / "c" / "ssah_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "ssah_jax"
    monkeypatch.setenv("SSAH_CACHE", str(tmp_path / "s"))
    assert cache_dir() == tmp_path / "s"


CONTENT = os.urandom(3 << 20)


NAME = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


def test_urls_are_downloaded_once(server, cache):
    server.files[NAME] = CONTENT
    path = locate(server.url(NAME))
    assert path == cache / NAME and path.read_bytes() == CONTENT
    assert locate(server.url(NAME) + "?x=1") == path
    assert len(server.asked) == 1
    assert os.listdir(cache) == [NAME]
    # One that was damaged since, or brought here half, is downloaded again.
    path.write_bytes(CONTENT[:100])
    assert locate(server.url(NAME)).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_another_file_than_expected_is_not_kept(server, cache):
    server.files[NAME] = CONTENT[:-1] + b"x"
    text = complaint(locate, server.url(NAME))
    assert "found sha256 " in text and f"begins with {NAME[4:12]}" in text
    assert os.listdir(cache) == []
    path = written(cache, b"mine", NAME)
    complaint(locate, server.url(NAME))
    assert path.read_bytes() == b"mine"
    assert os.listdir(cache) == [NAME]


def test_interrupted_downloads_are_not_kept(server, cache, monkeypatch):
    server.files[NAME] = CONTENT
    server.cut = True
    text = complaint(locate, server.url(NAME))
    assert f"cannot download {server.url(NAME)} (" in text
    assert "`ssah weights" in text and "on another machine" in text
    assert os.listdir(cache) == []
    server.cut = False
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("tqdm.tqdm.update", interrupt)
        locate(server.url(NAME))
    assert os.listdir(cache) == []


def interrupt(*_):
    raise KeyboardInterrupt


def test_urls_that_cannot_be_had_are_told(server, cache):
    assert "404" in complaint(locate, server.url("lost-01234567.pth"))
    for name in ("net.pth", "net-0123456.pth", "net-0123456x.pth", ""):
        text = complaint(locate, server.url(name))
        assert "found no sha256 in the file's name" in text
    cache.rmdir()
    cache.write_bytes(b"no folder")
    assert "cannot download" in complaint(locate, server.url(NAME))


def test_nobody_listens(cache):
    with Server() as closed:
        url = closed.url(NAME)
    text = complaint(locate, url)
    assert "refused" in text and "without internet" in text


def test_names_of_torchvision(server, cache, monkeypatch):
    server.files[NAME] = CONTENT
    monkeypatch.setitem(TORCHVISION, "resnet18", server.url(NAME))
    assert locate("torchvision:resnet18") == cache / NAME
    assert locate("torchvision:resnet18.IMAGENET1K_V1") == cache / NAME
    text = complaint(locate, "torchvision:resnet9")
    assert (
        "accepted are alexnet, vgg16, resnet18, resnet50, resnet50.IMAGENET1K_V2"
        in (text)
    )


@pytest.mark.parametrize(
    ("spec", "repo", "revision", "file"),
    [
        (
            "hf:timm/resnet50.a1_in1k",
            "timm/resnet50.a1_in1k",
            None,
            "model.safetensors",
        ),
        ("hf:a/b@v1.0", "a/b", "v1.0", "model.safetensors"),
        ("hf:a/b:sub/x.bin", "a/b", None, "sub/x.bin"),
        ("hf:a-b/c_d@refs/pr/1:x.pth", "a-b/c_d", "refs/pr/1", "x.pth"),
    ],
)
def test_files_of_the_hub(tmp_path, monkeypatch, spec, repo, revision, file):
    path = written(tmp_path, b"x")

    def hf_hub_download(repo_id, filename, *, revision):
        asked.append((repo_id, revision, filename))
        return str(path)

    asked = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    assert locate(spec) == path
    assert asked == [(repo, revision, file)]


@pytest.mark.parametrize("spec", ["hf:", "hf:timm", "hf:a/b/c", "hf:a/b@", "hf:a/b:"])
def test_what_is_no_repository_is_told(spec):
    text = complaint(locate, spec)
    assert text.startswith(f"{spec}: found no repository, accepted is hf:OWNER/")


def test_errors_of_the_hub_are_one_line(monkeypatch):
    def hf_hub_download(*_, **__):
        try:
            raise RuntimeError("no route\n\nto host")
        except RuntimeError as error:
            raise OSError("long\nstory") from error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    text = complaint(locate, "hf:a/b")
    assert "hf:a/b: cannot download it (no route to host); without internet" in text
    assert "`ssah weights hf:a/b --out FILE`" in text


def hub_cache(folder: Path, content: bytes, *, sha256: str = "") -> Path:
    """A cache as huggingface_hub leaves it, with one file of one repository."""
    commit = "0123456789" * 4
    repository = folder / "models--timm--tiny"
    snapshot = repository / "snapshots" / commit / "model.safetensors"
    blob = repository / "blobs" / (sha256 or hashlib.sha256(content).hexdigest())
    for path in (snapshot, blob, repository / "refs" / "main"):
        path.parent.mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    blob.write_bytes(content)
    snapshot.symlink_to(os.path.relpath(blob, snapshot.parent))
    return snapshot


def offline(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """`ssah weights` on a machine without internet."""
    variables = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder)}
    code = "import sys; from ssah_jax.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, "weights", *arguments],
        env=environment() | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_the_hubs_cache_serves_without_internet(tmp_path):
    content = safetensors.numpy.save({"x": FLOATS, "bn.running_mean": FLOATS[:2]})
    path = hub_cache(tmp_path / "hub", content)
    status, out, err = offline(tmp_path / "hub", "hf:timm/tiny")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"file        {path}",
        f"sha256      {hashlib.sha256(content).hexdigest()}",
        "tensors     2 (2 float32)",
        "parameters  6 (and 2 statistics)",
    ]
    status, out, err = offline(tmp_path / "hub", "hf:timm/tiny@main:other.bin")
    assert (status, out) == (2, "")
    assert err.startswith("error: hf:timm/tiny@main:other.bin: cannot download it (")
    assert "`ssah weights hf:timm/tiny@main:other.bin --out FILE`" in err
    assert err.count("\n") == 1


def test_another_file_than_the_hubs_is_told(tmp_path, monkeypatch):
    path = hub_cache(tmp_path / "hub", b"x", sha256="0" * 64)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(path))
    text = complaint(locate, "hf:timm/tiny")
    assert f"accepted is the hub's {'0' * 64}; delete {path.resolve()}" in text
    # Small files have a name of git's, which is no sha256 of theirs.
    shutil.rmtree(tmp_path / "hub")
    path = hub_cache(tmp_path / "hub", b"x", sha256="0" * 40)
    assert locate("hf:timm/tiny") == path
