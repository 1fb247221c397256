"""Decoding, and the sequence of encoded images, against Pillow and plain NumPy."""

import concurrent.futures
import io
import os
import pathlib
import pickle
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from ssah_jax.data import images
from ssah_jax.data.images import (
    EncodedImages,
    ImageError,
    decode,
    find_images,
    image_files,
)
from ssah_jax.data.source import DataError, ImageSequence

# Pillow warns of odd metadata and of bombs; what counts is what comes of them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:PIL"),
]

ORIENTATION = 0x0112
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, size=(12, 20, 3), dtype=np.uint8)
PHOTOS = load_sample_images().images


def encode(array, kind="PNG", **options):
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def ramp(height=24, width=40):
    """Smooth colours, which lossy formats keep."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack(
        [x * 255 // (width - 1), y * 255 // (height - 1), 255 - x * 200 // width], -1
    ).astype(np.uint8)


def oriented(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes()


def distance(a, b):
    assert a.shape == b.shape
    return np.abs(a.astype(int) - b.astype(int))


# Formats and pixel modes


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"big_tiff": True}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_lossless_formats_are_exact(kind, options):
    image = decode(encode(NOISE, kind, **options), name="x.jpg")
    np.testing.assert_array_equal(image, NOISE)
    assert image.dtype == np.uint8 and image.flags.writeable


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 98, "subsampling": 0}),
        ("JPEG", {"quality": 98, "subsampling": 0, "progressive": True}),
        ("WEBP", {"quality": 98}),
        ("TIFF", {"compression": "jpeg", "quality": 98}),
        ("GIF", {}),
    ],
)
def test_lossy_formats_are_close(kind, options):
    image = decode(encode(ramp(), kind, **options), name="x.png")
    assert distance(image, ramp()).mean() < (12 if kind == "GIF" else 4)


def test_first_frame_of_animations_and_pages():
    frames = [Image.new("RGB", (8, 6), c) for c in ("red", "lime", "blue")]
    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        content = encode(
            frames[0], kind, save_all=True, append_images=frames[1:], **options
        )
        assert Image.open(io.BytesIO(content)).n_frames == 3
        image = decode(content, name="x")
        np.testing.assert_array_equal(image, np.asarray(frames[0]), err_msg=kind)


def test_grey_is_repeated_and_colour_becomes_luma():
    grey = NOISE[..., 0]
    np.testing.assert_array_equal(
        decode(encode(grey), name="x"), np.repeat(grey[..., None], 3, axis=-1)
    )
    np.testing.assert_array_equal(
        decode(encode(grey), name="x", channels=1), grey[..., None]
    )
    luma = NOISE @ np.array([0.299, 0.587, 0.114])
    one = decode(encode(NOISE), name="x", channels=1)
    assert one.shape == (12, 20, 1)
    assert np.abs(one[..., 0] - luma).max() <= 1
    photo = encode(PHOTOS[0], "JPEG")
    by_pillow = np.asarray(Image.open(io.BytesIO(photo)).convert("L"))
    # Not everywhere: the luma of a JPEG may belong to no colour of RGB.
    apart = distance(decode(photo, name="x", channels=1)[..., 0], by_pillow)
    assert np.quantile(apart, 0.95) <= 1


def test_transparency_is_laid_on_white():
    alpha = RNG.integers(0, 256, size=(12, 20, 1), dtype=np.uint8)
    white = 255 * (1 - alpha / 255.0)
    rgba = np.concatenate([NOISE, alpha], axis=-1)
    expected = NOISE * (alpha / 255.0) + white
    for kind in ("PNG", "TIFF"):
        image = decode(encode(rgba, kind), name="x")
        assert np.abs(image - expected).max() <= 1, kind
    la = Image.merge(
        "LA", [Image.fromarray(NOISE[..., 0]), Image.fromarray(alpha[..., 0])]
    )
    expected = NOISE[..., :1] * (alpha / 255.0) + white
    assert np.abs(decode(encode(la), name="x", channels=1) - expected).max() <= 1


def palette_image():
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    return image


@pytest.mark.parametrize(
    ("transparency", "second"),
    [(None, (0, 255, 0)), (1, (255, 255, 255)), (b"\xff\x80\xff", (127, 255, 127))],
)
def test_palettes(transparency, second):
    options = {} if transparency is None else {"transparency": transparency}
    expected = np.array([[(255, 0, 0), second, (0, 0, 255)]])
    image = decode(encode(palette_image(), **options), name="x")
    assert distance(image, expected).max() <= 1
    if not isinstance(transparency, bytes):
        image = decode(encode(palette_image(), "GIF", **options), name="x")
        np.testing.assert_array_equal(image, expected)


def test_transparent_colour_of_images_without_palette():
    content = encode(
        np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8), transparency=(1, 2, 3)
    )
    np.testing.assert_array_equal(
        decode(content, name="x"), [[[255, 255, 255], [4, 5, 6]]]
    )
    content = encode(np.array([[7, 9]], np.uint8), transparency=7)
    np.testing.assert_array_equal(decode(content, name="x", channels=1), [[[255], [9]]])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled(kind):
    deep = np.array([[0, 128, 129, 257, 12345, 40000, 65406, 65407, 65535]], np.uint16)
    expected = np.round(deep / 257)[..., None]
    image = decode(encode(deep, kind), name="x", channels=1)
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(
        decode(encode(deep, kind), name="x"), np.repeat(expected, 3, axis=-1)
    )


def test_sixteen_bit_grey_of_either_byte_order_and_transparency():
    deep = np.arange(0, 65536, 4369, dtype=np.uint16)[None]
    big = Image.frombytes("I;16B", (16, 1), deep.astype(">u2").tobytes())
    image = decode(encode(big, "TIFF"), name="x", channels=1)
    np.testing.assert_array_equal(image[0, :, 0], 17 * np.arange(16))
    image = decode(encode(deep, transparency=4369), name="x", channels=1)
    np.testing.assert_array_equal(image[0, :3, 0], [0, 255, 34])


def test_one_bit():
    bits = NOISE[..., 0] > 128
    for kind, options in (
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "group4"}),
    ):
        content = encode(Image.fromarray(bits), kind, **options)
        np.testing.assert_array_equal(
            decode(content, name="x", channels=1)[..., 0], 255 * bits
        )


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_deeper_pixels_are_refused(dtype):
    content = encode(np.ones((2, 3), dtype), "TIFF")
    with pytest.raises(ImageError, match=r"^a\.tif: found .* pixels, expected 8 or 16"):
        decode(content, name="a.tif")


def test_cmyk():
    inks = np.zeros((16, 64, 4), np.uint8)
    inks[:, 16:32, 0] = 255  # cyan
    inks[:, 32:48, 1:3] = 255  # magenta and yellow: red
    inks[:, 48:, 3] = 255  # black
    colours = {8: (255, 255, 255), 24: (0, 255, 255), 40: (255, 0, 0), 56: (0, 0, 0)}
    image = Image.fromarray(inks, "CMYK")
    for kind, options in (("JPEG", {"quality": 95}), ("TIFF", {})):
        content = encode(image, kind, **options)
        for channels in (3, 1):
            decoded = decode(content, name="x", channels=channels)
            for column, colour in colours.items():
                expected = (
                    colour if channels == 3 else [np.dot(colour, [0.299, 0.587, 0.114])]
                )
                assert np.abs(decoded[8, column] - expected).max() <= 6, (kind, colour)


def test_ycck():
    # The inks of an Adobe JPEG are stored inverted, and where the transform is 2, the
    # first three as YCbCr. What Pillow stores for these inks is 76, 85, 255 and 255:
    # as they stand the inverted inks are the colour; as YCbCr they are pure red, of
    # which libjpeg takes the complement.
    inks = np.tile(np.array([179, 170, 0, 0], np.uint8), (16, 16, 1))
    plain = encode(Image.fromarray(inks, "CMYK"), "JPEG", quality=98)
    at = plain.index(b"Adobe") + 11
    for transform, expected in ((0, (76, 85, 255)), (2, (1, 255, 255))):
        content = plain[:at] + bytes([transform]) + plain[at + 1 :]
        image = decode(content, name="x")
        assert np.abs(image[8, 8].astype(int) - expected).max() <= 4, transform


# Orientation

ORIENTED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a[::-1].transpose(1, 0, 2),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a[:, ::-1].transpose(1, 0, 2),
}


@pytest.mark.parametrize("orientation", ORIENTED)
def test_orientation(orientation):
    exif = oriented(orientation)
    expected = ORIENTED[orientation](NOISE)
    for kind, options in (
        ("PNG", {"exif": exif}),
        ("WEBP", {"exif": exif, "lossless": True}),
        ("TIFF", {"tiffinfo": {ORIENTATION: orientation}}),
        ("TIFF", {"tiffinfo": {ORIENTATION: orientation}, "compression": "tiff_lzw"}),
    ):
        image = decode(encode(NOISE, kind, **options), name="x")
        np.testing.assert_array_equal(image, expected, err_msg=kind)
    plain = encode(ramp(), "JPEG", quality=95)
    tagged = encode(ramp(), "JPEG", quality=95, exif=exif)
    np.testing.assert_array_equal(
        decode(tagged, name="x"), ORIENTED[orientation](decode(plain, name="x"))
    )
    for resize in images.RESIZES:
        np.testing.assert_array_equal(
            decode(tagged, name="x", size=12, resize=resize),
            ORIENTED[orientation](decode(plain, name="x", size=12, resize=resize)),
        )


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("value", [0, 1, 6, 9, 999])
def test_orientation_of_either_byte_order_and_out_of_range(order, value):
    sign = "<" if order == "II" else ">"
    exif = order.encode() + struct.pack(sign + "HLH", 42, 8, 1)
    exif += struct.pack(sign + "HHLHHL", ORIENTATION, 3, 1, value, 0, 0)
    content = encode(ramp(), "JPEG", exif=b"Exif\0\0" + exif)
    upright = decode(encode(ramp(), "JPEG"), name="x")
    expected = ORIENTED.get(value, ORIENTED[1])(upright)
    np.testing.assert_array_equal(decode(content, name="x"), expected)


def test_damaged_metadata_is_no_matter():
    exif = oriented(6)
    content = encode(ramp(), "JPEG", exif=exif)
    upright = decode(encode(ramp(), "JPEG"), name="x")
    for cut in range(6, len(exif)):
        damaged = encode(ramp(), "JPEG", exif=exif[:cut])
        image = decode(damaged, name="x")
        assert image.shape in (upright.shape, (40, 24, 3))
    # A tag whose value is outside.
    at = content.index(exif) + len(exif) - 4
    assert decode(content[: at - 6] + b"\xff" * 4 + content[at - 2 :], name="x").any()


# Resizing


def test_crop_is_resize_then_centre():
    photo = Image.fromarray(PHOTOS[0]).resize((512, 384))
    expected = np.asarray(photo.resize((256, 192), Image.Resampling.BILINEAR))
    content = encode(photo)
    assert distance(decode(content, name="x", size=192), expected[:, 32:224]).max() <= 1
    tall = encode(photo.transpose(Image.Transpose.TRANSPOSE))
    assert (
        distance(
            decode(tall, name="x", size=192), expected[:, 32:224].transpose(1, 0, 2)
        ).max()
        <= 1
    )


def test_squash():
    photo = Image.fromarray(PHOTOS[0])
    expected = np.asarray(photo.resize((100, 100), Image.Resampling.BILINEAR))
    image = decode(encode(photo), name="x", size=100, resize="squash")
    assert distance(image, expected).mean() < 0.5


def test_nothing_is_scaled_where_the_size_fits():
    np.testing.assert_array_equal(
        decode(encode(NOISE), name="x", size=12), NOISE[:, 4:16]
    )
    odd = NOISE[:, :19]
    np.testing.assert_array_equal(decode(encode(odd), name="x", size=12), odd[:, 3:15])
    square = NOISE[:, :12]
    for resize in images.RESIZES:
        image = decode(encode(square), name="x", size=12, resize=resize)
        np.testing.assert_array_equal(image, square)


@given(
    width=st.integers(1, 80),
    height=st.integers(1, 80),
    size=st.integers(1, 40),
    kind=st.sampled_from(["JPEG", "PNG"]),
    resize=st.sampled_from(images.RESIZES),
    channels=st.sampled_from([1, 3]),
)
@settings(max_examples=60, deadline=None)
def test_any_size_to_any_other(width, height, size, kind, resize, channels):
    content = encode(np.full((height, width, 3), 77, np.uint8), kind)
    image = decode(content, name="x", size=size, resize=resize, channels=channels)
    assert image.shape == (size, size, channels)
    # A constant stays what it is, so nothing from outside the image is mixed in.
    assert distance(image, np.full_like(image, 77)).max() <= 1


@pytest.mark.parametrize("size", [16, 64, 256, 500])
@pytest.mark.parametrize("resize", images.RESIZES)
def test_reduced_decoding_of_large_jpeg(size, resize):
    photo = Image.fromarray(PHOTOS[0]).resize((1601, 1203), Image.Resampling.LANCZOS)
    content = encode(photo, "JPEG", quality=90)
    whole = Image.open(io.BytesIO(content))
    box = (199, 0, 1402, 1203) if resize == "crop" else None
    expected = np.asarray(
        whole.resize((size, size), Image.Resampling.BILINEAR, box=box)
    )
    image = decode(content, name="x", size=size, resize=resize)
    # Of 255; reduced to the very size, it would be 1.2 and more.
    assert distance(image, expected).mean() < 0.8
    assert distance(image, expected).max() < 16


def test_reduced_decoding_keeps_enough_pixels(monkeypatch):
    seen = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        "resize",
        lambda self, *args, **kw: seen.append(self.size) or resize(self, *args, **kw),
    )
    content = encode(np.zeros((900, 1100, 3), np.uint8), "JPEG")
    for size, expected in ((50, 8), (57, 4), (112, 4), (113, 2), (225, 2), (226, 1)):
        seen.clear()
        decode(content, name="x", size=size)
        assert seen[0] == (-(-1100 // expected), -(-900 // expected)), size
    thin = encode(np.zeros((30, 2000, 3), np.uint8), "JPEG")
    seen.clear()
    decode(thin, name="x", size=20, resize="squash")
    assert seen[0] == (2000, 30)


# Errors


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an image",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"\0" * 100,
        b"P6 1 1 255 abc",
    ],
)
def test_not_an_image(content):
    with pytest.raises(ImageError, match=r"^a\.jpg: found .*, expected .* JPEG, PNG"):
        decode(content, name="a.jpg")


def test_zero_sides():
    content = encode(NOISE, "BMP")
    for at in (18, 22):
        with pytest.raises(ImageError):
            decode(content[:at] + bytes(4) + content[at + 4 :], name="x")


def bomb(kind, width, height):
    """A header that promises width x height pixels."""
    if kind == "PNG":
        content = encode(NOISE)
        header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
        checksum = struct.pack(">I", zlib.crc32(header))
        return content[:12] + header + checksum + content[33:]
    if kind == "BMP":
        content = encode(NOISE, "BMP")
        return content[:18] + struct.pack("<ii", width, height) + content[26:]
    if kind == "JPEG":
        content = encode(NOISE, "JPEG")
        at = content.index(b"\xff\xc0") + 5
        return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]
    if kind == "TIFF":
        content = bytearray(encode(NOISE, "TIFF"))
        (start,) = struct.unpack_from("<L", content, 4)
        for entry in range(start + 2, len(content) - 12, 12):
            (tag,) = struct.unpack_from("<H", content, entry)
            if tag in (256, 257):
                struct.pack_into("<HL", content, entry + 2, 4, 1)
                struct.pack_into("<L", content, entry + 8, (width, height)[tag - 256])
        return bytes(content)
    content = encode(NOISE, "GIF")
    if kind == "GIF screen":
        return content[:6] + struct.pack("<HH", width, height) + content[10:]
    at = content.index(b"\x2c\0\0\0\0") + 5
    return content[:at] + struct.pack("<HH", width, height) + content[at + 4 :]


BOMBS = ("PNG", "BMP", "JPEG", "TIFF", "GIF screen", "GIF picture")


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("sides", [(10001, 10000), (15000, 15000), (60000, 60000)])
def test_bombs_are_refused_by_their_header(kind, sides):
    with pytest.raises(
        ImageError, match=r"^b: found .*\d\d pixels.*, expected at most 89478485$"
    ):
        decode(bomb(kind, *sides), name="b", size=8)


def test_limit_is_inclusive(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 240)
    assert decode(encode(NOISE), name="x").shape == (12, 20, 3)
    monkeypatch.setattr(images, "MAX_PIXELS", 239)
    for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"):
        with pytest.raises(ImageError, match="20 x 12 pixels, expected at most 239"):
            decode(encode(NOISE, kind), name="x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": -1}, "size: found -1"),
        ({"channels": 2}, "channels: found 2"),
        ({"channels": 4}, "channels: found 4"),
    ],
)
def test_options(options, message):
    with pytest.raises(ValueError, match=message):
        decode(encode(NOISE), name="x", **options)
    with pytest.raises(ValueError, match=message):
        EncodedImages(lambda index: b"", ["x"], **options)


def samples():
    """A small valid file of each kind, with the metadata that is looked at."""
    exif = oriented(6)
    small = ramp(16, 24)
    rgba = np.concatenate([small, small[..., :1]], axis=-1)
    frames = {"save_all": True, "append_images": [Image.new("RGB", (24, 16))]}
    gif = Image.fromarray(small).quantize(16)
    return {
        "jpeg": encode(small, "JPEG", exif=exif, comment=b"hello"),
        "progressive": encode(small, "JPEG", progressive=True, icc_profile=b"abc" * 9),
        "cmyk": encode(Image.fromarray(rgba, "CMYK"), "JPEG"),
        "png": encode(rgba, exif=exif),
        "apng": encode(small, **frames),
        "palette": encode(gif, transparency=bytes(range(16)), bits=4),
        "deep": encode(small[..., 0].astype(np.uint16) * 257),
        "webp": encode(rgba, "WEBP", exif=exif, lossless=True),
        "lossy webp": encode(small, "WEBP"),
        "animated webp": encode(small, "WEBP", **frames),
        "bmp": encode(small, "BMP"),
        "palette bmp": encode(gif, "BMP"),
        "gif": encode(gif, "GIF", transparency=3, comment=b"hello"),
        "animated gif": encode(gif, "GIF", disposal=2, loop=0, **frames),
        "tiff": encode(small, "TIFF", tiffinfo={ORIENTATION: 6, 270: "hello there"}),
        "big tiff": encode(small, "TIFF", big_tiff=True),
        "lzw": encode(small, "TIFF", compression="tiff_lzw"),
        "jpeg tiff": encode(small, "TIFF", compression="jpeg"),
        "fax": encode(
            Image.fromarray(small[..., 0] > 99), "TIFF", compression="group4"
        ),
        "deep tiff": encode(small[..., 0].astype(np.uint16) * 257, "TIFF"),
        "cmyk tiff": encode(Image.fromarray(rgba, "CMYK"), "TIFF"),
        "pages": encode(small, "TIFF", **frames),
    }


SAMPLES = samples()


def image_or_error(content, **options):
    """Whether it is an image; any other exception than ImageError fails the test."""
    try:
        decode(content, name="fuzz", **options)
    except ImageError as error:
        assert str(error).startswith("fuzz: found ") and ", expected " in str(error)
        assert "\n" not in str(error)
        return False
    return True


@pytest.mark.parametrize("kind", SAMPLES)
def test_every_truncation(kind):
    content = SAMPLES[kind]
    assert image_or_error(content)
    step = max(1, len(content) // 150)
    whole = [image_or_error(content[:n]) for n in range(0, len(content), step)]
    # Half of a file is never enough, whatever its format.
    assert not any(whole[: len(whole) // 2]) or kind in (
        "pages",
        "apng",
        "animated gif",
        "animated webp",
    )


@given(data=st.data(), kind=st.sampled_from(sorted(SAMPLES)))
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_files(data, kind):
    content = bytearray(SAMPLES[kind])
    # Mostly the head, where the structure is.
    places = st.one_of(
        st.integers(0, min(len(content), 200) - 1), st.integers(0, len(content) - 1)
    )
    for at, value in data.draw(
        st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)
    ):
        content[at] = value
    size = data.draw(st.sampled_from([0, 8]))
    image_or_error(bytes(content), size=size)


@given(content=st.binary(max_size=200), kind=st.sampled_from(sorted(SAMPLES)))
@settings(max_examples=100, deadline=None)
def test_garbage_behind_a_signature(content, kind):
    image_or_error(SAMPLES[kind][:12] + content)


@pytest.mark.parametrize("kind", SAMPLES)
def test_every_early_byte(kind):
    content = SAMPLES[kind]
    for at in range(min(len(content), 120)):
        for value in (0, 0xFF, content[at] ^ 1):
            image_or_error(content[:at] + bytes([value]) + content[at + 1 :])


# The sequence


def bytes_of(contents):
    return lambda index: contents[index]


def test_is_an_image_sequence():
    contents = [encode(NOISE), encode(NOISE[::-1])]
    seq = EncodedImages(bytes_of(contents), ["a", "b"])
    assert isinstance(seq, ImageSequence)
    assert seq.shape == (2, 12, 20, 3) and len(seq) == 2 and seq.names == ["a", "b"]
    np.testing.assert_array_equal(seq[1], NOISE[::-1])
    np.testing.assert_array_equal(seq[np.int64(0)], NOISE)
    np.testing.assert_array_equal(np.stack(list(seq)), [NOISE, NOISE[::-1]])
    assert seq.encoded(1) == contents[1]
    for index in (-1, 2):
        with pytest.raises(IndexError, match=f"index {index} is not in 0 .. 1"):
            seq[index]
        with pytest.raises(IndexError):
            seq.encoded(index)


def test_options_reach_the_decoder():
    seq = EncodedImages(
        bytes_of([encode(NOISE)]), ["a"], size=6, resize="squash", channels=1
    )
    expected = decode(encode(NOISE), name="a", size=6, resize="squash", channels=1)
    np.testing.assert_array_equal(seq[0], expected)
    assert seq.shape == (1, 6, 6, 1)


def counting(contents):
    reads = []

    def read(index):
        reads.append(index)
        time.sleep(0.005)  # long enough for other threads to come in between
        return contents[index]

    return read, reads


def test_shape_reads_as_little_as_can_be():
    read, reads = counting([encode(NOISE)] * 3)
    assert EncodedImages(read, "abc", size=5).shape == (3, 5, 5, 3) and not reads
    seq = EncodedImages(read, "abc")
    assert not reads
    assert seq.shape == seq.shape == (3, 12, 20, 3)
    assert reads == [0]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        fresh = EncodedImages(read, "abc")
        reads.clear()
        assert {*pool.map(lambda _: fresh.shape, range(64))} == {(3, 12, 20, 3)}
    assert reads == [0]


def test_shape_of_no_images():
    assert EncodedImages(bytes_of([]), []).shape == (0, 0, 0, 3)
    assert EncodedImages(bytes_of([]), [], size=7, channels=1).shape == (0, 7, 7, 1)


def test_another_shape():
    contents = [b"broken", encode(NOISE), encode(NOISE[:, :7]), encode(NOISE[1:])]
    seq = EncodedImages(bytes_of(contents), ["w", "x", "y", "z"])
    for index, found in ((2, r"\(12, 7, 3\)"), (3, r"\(11, 20, 3\)")):
        with pytest.raises(
            ImageError, match=rf"^[yz]: found .*{found}, expected \(12, 20, 3\)"
        ):
            seq[index]
    assert seq[1].shape == (12, 20, 3)
    with pytest.raises(ImageError, match=r"^w: found no image"):
        seq[0]


def test_shape_without_any_readable_image():
    seq = EncodedImages(bytes_of([b"broken", b""]), ["x", "y"])
    for _ in range(2):
        with pytest.raises(ImageError, match=r"^x: found"):
            _ = seq.shape


def test_errors_of_the_data_set_pass():
    def read(index):
        raise DataError("shard 3: found x, expected y")

    with pytest.raises(DataError, match=r"^shard 3: found x, expected y$"):
        EncodedImages(read, ["x"])[0]


def test_threads_decode_as_one_does():
    contents = [encode(p, k) for p in PHOTOS for k in ("JPEG", "PNG", "WEBP", "TIFF")]
    contents += [SAMPLES[k] for k in sorted(SAMPLES)]
    seq = EncodedImages(
        bytes_of(contents), [str(i) for i in range(len(contents))], size=48
    )
    serial = [seq[i] for i in range(len(seq))]
    order = list(RNG.permutation(np.repeat(np.arange(len(seq)), 4)))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for index, image in zip(order, pool.map(seq.__getitem__, order), strict=True):
            np.testing.assert_array_equal(image, serial[index])


# Files


def test_image_files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(encode(NOISE))
    (tmp_path / "y.png").write_bytes(encode(NOISE[::-1]))
    seq = image_files(tmp_path, ["y.png", "a/x.png"])
    np.testing.assert_array_equal(seq[1], NOISE)
    for size in (0, 6):
        seq = image_files(tmp_path, ["y.png", "a/x.png"], size=size, channels=1)
        _ = seq.shape
        copy = pickle.loads(pickle.dumps(seq))
        np.testing.assert_array_equal(copy[1], seq[1])
        assert copy.names == seq.names and copy.shape == seq.shape


def test_real_photographs():
    names = ["china.jpg", "flower.jpg"]
    import sklearn.datasets

    root = pathlib.Path(sklearn.datasets.__file__).parent / "images"
    seq = image_files(root, names)
    assert seq.shape == (2, 427, 640, 3)
    for image, photo in zip(seq, PHOTOS, strict=True):
        np.testing.assert_array_equal(image, photo)


def test_unreadable_files(tmp_path, monkeypatch):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "lost.jpg").symlink_to("nowhere")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "locked.jpg").write_bytes(encode(NOISE))
    os.mkfifo(tmp_path / "pipe.jpg")
    reasons = {
        "folder.jpg": "not a regular file",
        "loop.jpg": "symbolic links",
        "lost.jpg": "No such file",
        "missing.jpg": "No such file",
        "empty.jpg": "an empty file",
        "pipe.jpg": "not a regular file",
        "null\0.jpg": "null",
        "locked.jpg": "Permission denied",
        "locked.jpg/x": "Not a directory",
    }
    read_bytes = pathlib.Path.read_bytes

    # By hand, since whoever runs this may be allowed to read anything.
    def refuse(path):
        if path.name == "locked.jpg":
            raise PermissionError(13, "Permission denied", str(path))
        return read_bytes(path)

    monkeypatch.setattr(pathlib.Path, "read_bytes", refuse)
    seq = image_files(tmp_path, list(reasons), size=4)
    for index, (name, reason) in enumerate(reasons.items()):
        with pytest.raises(ImageError, match=f"found .*{reason}.*, expected ") as error:
            seq[index]
        assert str(error.value).startswith(name.replace("\0", "\\x00") + ": ")
        if name != "empty.jpg":
            with pytest.raises(ImageError, match=reason):
                seq.encoded(index)


def test_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9\n.png")
    try:
        (tmp_path / name).write_bytes(encode(NOISE))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (tmp_path / os.fsdecode(b"\xff.JPG")).write_bytes(b"broken")
    names = find_images(tmp_path)
    assert [os.fsencode(n) for n in names] == [b"caf\xe9\n.png", b"\xff.JPG"]
    seq = image_files(tmp_path, names)
    np.testing.assert_array_equal(seq[0], NOISE)
    with pytest.raises(ImageError) as error:
        seq[1]
    assert str(error.value).encode("utf-8").startswith(b"\\udcff.JPG: found no image")
    (tmp_path / name).unlink()
    with pytest.raises(ImageError) as error:
        seq[0]
    assert str(error.value).encode("utf-8").startswith(b"caf\\udce9\\n.png: found")
    assert images.printable("plain naïve 名.png") == "plain naïve 名.png"


# Finding


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_find_images(tmp_path):
    wanted = ["B/1.JPG", "Z.png", "a b/c/2.jpeg", "a.webp", "a/1.bmp", "a/10.gif"]
    wanted += ["a/2.tif", "b.TIFF", "x.y.jfif", "z.jpe", "\u00e9.jpg", "\U0001f600.jpg"]
    touch(tmp_path, *reversed(wanted))
    touch(tmp_path, ".hidden.jpg", "._Z.png", ".DS_Store", ".git/x.jpg", "a/.x/y.jpg")
    touch(tmp_path, "notes.txt", "jpg", "a/png", "x.jpg.txt", "x.mp4", "_.jpgx")
    (tmp_path / "folder.jpg").mkdir()
    touch(tmp_path, "folder.jpg/in.png")
    expected = sorted([*wanted, "folder.jpg/in.png"], key=lambda n: n.encode())
    assert find_images(tmp_path) == expected
    assert find_images(tmp_path, recursive=False) == [
        n for n in expected if "/" not in n
    ]
    hidden_root = tmp_path / ".hidden"
    touch(hidden_root, "x.jpg")
    assert find_images(hidden_root) == ["x.jpg"]


def test_find_images_follows_links(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    touch(elsewhere, "1.jpg", "data")
    root = tmp_path / "root"
    touch(root, "real/2.jpg")
    (root / "file.jpg").symlink_to(elsewhere / "data")
    (root / "one").symlink_to(elsewhere)
    (root / "two").symlink_to(elsewhere)
    (root / "real" / "up").symlink_to(root)
    (root / "real" / "self").symlink_to(".")
    (elsewhere / "back").symlink_to(root / "real")
    (root / "lost.jpg").symlink_to("nowhere")
    (root / "loop.jpg").symlink_to("loop.jpg")
    assert find_images(root) == [
        "file.jpg",
        *("one/1.jpg", "one/back/2.jpg"),
        "real/2.jpg",
        *("two/1.jpg", "two/back/2.jpg"),
    ]


def test_find_images_in_unreadable_folders(tmp_path, monkeypatch):
    touch(tmp_path, "a/b/x.jpg", "file")
    with pytest.raises(DataError, match=r"missing: found No such .*, expected a read"):
        find_images(tmp_path / "missing")
    with pytest.raises(DataError, match="file: found Not a directory, expected"):
        find_images(tmp_path / "file")
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="a/b: found Permission denied, expected"):
        find_images(tmp_path)
    assert find_images(tmp_path, recursive=False) == []
