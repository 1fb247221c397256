"""Files that are no images, damaged, or far too large."""

import struct
import zlib

import pytest
from encoded_images import NOISE, SAMPLES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import encode

from ssah_jax.data import images
from ssah_jax.data.images import (
    ImageError,
    decode,
)

# Pillow warns of odd metadata and of bombs; what counts is what comes of them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:PIL"),
]


# Errors


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an image",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"\0" * 100,
    ],
)
def test_not_an_image(content):
    with pytest.raises(ImageError, match=r"^a\.jpg: found .*, expected a whole image"):
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


@pytest.mark.slow
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
