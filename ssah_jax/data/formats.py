"""Formats of images: which the installed Pillow reads, and what to do about others."""

import contextlib
import functools
from typing import Final

from PIL import Image

_UNREAD: Final = ("EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5")
"""Formats that Pillow names and does not decode, or by an outside program alone."""

HEIC_EXTRA: Final = "pip install 'ssah-jax[heic]'"
"""What reads pictures of phones."""

_HEIC_SUFFIXES: Final = (".heic", ".heif", ".hif", ".heics", ".heifs")

_OTHER_PICTURES: Final = (
    *(".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".srw", ".pef"),
    *(".jxl", ".svg", ".eps", ".ai", ".psb", ".exr", ".hdr", ".xcf", ".djvu", ".pdf"),
    *(".mp4", ".mov", ".avi", ".mkv", ".webm"),
)


@functools.cache
def formats() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Formats that can be told by content, and those that only a suffix tells."""
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.init()
    read = sorted(set(Image.OPEN) - set(_UNREAD))
    by_content = tuple(name for name in read if Image.OPEN[name][1] is not None)
    return by_content, tuple(name for name in read if name not in by_content)


@functools.cache
def image_suffixes() -> tuple[str, ...]:
    """Ends of file names, in lower case, that the installed Pillow reads, sorted.

    Left out are formats that it only writes or names, and EPS, which runs another
    program. HEIC is there where pillow-heif is installed.
    """
    by_content, by_suffix = formats()
    # A JPEG file of several pictures, which the parser of JPEG opens.
    read = {*by_content, *by_suffix, "MPO"}
    extensions = Image.registered_extensions()
    return tuple(sorted(s for s, name in extensions.items() if name in read))


def unread_pictures(suffix: str) -> str:
    """What to do about pictures of a kind that is not read here; empty for others.

    Args:
        suffix: of a file's name, such as ".heic", in any case.
    """
    suffix = suffix.lower()
    if suffix in image_suffixes():
        return ""
    if suffix in _HEIC_SUFFIXES:
        return f"{HEIC_EXTRA} reads them"
    return "convert them" if suffix in _OTHER_PICTURES else ""
