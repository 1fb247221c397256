"""The files that a builder of TFDS asks for: found, downloaded, verified, extracted."""

import bz2
import errno
import gzip
import hashlib
import os
import shutil
import sys
import tarfile
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tqdm

from ssah_jax.data.source import DataError

_BLOCK = 1 << 20
_TIMEOUT = 30.0
_DAMAGED = (
    *(EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error),
    *(gzip.BadGzipFile, shutil.ReadError),
)


class Archives:
    """What TFDS calls a download manager, for local files and plain downloads.

    TFDS's own needs TensorFlow, names downloads by digests, and takes an extracted
    archive for the new one where both have the same name. This one keeps downloads
    under their original names, so that their directory serves as a `source` too.
    """

    def __init__(
        self,
        name: str,
        *,
        download_dir: Path,
        extract_dir: Path,
        source: Path | None,
        known: Mapping[str, Any],
        verify: bool,
        progress: bool,
    ) -> None:
        """Downloads nothing yet.

        Args:
            name: of the data set, for messages.
            download_dir: where downloads are kept.
            extract_dir: where archives are extracted; the caller deletes it.
            source: directory that holds the original files; None downloads them.
            known: size, sha256 and file name of URLs (TFDS's `UrlInfo`).
            verify: whether sizes and sha256 must be those of `known`.
            progress: whether to show a progress bar.
        """
        self._name = name
        self._download_dir = download_dir
        self._extract_dir = extract_dir
        self._source = source
        self._known = known
        self._verify = verify
        self._progress = progress
        self._files: dict[str, Path] = {}
        self._extracted: dict[Path, Path] = {}

    # What builders use.

    @property
    def manual_dir(self) -> Any:
        """The directory with what the user brings along."""
        if self._source is None:
            raise DataError(
                f"{self._name}: --from: found none, accepted is a directory"
            )
        return _path(self._source)

    @property
    def download_dir(self) -> Any:
        """Where downloads are kept."""
        return _path(self._download_dir)

    @property
    def downloaded_size(self) -> int:
        """Bytes of all files that were asked for."""
        return sum(path.stat().st_size for path in self._files.values())

    def download(self, urls: Any) -> Any:
        """Paths of the files of `urls`, a URL or a tree of them, in the same shape."""
        return _mapped(self._located, urls)

    def extract(self, paths: Any) -> Any:
        """Paths of what the archives hold: a directory, or a file for .gz and .bz2."""
        return _mapped(self._extracted_from, paths)

    def download_and_extract(self, urls: Any) -> Any:
        """`extract(download(urls))`."""
        return self.extract(self.download(urls))

    def iter_archive(self, archive: Any) -> Iterator[tuple[str, "_LazyFile"]]:
        """Name and file of each member, sorted by name.

        The files may be read in any order, and after the iterator has ended: builders
        do both.
        """
        root = Path(self._extracted_from(archive))
        for path in sorted(root.rglob("*")):
            if path.is_file():
                yield path.relative_to(root).as_posix(), _LazyFile(path)

    # How it is done.

    def _located(self, resource: Any) -> Any:
        url = resource if isinstance(resource, str) else resource.url
        if url not in self._files:
            info = self._known.get(url)
            name = (info and info.filename) or _file_name(url)
            if self._source is not None:
                path = self._source / name
                if not path.is_file():
                    raise DataError(
                        f"{self._name}: found no {name} in {self._source}, expected "
                        f"the file of {url}"
                    )
                self._check(path, info)
            else:
                path = self._download_dir / name
                if not path.is_file():
                    self._fetch(url, path, info)
            self._files[url] = path
        return _path(self._files[url])

    def _check(self, path: Path, info: Any) -> None:
        """Raise DataError if a file is not the one that TFDS knows."""
        if not self._verify or info is None:
            return
        found, expected = path.stat().st_size, int(info.size)
        if found != expected:
            raise DataError(
                f"{path}: found {found} bytes, expected {expected}; "
                "--no-verify takes it all the same"
            )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != info.checksum:
            raise DataError(
                f"{path}: found sha256 {digest}, expected {info.checksum}; "
                "--no-verify takes it all the same"
            )

    def _fetch(self, url: str, path: Path, info: Any) -> None:
        """Download `url` to `path`, on from where an earlier try was interrupted."""
        import requests

        size = int(info.size) if info is not None else 0
        part = path.with_name(path.name + ".part")
        by_hand = f"download it by hand and run: ssah prepare {self._name} --from DIR"
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if size > free:
            raise DataError(
                f"{path.parent}: found {free} bytes free, expected {size} for {url}"
            )
        try:
            self._continue(url, part, size)
        except requests.RequestException as error:
            raise DataError(
                f"{self._name}: cannot download {url} ({_reason(error)}); {by_hand}"
            ) from error
        try:
            self._check(part, info)
        except DataError as error:
            part.unlink()
            raise DataError(f"{url}: {error}; or {by_hand}") from error
        part.replace(path)

    def _continue(self, url: str, part: Path, size: int) -> None:
        import requests

        start = part.stat().st_size if part.exists() else 0
        if size and start >= size:
            return
        headers = {"Range": f"bytes={start}-"} if start else {}
        # Bytes as they are stored: no compression on the way, which would be undone.
        headers["Accept-Encoding"] = "identity"
        with requests.get(
            url, headers=headers, stream=True, timeout=_TIMEOUT
        ) as response:
            if start and response.status_code != requests.codes.partial_content:
                start = 0
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                part.unlink()
                raise requests.HTTPError("interrupted download cannot be continued")
            response.raise_for_status()
            with (
                part.open("ab" if start else "wb") as file,
                tqdm.tqdm(
                    desc=part.stem,
                    total=size or None,
                    initial=start,
                    unit="B",
                    unit_scale=True,
                    disable=not self._progress,
                    file=sys.stderr,
                ) as bar,
            ):
                for block in response.iter_content(_BLOCK):
                    file.write(block)
                    bar.update(len(block))

    def _extracted_from(self, resource: Any) -> Any:
        from tensorflow_datasets.core.download import resource as resource_lib

        path = Path(getattr(resource, "path", resource))
        method = getattr(resource, "extract_method", None)
        method = method or resource_lib.guess_extract_method(path.name)
        if method == resource_lib.ExtractMethod.NO_EXTRACT:
            return _path(path)
        if path not in self._extracted:
            target = self._extract_dir / f"{len(self._extracted)}_{path.name}"
            try:
                _EXTRACT[method.name.removesuffix("_STREAM")](path, target)
            except _DAMAGED as error:
                raise DataError(
                    f"{path}: found a damaged archive ({_reason(error)}), "
                    "expected a whole one"
                ) from error
            self._extracted[path] = target
        return _path(self._extracted[path])


class _LazyFile:
    """A file that is open only while it is read: an archive may have 100,000."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)

    def read(self) -> bytes:
        with open(self.name, "rb") as file:
            return file.read()


def _extract_tar(path: Path, target: Path) -> None:
    def visible(member: tarfile.TarInfo, to: str) -> tarfile.TarInfo | None:
        # Such as macOS's `._image.jpg`, which is no image.
        if os.path.basename(member.name).startswith("._"):
            return None
        return tarfile.data_filter(member, to)

    with tarfile.open(path) as archive:
        archive.extractall(os.fspath(target), filter=visible)


def _extract_zip(path: Path, target: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        archive.extractall(target)


def _unpacker(open_: Callable[[Path], Any]) -> Callable[[Path, Path], None]:
    def unpack(path: Path, target: Path) -> None:
        with open_(path) as packed, target.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked, _BLOCK)

    return unpack


_EXTRACT = {
    "TAR": _extract_tar,
    "TAR_GZ": _extract_tar,
    "ZIP": _extract_zip,
    "GZIP": _unpacker(gzip.open),
    "BZIP2": _unpacker(bz2.open),
}


def _mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _mapped(function, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_mapped(function, value) for value in tree)
    return function(tree)


def _path(path: Path) -> Any:
    """`path` as builders expect it: etils' kind, which has a few methods more."""
    from etils import epath

    return epath.Path(path)


def _file_name(url: str) -> str:
    return os.path.basename(urllib.parse.urlparse(url).path) or "download"


def _reason(error: BaseException) -> str:
    """The innermost cause on one line, without requests' nested wrapping."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "no space left on the disk"
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return " ".join(str(error).split()) or type(error).__name__
