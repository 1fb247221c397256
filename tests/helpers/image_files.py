"""Images on a disk, for tests of folders, lists, tables and splits; one-line errors."""

import functools
import io
import os

import numpy as np
from PIL import Image

from ssah_jax.data import folder, lists, table

# Most files here are empty. On Python 3.11 the type checker asks the images for their
# shape, which needs a file to be decoded unless a size is given.
image_folder = functools.partial(folder.image_folder, size=4)
image_lists = functools.partial(lists.image_lists, size=4)
image_table = functools.partial(table.image_table, size=4)


def touch(directory, *names):
    """Empty files, and folders where a name (text or bytes) ends in a slash."""
    for name in names:
        path = os.path.join(os.fsencode(directory), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not path.endswith(b"/"):
            open(path, "ab").close()
    return directory


def encode(array, kind="PNG", **options):
    """The bytes of a file of an array or a picture."""
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


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
