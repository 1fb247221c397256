"""A user's own images, in class folders."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from ssah_jax.data.images import Resize, find_images, image_files, printable
from ssah_jax.data.source import DataError, Source, consecutive_parts

_TEST: Final = ("test", "val", "validation")
_UNLABELLED: Final = ("unlabelled", "unlabeled")
_PARTS: Final = ("train", *_TEST, "database", *_UNLABELLED)
_MAX_NAMED: Final = 5
_ACCEPTED: Final = (
    "train/CLASS/ and test/CLASS/ (or CLASS/ alone) with images in them, and perhaps "
    "database/CLASS/ and unlabelled/"
)


def image_folder(
    path: str | pathlib.Path,
    *,
    size: int = 0,
    resize: Resize = "crop",
    channels: int = 3,
) -> Source:
    """Images in class folders, which may hold further folders.

    Two layouts are told apart by looking:

    - `train/CLASS/` and `test/CLASS/`, and perhaps `database/CLASS/`; without `test`,
      `val` or `validation` is taken for it, and beside `test` they are not read;
    - `CLASS/` alone.

    Both may have `unlabelled/` (or `unlabeled/`), whose images and folders mean
    nothing. Case does not matter in these names. One of them is a class where other
    classes lie beside it, unless both `train` and a test part are there. Files that
    are no images by their suffix and whatever is hidden are passed over.

    Args:
        path: the folder.
        size: side of the square images delivered, in pixels; 0 as stored.
        resize: how an image becomes square.
        channels: 3 for colour, 1 for grey.

    Returns:
        A single-label source. Its classes are those of all parts, sorted by name; its
        parts are `train`, `test` and perhaps `database`, or else `all`, and perhaps
        `unlabelled`.

    Raises:
        DataError: the folder is not like that, a class has no images, there are fewer
            than two classes, or a part is absent.
    """
    path = pathlib.Path(path)
    where = printable(str(path))
    if not path.is_dir():
        found = "a file" if path.exists() else "no such directory"
        raise DataError(f"{where}: found {found}, expected a folder with {_ACCEPTED}")
    folders = _folders(path)
    if not folders:
        loose = len(find_images(path, recursive=False))
        raise DataError(
            f"{where}: found {loose} images and no folders, expected labelled images: "
            f"{_ACCEPTED}"
        )
    _refuse_loose_images(path)
    labelled, unlabelled = _layout(path, folders)
    files = {part: _classes(path, prefix) for part, prefix in labelled.items()}
    names = sorted({name for classes in files.values() for name in classes})
    if len(names) < 2:
        raise DataError(
            f"{where}: found {len(names)} classes{_listing(names)}, expected at least "
            f"2: {_ACCEPTED}"
        )
    sizes = {part: sum(map(len, classes.values())) for part, classes in files.items()}
    column = {name: index for index, name in enumerate(names)}
    images, columns = [], []
    for classes in files.values():
        for name in sorted(classes):
            images += classes[name]
            columns += [column[name]] * len(classes[name])
    for folder in unlabelled:
        images += _images(path, f"{folder}/")
    sizes["unlabelled"] = len(images) - len(columns)
    labels = np.zeros((len(images), len(names)), np.float32)
    labels[np.arange(len(columns)), columns] = 1
    return Source(
        name="folder",
        images=image_files(
            path, tuple(images), size=size, resize=resize, channels=channels
        ),
        labels=labels,
        parts=consecutive_parts(**sizes),
        # Reports and logs show them, so they have to be writable as UTF-8.
        class_names=tuple(printable(name) for name in names),
        multi_label=False,
    )


def _layout(
    path: pathlib.Path, folders: Sequence[str]
) -> tuple[Mapping[str, str], Sequence[str]]:
    """The prefix of the class folders of each part, and the unlabelled folders."""
    where = printable(str(path))
    part_folders: dict[str, str] = {}
    for folder in folders:
        other = part_folders.setdefault(folder.lower(), folder)
        if other != folder and folder.lower() in _PARTS:
            raise DataError(
                f"{where}: found both {other}/ and {folder}/, expected one of them"
            )
    unlabelled = [part_folders[name] for name in _UNLABELLED if name in part_folders]
    others = [name for name in folders if name.lower() not in _PARTS]
    candidates = [name for name in _TEST if name in part_folders]
    if others and not ("train" in part_folders and candidates):
        return {"all": ""}, unlabelled
    if others:
        raise DataError(
            f"{where}: found parts (train/ and {candidates[0]}/) beside other folders"
            f"{_listing(others)}, expected {_ACCEPTED}"
        )
    if len(unlabelled) == len(folders):
        raise DataError(
            f"{where}: found nothing but unlabelled images, expected labelled images "
            f"too: {_ACCEPTED}"
        )
    if "train" not in part_folders:
        raise DataError(
            f"{where}: found {'/ and '.join(folders)}/ and no train/, expected it too, "
            f"or class folders directly in {where}"
        )
    if not candidates:
        raise DataError(
            f"{where}: found train/ and no test/, expected {where}/test too, or no "
            f"train folder at all: class folders directly in {where}"
        )
    if len(candidates) > 1 and candidates[0] != "test":
        raise DataError(
            f"{where}: found both val/ and validation/ and no test/, expected one"
        )
    labelled = {"train": "train", "test": candidates[0]}
    if "database" in part_folders:
        labelled["database"] = "database"
    return {part: f"{part_folders[n]}/" for part, n in labelled.items()}, unlabelled


def _classes(path: pathlib.Path, prefix: str) -> dict[str, list[str]]:
    """The images in each class folder of `path / prefix`, relative to `path`."""
    directory = path / prefix
    folders = _folders(directory)
    if not prefix:
        folders = [name for name in folders if name.lower() not in _UNLABELLED]
    if not folders:
        raise DataError(
            f"{printable(str(directory))}: found no class folders, expected one for "
            "each class, with its images in it"
        )
    _refuse_loose_images(directory)
    return {name: _images(path, f"{prefix}{name}/") for name in folders}


def _images(path: pathlib.Path, prefix: str) -> list[str]:
    """All images below `path / prefix`, at least one, relative to `path`."""
    directory = path / prefix
    images = find_images(directory)
    if not images:
        raise DataError(
            f"{printable(str(directory))}: found no images, expected at least one (or "
            "no such folder)"
        )
    return [prefix + image for image in images]


def _folders(directory: pathlib.Path) -> list[str]:
    """The folders in `directory` that are not hidden, sorted."""
    try:
        entries = sorted(os.listdir(directory))
    except OSError as error:
        raise DataError(
            f"{printable(str(directory))}: found {error.strerror}, expected a readable "
            "folder"
        ) from error
    return [
        name
        for name in entries
        if not name.startswith(".") and os.path.isdir(os.path.join(directory, name))
    ]


def _refuse_loose_images(directory: pathlib.Path) -> None:
    loose = find_images(directory, recursive=False)
    if loose:
        raise DataError(
            f"{printable(str(directory))}: found {len(loose)} images outside of its "
            f"folders (first {printable(loose[0])}), expected all in class folders or "
            "in an unlabelled folder"
        )


def _listing(names: Sequence[str]) -> str:
    """` (a, b, ...)`, for messages; nothing of nothing."""
    few = [printable(name) for name in names[:_MAX_NAMED]]
    if len(names) > _MAX_NAMED:
        few.append("...")
    return f" ({', '.join(few)})" if few else ""
