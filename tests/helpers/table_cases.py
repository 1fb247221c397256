"""Tables of images on a disk."""

import functools

from ssah_jax.data import table as table_lib

# Most files here are empty. On Python 3.11 the type checker asks the images for their
# shape, which needs a file to be decoded unless a size is given.
image_table = functools.partial(table_lib.image_table, size=4)


def touch(directory, names):
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write(directory, text, *, name="table.csv"):
    """A table, and empty files for the first cell of all lines but the first."""
    file = directory / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    for line in file.read_bytes().split(b"\n")[1:]:
        first = line.split(b",")[0].strip(b' "\r').decode(errors="ignore")
        if first.endswith(".jpg"):
            touch(directory, [first])
    return file
