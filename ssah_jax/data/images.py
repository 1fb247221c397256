"""One encoded image, decoded.

Pillow decodes; this module says what becomes of orientation, transparency, 16 bits and
CMYK, and turns whatever Pillow raises on damaged files into one error.
"""

import io
import os
from typing import Final, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from ssah_jax.data.formats import HEIC_EXTRA, formats
from ssah_jax.data.source import DataError
from ssah_jax.retrieval.files import one_line

Resize = Literal["crop", "squash"]
"""How an image becomes square: centre square, or both sides scaled on their own."""

RESIZES: Final = ("crop", "squash")
"""The words of `Resize`."""

_HEIC_BRANDS: Final = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1")

MAX_PIXELS: Final = 89_478_485
"""Pixels of the largest image that is decoded; beyond, Pillow warns of a bomb."""


class ImageError(DataError):
    """One image that cannot be used; the message is `NAME: found ..., expected ...`."""


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
    check_options(size=size, resize=resize, channels=channels)
    expected = "a whole image of a kind that Pillow reads"
    if not content:
        raise ImageError(f"{one_line(name)}: found an empty file, expected {expected}")
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
            f"{one_line(name)}: found too many pixels ({error}), expected at most "
            f"{MAX_PIXELS}"
        ) from error
    except Image.UnidentifiedImageError as error:
        heic = content[4:8] == b"ftyp" and content[8:12] in _HEIC_BRANDS
        found = (
            f"a HEIC image, which {HEIC_EXTRA} reads"
            if heic
            else f"no image (it starts with {content[:8]!r})"
        )
        raise ImageError(
            f"{one_line(name)}: found {found}, expected {expected}"
        ) from error
    # Broad, as damaged files raise nearly anything in Pillow: SyntaxError,
    # struct.error, MemoryError, KeyError, OSError, zlib.error, ...
    except Exception as error:
        reason = one_line(error) or type(error).__name__
        raise ImageError(
            f"{one_line(name)}: found a damaged or cut-off image ({reason}), "
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
    """The image, yet to be decoded, by one of the parsers that `formats` lets run."""
    by_content, by_suffix = formats()
    try:
        return Image.open(io.BytesIO(content), formats=by_content)
    except Image.UnidentifiedImageError:
        # These parsers take nearly anything for theirs.
        suffix = os.path.splitext(name)[1].lower()
        wanted = Image.registered_extensions().get(suffix)
        if wanted not in by_suffix:
            raise
        return Image.open(io.BytesIO(content), formats=(wanted,))


def check_options(*, size: int, resize: str, channels: int) -> None:
    """Raise ValueError for what `decode` does not accept."""
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
            f"{one_line(name)}: found {width} x {height} pixels, expected at most "
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
            f"{one_line(name)}: found {words[image.mode]} pixels, expected 8 or 16 "
            "bits a channel"
        )
    elif image.has_transparency_data:
        colour = image.convert("RGBA")
        white = Image.new("RGBA", colour.size, "white")
        image = Image.alpha_composite(white, colour).convert("RGB")
    elif image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)
