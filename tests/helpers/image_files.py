"""What tests of lists, tables and splits share: pictures, contents, one-line errors."""

import numpy as np
from PIL import Image


def picture(colour):
    """Of 16 x 6 pixels, with a blue left edge that the centre square lacks."""
    image = Image.new("RGB", (16, 6), colour)
    image.paste((0, 0, 255), (0, 0, 2, 6))
    return image


def one_line(error):
    text = str(error.value)
    assert text.isprintable()
    return text


def content_of(source):
    """For each part, its images with the names of their classes."""
    return {
        part: {
            source.images.names[index]: {
                source.class_names[c] for c in np.flatnonzero(source.labels[index])
            }
            for index in indices
        }
        for part, indices in source.parts.items()
    }
