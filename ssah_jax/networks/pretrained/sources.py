"""Where weights come from: a hub, a URL, or this machine's disk."""

import hashlib
import os
import re
import tempfile
import urllib.parse
from pathlib import Path
from typing import Final

import tqdm

from ssah_jax.networks.weight_tables import WeightsError

TORCHVISION: Final = {
    "alexnet": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "vgg16": "https://download.pytorch.org/models/vgg16-397923af.pth",
    "resnet18": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
    "resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    "resnet50.IMAGENET1K_V2": (
        "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"
    ),
}
"""URLs of torchvision's weights, by its names; without a version, `IMAGENET1K_V1`."""

DEFAULT_FILE: Final = "model.safetensors"
"""What a directory or a repository of a hub is expected to hold."""

_BLOCK: Final = 1 << 20
_TIMEOUT: Final = 30.0
_FORMS: Final = (
    "accepted are hf:OWNER/NAME[@REVISION][:FILE], torchvision:NAME, "
    "https://HOST/NAME-SHA256.pth and what is on this machine"
)
_HUB: Final = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^:@]+))?(?::(?P<file>.+))?"
)
_HASHED: Final = re.compile(r".*-(?P<sha256>[0-9a-f]{8,64})\.\w+")


def locate(spec: str) -> Path:
    """The file that `spec` means, downloaded if it is not on this machine yet.

    What was downloaded once is there without internet: from a hub in
    huggingface_hub's own cache (the environment's `HF_HOME`), from URLs in
    `cache_dir()`.

    Args:
        spec: `hf:OWNER/NAME[@REVISION][:FILE]` for a file of a repository of the
            Hugging Face hub, `model.safetensors` by default; `torchvision:NAME` with
            a name of `TORCHVISION`; a URL whose file name ends, as torchvision's do,
            with the first 8 to 64 digits of its sha256; or a file or directory.

    Returns:
        An existing file; for a directory its `model.safetensors` if it has one, and
        otherwise the directory.

    Raises:
        WeightsError: `spec` is none of these, or cannot be found, downloaded or
            verified.
    """
    scheme, _, rest = spec.partition(":")
    if scheme == "hf":
        return _from_hub(spec, rest)
    if scheme == "torchvision":
        name = rest.removesuffix(".IMAGENET1K_V1")
        if name not in TORCHVISION:
            raise WeightsError(
                f"{spec}: found no such weights, accepted are {', '.join(TORCHVISION)}"
            )
        return _from_url(spec, TORCHVISION[name])
    if scheme in ("http", "https"):
        return _from_url(spec, spec)
    path = Path(spec)
    if not spec or not path.exists():
        raise WeightsError(f"{spec!r}: found no such file, {_FORMS}")
    return path / DEFAULT_FILE if (path / DEFAULT_FILE).is_file() else path


def digest(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file, 64 hexadecimal digits.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(
            f"{os.fspath(path)}: cannot be read ({error.strerror}), accepted is a file"
        ) from error


def cache_dir() -> Path:
    """Where files of URLs are kept, under their own names.

    That is the environment's `SSAH_CACHE`, or `ssah_jax` in its `XDG_CACHE_HOME`, or
    `~/.cache/ssah_jax`. It may be copied to machines without internet.
    """
    given = os.environ.get("SSAH_CACHE")
    if given:
        return Path(given)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "ssah_jax"


def _from_hub(spec: str, name: str) -> Path:
    import huggingface_hub

    parts = _HUB.fullmatch(name)
    if parts is None:
        raise WeightsError(
            f"{spec}: found no repository, accepted is hf:OWNER/NAME[@REVISION][:FILE]"
        )
    try:
        path = Path(
            huggingface_hub.hf_hub_download(
                parts["repo"],
                parts["file"] or DEFAULT_FILE,
                revision=parts["revision"],
            )
        )
    # With the client's own errors come those of the HTTP library below it, which is
    # another one in other versions.
    except Exception as error:
        raise WeightsError(
            f"{spec}: cannot download it ({_reason(error)}); {_beforehand(spec)}"
        ) from error
    # The cache links to files named by the sha256 that the hub told, where it told
    # one; of plain HTTP downloads the client verifies only the size.
    expected = os.path.basename(os.readlink(path)) if path.is_symlink() else ""
    if re.fullmatch("[0-9a-f]{64}", expected) and digest(path) != expected:
        raise WeightsError(
            f"{spec}: found sha256 {digest(path)}, accepted is the hub's {expected}; "
            f"delete {path.resolve()} and try again"
        )
    return path


def _from_url(spec: str, url: str) -> Path:
    name = os.path.basename(urllib.parse.urlparse(url).path)
    hashed = _HASHED.fullmatch(name)
    if hashed is None:
        raise WeightsError(
            f"{spec}: found no sha256 in the file's name, accepted is "
            "NAME-SHA256.pth; download others by hand and give the file"
        )
    path = cache_dir() / name
    # A file that somebody brought here is worth no less than one that we downloaded,
    # and no more.
    if path.is_file() and digest(path).startswith(hashed["sha256"]):
        return path
    _download(spec, url, path, hashed["sha256"])
    return path


def _download(spec: str, url: str, path: Path, sha256: str) -> None:
    """Download `url`; `path` is there afterwards, whole and verified, or untouched."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=path.parent) as folder:
            part = Path(folder) / path.name
            _fetch(url, part)
            found = digest(part)
            if not found.startswith(sha256):
                raise WeightsError(
                    f"{spec}: found sha256 {found} at {url}, accepted is one that "
                    f"begins with {sha256}"
                )
            part.replace(path)
    except OSError as error:  # Those of requests are, too.
        raise WeightsError(
            f"{spec}: cannot download {url} ({_reason(error)}); {_beforehand(spec)}"
        ) from error


def _fetch(url: str, path: Path) -> None:
    import requests

    # Bytes as they are stored: no compression on the way, which would be undone.
    headers = {"Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        response.raise_for_status()
        size = int(response.headers.get("Content-Length", 0))
        with (
            path.open("wb") as file,
            tqdm.tqdm(
                desc=path.name,
                total=size or None,
                unit="B",
                unit_scale=True,
                # Only on terminals.
                disable=None,
            ) as bar,
        ):
            for block in response.iter_content(_BLOCK):
                file.write(block)
                bar.update(len(block))


def _beforehand(spec: str) -> str:
    return (
        f"without internet, run `ssah weights {spec} --out FILE` on another machine "
        "and give FILE"
    )


def _reason(error: BaseException) -> str:
    """The innermost cause in a few words."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return " ".join(str(error).split())[:200] or type(error).__name__
