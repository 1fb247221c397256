"""Lists of images on a disk."""

import functools
import os

from ssah_jax.data import lists

# Most files here are empty. On Python 3.11 the type checker asks the images for their
# shape, which needs a file to be decoded unless a size is given.
image_lists = functools.partial(lists.image_lists, size=4)


def write(directory, *, files=None, **content_of_lists):
    """Writes lists (text or bytes), and empty files for `files` or all they name."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in content_of_lists.items():
        content = content if isinstance(content, bytes) else content.encode()
        (directory / f"{name}.txt").write_bytes(content)
        if files is None:
            for line in content.split(b"\n"):
                touch(directory, line.split(b" ")[0])
    for file in files or ():
        touch(directory, os.fsencode(file))
    return directory


def touch(directory, name):
    path = os.path.join(os.fsencode(directory), name)
    if name:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "wb").close()


TRAIN = "a.jpg 0 1 0\nb.jpg 1 0 0\n"


TEST = "c.jpg 0 0 1\n"
