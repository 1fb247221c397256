"""Encoded images on disk, decoded to one shape as they are asked for.

Pillow decodes; this module says what becomes of orientation, transparency, 16 bits and
CMYK, and turns whatever Pillow raises on damaged files into one error.
"""

import contextlib
import functools
import io
import operator
import os
import pathlib
import stat
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, SupportsIndex

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from ssah_jax.data.source import DataError

Resize = Literal["crop", "squash"]
"""How an image becomes square: centre square, or both sides scaled on their own."""

RESIZES: Final = ("crop", "squash")
"""The words of `Resize`."""

_UNREAD: Final = ("EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5")
"""Formats that Pillow names and does not decode, or by an outside program alone."""

_HEIC_EXTRA: Final = "pip install 'ssah-jax[heic]'"
_HEIC_SUFFIXES: Final = (".heic", ".heif", ".hif", ".heics", ".heifs")
_HEIC_BRANDS: Final = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1")

_OTHER_PICTURES: Final = (
    *(".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".srw", ".pef"),
    *(".jxl", ".svg", ".eps", ".ai", ".psb", ".exr", ".hdr", ".xcf", ".djvu", ".pdf"),
    *(".mp4", ".mov", ".avi", ".mkv", ".webm"),
)

MAX_PIXELS: Final = 89_478_485
"""Pixels of the largest image that is decoded; beyond, Pillow warns of a bomb."""


@functools.cache
def _formats() -> tuple[tuple[str, ...], tuple[str, ...]]:
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
    by_content, by_suffix = _formats()
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
        return f"{_HEIC_EXTRA} reads them"
    return "convert them" if suffix in _OTHER_PICTURES else ""


class ImageError(DataError):
    """One image that cannot be used; the message is `NAME: found ..., expected ...`."""


class EncodedImages:
    """Images that are read and decoded when indexed: an `ImageSequence`.

    Safe in several threads where `read` is, and pickled where `read` can be.

    Attributes:
        names: one for each image, for messages and galleries.
    """

    names: Sequence[str]

    def __init__(
        self,
        read: Callable[[int], bytes],
        names: Sequence[str],
        *,
        size: int = 0,
        resize: Resize = "crop",
        channels: int = 3,
    ) -> None:
        """Reads nothing yet.

        Args:
            read: gives the encoded bytes of image 0 .. N - 1.
            names: N names.
            size: side in pixels of the square images delivered; 0 delivers them as
                stored, and then all must have the shape of the first readable one.
            resize: how they become square, as in `decode`.
            channels: 3 for RGB, 1 for grey.

        Raises:
            ValueError: `size`, `resize` or `channels` is none of these.
        """
        _check_options(size=size, resize=resize, channels=channels)
        self.names = names
        self._read = read
        self._size = size
        self._resize: Resize = resize
        self._channels = channels
        self._image_shape = (size, size, channels) if size else None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def __len__(self) -> int:
        """How many images, N."""
        return len(self.names)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, H, W, ch)`; with size 0, decodes the first readable image, once.

        Raises:
            ImageError: size is 0, and no image can be read (the first one's error).
        """
        return (len(self), *self._shape_of_all())

    def __getitem__(self, index: SupportsIndex, /) -> UInt8[np.ndarray, "H W ch"]:
        """Image `index` of 0 .. N - 1, decoded anew: uint8 `[H, W, ch]`.

        Raises:
            ImageError: it cannot be read or decoded, or has not the common shape.
            IndexError: there is no such image.
        """
        index = self._checked(index)
        image = self._decode(index)
        expected = self._shape_of_all()
        if image.shape != expected:
            raise ImageError(
                f"{printable(self.names[index])}: found an image of shape "
                f"{image.shape}, expected {expected} as of the first image (or a size "
                "to bring all images to)"
            )
        return image

    def encoded(self, index: SupportsIndex, /) -> bytes:
        """The bytes of image `index` of 0 .. N - 1 as stored, such as for hashing.

        Raises:
            ImageError: they cannot be read.
            IndexError: there is no such image.
        """
        index = self._checked(index)
        try:
            return self._read(index)
        except DataError:
            raise
        except (OSError, ValueError) as error:
            # ValueError: a name that no file system takes, such as one with a null.
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            raise ImageError(
                f"{printable(self.names[index])}: found that it cannot be read "
                f"({printable(reason)}), expected a readable file"
            ) from error

    def watched(self, note: Callable[[int, bytes], None]) -> "EncodedImages":
        """The same images, telling of each what its bytes are when it is read.

        Args:
            note: takes the image's index and its bytes, in whatever thread reads.
        """
        read = self._read

        def read_and_note(index: int) -> bytes:
            content = read(index)
            note(index, content)
            return content

        watched = EncodedImages.__new__(EncodedImages)
        watched.__setstate__(self.__getstate__() | {"_read": read_and_note})
        return watched

    def _checked(self, index: SupportsIndex) -> int:
        position = operator.index(index)
        if not 0 <= position < len(self):
            raise IndexError(f"index {position} is not in 0 .. {len(self) - 1}")
        return position

    def _decode(self, index: int) -> UInt8[np.ndarray, "H W ch"]:
        return decode(
            self.encoded(index),
            name=self.names[index],
            size=self._size,
            resize=self._resize,
            channels=self._channels,
        )

    def _shape_of_all(self) -> tuple[int, int, int]:
        with self._lock:
            if self._image_shape is None:
                self._image_shape = self._first_shape()
            return self._image_shape

    def _first_shape(self) -> tuple[int, int, int]:
        first_error = None
        for index in range(len(self)):
            try:
                height, width, channels = self._decode(index).shape
            except ImageError as error:
                first_error = first_error or error
            else:
                return height, width, channels
        if first_error is not None:
            raise first_error
        return 0, 0, self._channels


def image_files(
    root: pathlib.Path,
    names: Sequence[str],
    *,
    size: int = 0,
    resize: Resize = "crop",
    channels: int = 3,
) -> EncodedImages:
    """The image files `root / name`, read when indexed.

    Args:
        root: a folder.
        names: paths relative to it, such as those of `finding.find_images`; names that
            are not UTF-8 carry surrogate escapes, as everywhere in Python.
        size: see `EncodedImages`.
        resize: see `EncodedImages`.
        channels: see `EncodedImages`.

    Returns:
        The images, in the order of `names`.
    """
    read = functools.partial(_read_file, root, names)
    return EncodedImages(read, names, size=size, resize=resize, channels=channels)


def _read_file(root: pathlib.Path, names: Sequence[str], index: int) -> bytes:
    path = root / names[index]
    # A pipe or a device could block for ever, or never end.
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("not a regular file")
    return path.read_bytes()


def printable(text: str) -> str:
    """`text` on one line that any UTF-8 terminal takes: the rest as backslash escapes.

    Args:
        text: such as a file's name, with surrogate escapes or line breaks.

    Returns:
        The same text, if all of it was printable.
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def decode(
    content: bytes,
    *,
    name: str,
    size: int = 0,
    resize: Resize = "crop",
    channels: int = 3,
) -> UInt8[np.ndarray, "H W ch"]:
    """Decodes one image.

    The format is told by the content, and by the suffix of `name` only where a format
    has no mark of its own (such as TGA); of an animation or a multi-page file the first
    picture is taken. EXIF's orientation is applied. Transparent pixels
    are laid on white. 16-bit grey is rounded to 8 bits; of 16-bit colour Pillow keeps
    the high byte. CMYK and YCCK become RGB by Pillow's plain formula, and colour
    becomes grey by the luma of ITU-R BT.601. Colour profiles are ignored.

    Resizing is antialiased and bilinear (a triangle as wide as the scale). JPEG is
    decoded at 1/2, 1/4 or 1/8 of its size where twice the wanted one is left.

    Args:
        content: the encoded image.
        name: what messages call it.
        size: side in pixels of the square delivered; 0 keeps the stored size.
        resize: `crop` scales the short side to `size` and takes the centre square;
            `squash` scales both sides to `size`.
        channels: 3 for RGB, 1 for grey.

    Returns:
        The image, uint8 `[H, W, ch]` in 0 .. 255; H = W = `size` if that is not 0.

    Raises:
        ImageError: `content` is no image that Pillow reads, is damaged, cut short, of
            more than `MAX_PIXELS` pixels, or has pixels of more than 16 bits.
        ValueError: `size`, `resize` or `channels` is none of the above.
    """
    _check_options(size=size, resize=resize, channels=channels)
    expected = "a whole image of a kind that Pillow reads"
    if not content:
        raise ImageError(f"{printable(name)}: found an empty file, expected {expected}")
    try:
        with _open(content, name) as image:
            _check_area(image, name)
            orientation = _orientation(image)
            box = _reduce(image, size)
            picture = _eight_bits(image, "RGB" if channels == 3 else "L", name)
            if image.format == "TIFF":
                # Pillow has applied it.
                orientation, box = 1, _whole(picture)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{printable(name)}: found too many pixels ({error}), expected at most "
            f"{MAX_PIXELS}"
        ) from error
    except Image.UnidentifiedImageError as error:
        heic = content[4:8] == b"ftyp" and content[8:12] in _HEIC_BRANDS
        found = (
            f"a HEIC image, which {_HEIC_EXTRA} reads"
            if heic
            else f"no image (it starts with {content[:8]!r})"
        )
        raise ImageError(
            f"{printable(name)}: found {found}, expected {expected}"
        ) from error
    # Broad, as damaged files raise nearly anything in Pillow: SyntaxError,
    # struct.error, MemoryError, KeyError, OSError, zlib.error, ...
    except Exception as error:
        reason = printable(str(error)) or type(error).__name__
        raise ImageError(
            f"{printable(name)}: found a damaged or cut-off image ({reason}), "
            f"expected {expected}"
        ) from error
    if size:
        picture = _as_square(picture, box, size=size, resize=resize)
    # Last, where there is least to move: resizing treats both axes alike.
    if orientation in _TRANSPOSES:
        picture = picture.transpose(_TRANSPOSES[orientation])
    array = np.array(picture, dtype=np.uint8)
    return array.reshape(picture.height, picture.width, channels)


def square(
    picture: Image.Image, *, size: int, resize: Resize = "crop", channels: int = 3
) -> UInt8[np.ndarray, "S S ch"]:
    """A picture in memory as `decode` delivers one from a file.

    Args:
        picture: of 8 bits a channel.
        size: side in pixels of the square delivered, 1 or more.
        resize: see `decode`.
        channels: see `decode`.

    Raises:
        ImageError: its pixels have more than 16 bits.
    """
    picture = _eight_bits(picture, "RGB" if channels == 3 else "L", "image")
    picture = _as_square(picture, _whole(picture), size=size, resize=resize)
    return np.array(picture, dtype=np.uint8).reshape(size, size, channels)


def _as_square(
    picture: Image.Image,
    box: tuple[float, float, float, float],
    *,
    size: int,
    resize: Resize,
) -> Image.Image:
    return picture.resize(
        (size, size),
        Image.Resampling.BILINEAR,
        box=_centre_square(box, size) if resize == "crop" else box,
        reducing_gap=3.0,
    )


def _open(content: bytes, name: str) -> Image.Image:
    """The image, yet to be decoded, by one of the parsers that `_formats` lets run."""
    by_content, by_suffix = _formats()
    try:
        return Image.open(io.BytesIO(content), formats=by_content)
    except Image.UnidentifiedImageError:
        # These parsers take nearly anything for theirs.
        suffix = os.path.splitext(name)[1].lower()
        wanted = Image.registered_extensions().get(suffix)
        if wanted not in by_suffix:
            raise
        return Image.open(io.BytesIO(content), formats=(wanted,))


def _check_options(*, size: int, resize: str, channels: int) -> None:
    if size < 0:
        raise ValueError(f"size: found {size}, expected 0 or a side in pixels")
    if resize not in RESIZES:
        raise ValueError(f"resize: found {resize!r}, expected {' or '.join(RESIZES)}")
    if channels not in (1, 3):
        raise ValueError(f"channels: found {channels}, expected 3 (RGB) or 1 (grey)")


_TRANSPOSES: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _check_area(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{printable(name)}: found {width} x {height} pixels, expected at most "
            f"{MAX_PIXELS}"
        )


def _reduce(image: Image.Image, size: int) -> tuple[float, float, float, float]:
    """Lets a JPEG be decoded at a fraction of its size; the box that it then fills."""
    box = _whole(image)
    if size and image.format == "JPEG":
        reduced = image.draft(None, (2 * size, 2 * size))
        if reduced is not None:
            # Not rounded, so that the last column and row weigh what they should.
            _, (left, top, right, bottom) = reduced
            box = (float(left), float(top), float(right), float(bottom))
    return box


def _whole(image: Image.Image) -> tuple[float, float, float, float]:
    return 0.0, 0.0, float(image.width), float(image.height)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 .. 8; 1 where there is none that can be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    # As in `decode`: damaged metadata raise all kinds of errors, and do not matter.
    except Exception:
        return 1


def _centre_square(
    box: tuple[float, float, float, float], size: int
) -> tuple[float, float, float, float]:
    _, _, width, height = box
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    if side == size:
        # Nothing is scaled, so nothing should be blurred by half a pixel either.
        left, top = left // 1, top // 1
    return left, top, left + side, top + side


def _eight_bits(image: Image.Image, mode: str, name: str) -> Image.Image:
    """`image` with its pixels decoded, as "RGB" or "L"."""
    image.load()
    transparency = image.info.get("transparency")
    if image.mode.startswith("I;16") or (
        image.mode == "I" and image.format in ("PNG", "PPM")
    ):
        # Not by convert(), which clips: all but the darkest would be white.
        deep = np.asarray(image).astype(np.uint32)
        grey = (deep + 128) // 257
        if isinstance(transparency, int):
            grey[deep == transparency] = 255
        image = Image.fromarray(grey.astype(np.uint8))
    elif image.mode in ("I", "F"):
        words = {"I": "32-bit integer", "F": "floating-point"}
        raise ImageError(
            f"{printable(name)}: found {words[image.mode]} pixels, expected 8 or 16 "
            "bits a channel"
        )
    elif image.has_transparency_data:
        colour = image.convert("RGBA")
        white = Image.new("RGBA", colour.size, "white")
        image = Image.alpha_composite(white, colour).convert("RGB")
    elif image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)
