"""Lists of images on a disk."""

from image_files import touch


def write(directory, *, files=None, **content_of_lists):
    """Writes lists (text or bytes), and empty files for `files` or all they name."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in content_of_lists.items():
        content = content if isinstance(content, bytes) else content.encode()
        (directory / f"{name}.txt").write_bytes(content)
        if files is None:
            for line in content.split(b"\n"):
                touch(directory, line.split(b" ")[0])
    return touch(directory, *files or ())


TRAIN = "a.jpg 0 1 0\nb.jpg 1 0 0\n"
TEST = "c.jpg 0 0 1\n"
