"""Decoding images, against Pillow and plain NumPy."""

import io
import struct

import numpy as np
import pytest
from encoded_images import NOISE, ORIENTATION, PHOTOS, RNG, oriented, ramp
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encode
from PIL import Image

from ssah_jax.data import images
from ssah_jax.data.encoded import EncodedImages
from ssah_jax.data.images import ImageError, decode

# Pillow warns of odd metadata and of bombs; what counts is what comes of them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:PIL"),
]


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
