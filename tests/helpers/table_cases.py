"""Tables of images on a disk."""

from image_files import touch


def write(directory, text, *, name="table.csv"):
    """A table, and empty files for the first cell of all lines but the first."""
    file = directory / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    for line in file.read_bytes().split(b"\n")[1:]:
        first = line.split(b",")[0].strip(b' "\r').decode(errors="ignore")
        if first.endswith(".jpg"):
            touch(directory, first)
    return file
