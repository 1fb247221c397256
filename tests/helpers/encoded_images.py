"""Images to encode, and encoded ones."""

import numpy as np
from image_files import encode
from PIL import Image
from sklearn.datasets import load_sample_images

ORIENTATION = 0x0112


RNG = np.random.default_rng(0)


NOISE = RNG.integers(0, 256, size=(12, 20, 3), dtype=np.uint8)


PHOTOS = load_sample_images().images


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
