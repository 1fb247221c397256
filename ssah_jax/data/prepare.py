"""Prepares image sets of TensorFlow Datasets for training, without TensorFlow."""

import contextlib
import dataclasses
import errno
import fcntl
import io
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tqdm

from ssah_jax.data.archives import Archives
from ssah_jax.data.source import DataError
from ssah_jax.data.tensorflow_free import MissingPackage, tensorflow_free
from ssah_jax.data.tfds import find_builder, is_prepared, open_images

KNOWN = {
    "cifar10": "60,000 images of 32x32, 10 classes; 170 MB to download",
    "cifar100": "60,000 images of 32x32, 100 classes or 20; 169 MB to download",
    "caltech_birds2011": "CUB-200-2011: 11,788 birds, 200 species; 1.2 GB to download",
    "stanford_dogs": "20,580 dogs, 120 breeds; 817 MB to download",
    "fashion_mnist": "70,000 grey images of 28x28, 10 classes; 31 MB to download",
    "nus_wide/top21": "NUS-WIDE, 21 labels; got by hand, then --from DIR",
    "nus_wide/all81": "NUS-WIDE, 81 labels; got by hand, then --from DIR",
}
"""Data sets that this project trains on: name, and what it is."""

_CHECK_SIZE = 32
_LONGEST_REASON = 200


@dataclasses.dataclass(frozen=True)
class PreparedSummary:
    """A data set that is ready.

    Attributes:
        name: it was asked for by.
        version: such as `3.0.2`.
        splits: number of images, at least 1, by split.
        directory: with its records.
        seconds: it took; 0 where it was there already.
        was_prepared: whether it was there already.
    """

    name: str
    version: str
    splits: Mapping[str, int]
    directory: Path
    seconds: float
    was_prepared: bool


def prepare(
    name: str,
    *,
    data_dir: str = "",
    source: str = "",
    verify: bool = True,
    progress: bool = True,
) -> PreparedSummary:
    """Downloads a data set and writes it as ArrayRecord files.

    A data set appears in its directory only when it is complete. What was downloaded
    before an interruption is not downloaded again.

    Args:
        name: as in `ssah_jax.data.tfds.tfds_source`; `KNOWN` has some.
        data_dir: directory of TFDS's data; "" takes TFDS's own.
        source: directory with the original files under their original names; ""
            downloads them to `DATA_DIR/downloads/NAME`.
        verify: whether the files must be those that TFDS knows, by size and sha256.
        progress: whether to show progress bars on a terminal.

    Returns:
        What there is now.

    Raises:
        DataError: no such data set, or its files cannot be got, are not the right
            ones, or cannot be read.
        KeyboardInterrupt: the user had enough; nothing half-done is left.
    """
    start = time.monotonic()
    builder = find_builder(name, data_dir=data_dir)
    if is_prepared(builder):
        return _summary(builder, name=name, seconds=0.0, was_prepared=True)
    original = Path(source).expanduser() if source else None
    if original is not None and not original.is_dir():
        raise DataError(f"--from: found no directory {source}, expected one")
    if original is None and builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        raise DataError(
            f"--from: found none, but {name} must be got by hand: "
            f"{' '.join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())}"
        )
    downloads = Path(builder.data_dir_root) / "downloads" / builder.name
    with (
        _translated(name, downloads),
        _sole_worker(downloads, builder),
        tempfile.TemporaryDirectory(dir=downloads, prefix="extracted.") as extracted,
    ):
        if not is_prepared(builder):  # else another process was faster
            archives = Archives(
                name,
                download_dir=downloads,
                extract_dir=Path(extracted),
                source=original,
                known=builder.url_infos or {},
                verify=verify,
                progress=progress and sys.stderr.isatty(),
            )
            _write(builder, archives, progress=progress and sys.stderr.isatty())
    # What was written is read back by a builder that knows nothing of the writing.
    return _summary(
        find_builder(name, data_dir=data_dir),
        name=name,
        seconds=time.monotonic() - start,
        was_prepared=False,
    )


def unreadable_images(
    name: str, *, data_dir: str = "", progress: bool = True
) -> list[str]:
    """Decodes every image of a prepared data set once.

    Args:
        name: as in `prepare`.
        data_dir: as in `prepare`.
        progress: as in `prepare`.

    Returns:
        One line for each image that cannot be decoded.

    Raises:
        DataError: the data set is not prepared.
    """
    builder = find_builder(name, data_dir=data_dir)
    if not is_prepared(builder):
        raise DataError(
            f"{name}: found no prepared data in {builder.data_dir}, expected some"
        )
    # A size, as images need not have one shape to be sound.
    images = open_images(builder, name=name, size=_CHECK_SIZE)
    bad = []
    for index in tqdm.trange(
        len(images),
        desc=f"Checking {name}",
        unit=" images",
        file=sys.stderr,
        disable=not (progress and sys.stderr.isatty()),
    ):
        try:
            images[index]
        except DataError as error:
            bad.append(str(error))
    return bad


def _write(builder: Any, archives: Archives, *, progress: bool) -> None:
    """Have TFDS write the data set, given its files."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.utils import tqdm_utils

    if builder.data_path.exists():  # TFDS would take it for a complete one
        raise DataError(
            f"{builder.data_dir}: found a directory without dataset_info.json, "
            "expected none or a complete data set; delete it and try again"
        )
    was_shown = tqdm_utils._active
    tfds.display_progress_bar(progress)
    builder._make_download_manager = lambda **_: archives
    try:
        # TFDS prints where it is; standard output is for our summary.
        with tensorflow_free(builder), contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(
                file_format="array_record",
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
            )
    finally:
        tfds.display_progress_bar(was_shown)


@contextlib.contextmanager
def _sole_worker(downloads: Path, builder: Any) -> Iterator[None]:
    """Hold the lock of a data set, and clear away what a killed process left.

    The operating system drops the lock with the process that holds it.
    """
    downloads.mkdir(parents=True, exist_ok=True)
    with (downloads / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"{downloads}: found another process preparing {builder.name}, "
                "expected to be alone; try again when it has ended"
            ) from None
        version = Path(builder.data_dir)
        for left in [
            *downloads.glob("extracted.*"),
            *version.parent.glob(f"incomplete.*_{version.name}"),
        ]:
            shutil.rmtree(left, ignore_errors=True)
        yield


@contextlib.contextmanager
def _translated(name: str, downloads: Path) -> Iterator[None]:
    """Say in one line what stops a builder: its files, the disk, or a package."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        chain = list(_causes(error))
        for cause in chain:
            if isinstance(cause, DataError):
                raise cause from error
        package = next((c for c in chain if isinstance(c, ImportError)), None)
        if package is not None:
            raise DataError(f"{name}: {_needed(package)}") from error
        for cause in chain:
            if isinstance(cause, OSError) and cause.errno in _FATAL:
                raise DataError(
                    f"{cause.filename or downloads}: found {cause.strerror}, "
                    "expected a place to write to with enough space"
                ) from error
        reason = textwrap.shorten(str(error), _LONGEST_REASON)
        raise DataError(
            f"{name}: found files that TensorFlow Datasets cannot prepare "
            f"({type(error).__name__}: {reason}), expected the original ones"
        ) from error


_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _needed(error: ImportError) -> str:
    if isinstance(error, MissingPackage):
        return (
            f"found that preparing it takes {error}; prepare it with TensorFlow: pip "
            "install tensorflow, then tfds build NAME --file_format=array_record"
        )
    package = error.name or " ".join(str(error).split())
    return f"found that preparing it takes the package {package}, run: pip install it"


def _summary(
    builder: Any, *, name: str, seconds: float, was_prepared: bool
) -> PreparedSummary:
    return PreparedSummary(
        name=name,
        version=str(builder.version),
        splits={str(k): int(v.num_examples) for k, v in builder.info.splits.items()},
        directory=Path(builder.data_dir),
        seconds=seconds,
        was_prepared=was_prepared,
    )
