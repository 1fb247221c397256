"""A user's own images, in class folders."""

import filecmp
import pathlib
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from ssah_jax.data.finding import PassedOver, find_images, folders_in
from ssah_jax.data.formats import unread_pictures
from ssah_jax.data.images import Resize
from ssah_jax.data.listing import UNLABELLED, listed_source
from ssah_jax.data.naming import check_different, part_of
from ssah_jax.data.source import DataError, Source, consecutive_parts
from ssah_jax.data.unlabelled import ADVICE, Labels, unlabelled_folder
from ssah_jax.retrieval.files import one_line

_MAX_NAMED: Final = 5
_ACCEPTED: Final = (
    "train/CLASS/ and test/CLASS/ (or CLASS/ alone) with images in them, and perhaps "
    "database/CLASS/ and unlabelled/"
)
_EMPTY: Final = "folders without images"


def image_folder(
    path: str | pathlib.Path,
    *,
    size: int = 0,
    resize: Resize = "crop",
    channels: int = 3,
    labels: Labels = "auto",
) -> Source:
    """Images in class folders, which may hold further folders; or without labels.

    Two layouts are told apart by looking:

    - `train/CLASS/` and `test/CLASS/`, and perhaps `validation/CLASS/` and
      `database/CLASS/`; without `test`, the validation part is taken for it;
    - `CLASS/` alone.

    Both may have `unlabelled/`, whose images and folders mean nothing. A folder of
    images with no other folder has no labels: neither classes nor other parts than
    `unlabelled`. Parts may have
    other usual names (`Training`, `val`, `queries`, `gallery`, `retrieval`,
    `train_images`; see `naming.part_of`). The vehicle is a class: `train` with images
    and no folders in it, beside other classes. Files that are no images by their
    suffix, whatever is hidden or of a file system, and folders without images are
    passed over and counted.

    Args:
        path: the folder.
        size: side of the square images delivered, in pixels; 0 as stored.
        resize: how an image becomes square.
        channels: 3 for colour, 1 for grey.
        labels: "auto" for what is said above; "none" takes all images, whatever the
            folders are called, without labels.

    Returns:
        A single-label source. Its classes are those of all parts, sorted by name; its
        parts are `train`, `test` and perhaps `validation` and `database`, or else
        `all`, and perhaps `unlabelled`. A file by several names is one image.

    Raises:
        DataError: the folder is not like that, parts lie among classes, a file is in
            two classes, two classes have one name but for its case, there are fewer
            than two classes, or a part is absent.
    """
    path = pathlib.Path(path)
    where = one_line(path)
    if not path.is_dir():
        found = "a file" if path.exists() else "no such directory"
        raise DataError(f"{where}: found {found}, expected a folder with {_ACCEPTED}")
    passed_over = PassedOver()
    folders = list(folders_in(path, passed_over))
    if labels == "none" or all(part_of(name) == UNLABELLED for name in folders):
        return unlabelled_folder(path, size=size, resize=resize, channels=channels)
    _refuse_loose_images(path, passed_over)
    labelled, unlabelled, notes = _layout(path, folders, passed_over)
    files = {
        part: _classes(path, prefix, passed_over) for part, prefix in labelled.items()
    }
    names = sorted({name for classes in files.values() for name in classes})
    if len(names) < 2:
        raise DataError(
            f"{where}: found {len(names)} classes{_listing(names)}, expected at least "
            f"2: {_ACCEPTED}{_inside(path, names)}{ADVICE}"
        )
    check_different(names, where=where)
    images, columns = _in_order(files, names)
    for folder in unlabelled:
        images += _images(path, f"{folder}/", passed_over)
    sizes = {part: sum(map(len, classes.values())) for part, classes in files.items()}
    sizes[UNLABELLED] = len(images) - len(columns)
    copies = _copies(path, images, labelled, sizes)
    if copies:
        notes = [*notes, f"{len(copies):,} copies in {labelled['database']} of others"]
    multi_hot = np.zeros((len(images), len(names)), np.float32)
    multi_hot[np.arange(len(columns)), columns] = 1
    return listed_source(
        "folder",
        root=path,
        files=images,
        labels=multi_hot,
        parts=consecutive_parts(**sizes),
        # Reports and logs show them, so they have to be writable as UTF-8.
        class_names=tuple(one_line(name) for name in names),
        multi_label=False,
        max_missing=0.0,
        where=where,
        size=size,
        resize=resize,
        channels=channels,
        passed_over=passed_over.counts,
        notes=notes,
        copies=copies,
    )


def _in_order(
    files: Mapping[str, Mapping[str, Sequence[str]]], names: Sequence[str]
) -> tuple[list[str], list[int]]:
    """The images of all parts and their classes' columns, part by part."""
    column = {name: index for index, name in enumerate(names)}
    images: list[str] = []
    columns: list[int] = []
    for classes in files.values():
        for name in sorted(classes):
            images += classes[name]
            columns += [column[name]] * len(classes[name])
    return images, columns


def _copies(
    path: pathlib.Path,
    images: Sequence[str],
    labelled: Mapping[str, str],
    sizes: Mapping[str, int],
) -> dict[int, int]:
    """Images of the database that an earlier part holds by the same name and content.

    Downloads of published splits hold the training images in both folders: as two
    images, one would be a query, and its copy in the database.
    """
    if "database" not in labelled:
        return {}
    earlier: dict[str, int] = {}
    copies: dict[int, int] = {}
    start = 0
    for part, prefix in labelled.items():
        for index in range(start, start + sizes[part]):
            name = images[index][len(prefix) :]
            if part != "database":
                earlier.setdefault(name, index)
            elif name in earlier:
                one, other = (path / images[i] for i in (earlier[name], index))
                if _same_content(one, other):
                    copies[index] = earlier[name]
        start += sizes[part]
    return copies


def _same_content(one: pathlib.Path, other: pathlib.Path) -> bool:
    if not one.stat().st_size or one.samefile(other):
        return False
    return filecmp.cmp(one, other, shallow=False)


def _layout(
    path: pathlib.Path, folders: Sequence[str], passed_over: PassedOver
) -> tuple[Mapping[str, str], Sequence[str], Sequence[str]]:
    """The prefix of the class folders of each part, the unlabelled folders, notes."""
    where = one_line(path)
    roles = {folder: part_of(folder) for folder in folders}
    unlabelled = [folder for folder, role in roles.items() if role == UNLABELLED]
    parts = {f: r for f, r in roles.items() if r not in (None, UNLABELLED)}
    others = [folder for folder, role in roles.items() if role is None]
    if parts and others:
        # Annotations and the like.
        with_images = [f for f in others if find_images(path / f)]
        for _ in range(len(others) - len(with_images)):
            passed_over.add(_EMPTY)
        others = with_images
    alone = next(iter(parts)) if len(parts) == 1 else ""
    if others and alone.lower() == "train" and not _has_class_folders(path / alone):
        return {"all": ""}, unlabelled, [f"{alone}/ taken for a class"]
    if others and parts:
        raise DataError(
            f"{where}: found parts ({'/ and '.join(map(one_line, parts))}/) beside "
            f"other folders{_listing(others)}, expected {_ACCEPTED}; move or rename "
            "either"
        )
    if others:
        _refuse_parts_in_classes(path, others)
        return {"all": ""}, unlabelled, _same_inside(path, others)
    folder_of: dict[str, str] = {}
    for folder, role in parts.items():
        assert role is not None
        other = folder_of.setdefault(role, folder)
        if other != folder:
            raise DataError(
                f"{where}: found both {one_line(other)}/ and {one_line(folder)}/ for "
                f"part {role}, expected one of them"
            )
    if "test" not in folder_of and "validation" in folder_of:
        folder_of["test"] = folder_of.pop("validation")
    found = "/ and ".join(map(one_line, parts))
    if "train" not in folder_of:
        raise DataError(
            f"{where}: found {found}/ and no train/, expected it too, or class folders "
            f"directly in {where}"
        )
    if "test" not in folder_of:
        raise DataError(
            f"{where}: found {found}/ and no test/, expected {where}/test too; or, "
            f"for a split that is drawn, data.path={where}/"
            f"{one_line(folder_of['train'])}"
        )
    notes = [
        f"{one_line(folder)}/ taken for part {part}"
        for part, folder in folder_of.items()
        if folder.lower() != part
    ]
    order = [p for p in ("train", "test", "validation", "database") if p in folder_of]
    return {part: f"{folder_of[part]}/" for part in order}, unlabelled, notes


def _has_class_folders(directory: pathlib.Path) -> bool:
    return any(
        find_images(directory / name) for name in folders_in(directory, PassedOver())
    )


def _refuse_parts_in_classes(path: pathlib.Path, classes: Sequence[str]) -> None:
    """Refuses `CLASS/train/` and `CLASS/test/`, which would be one pool."""
    for name in classes:
        inside = {f: part_of(f) for f in folders_in(path / name, PassedOver())}
        parts = {role: f for f, role in inside.items() if role is not None}
        if len(parts) > 1:
            found = ", ".join(f"{one_line(name)}/{one_line(parts[p])}" for p in parts)
            raise DataError(
                f"{one_line(path)}: found parts inside of a folder ({found}), "
                f"expected {_ACCEPTED}{_inside(path, [name])}"
            )


def _same_inside(path: pathlib.Path, classes: Sequence[str]) -> Sequence[str]:
    """A note where all folders hold the same folders: which of both are the classes?

    Raises:
        DataError: they hold at least as many as they are, such as `fold1/CAT/`,
            `fold1/DOG/`, `fold2/CAT/` and `fold2/DOG/`: parts by words of their own.
    """
    inside = [set(folders_in(path / name, PassedOver())) for name in classes]
    inner = sorted(inside[0])
    if len(classes) < 2 or len(inner) < 2 or any(each != inside[0] for each in inside):
        return []
    if any(find_images(path / name, recursive=False) for name in classes):
        return []
    what = f"the same folders{_listing(inner)} in each of{_listing(classes)}"
    if len(inner) < len(classes):
        return [f"{what}: these are taken for the classes"]
    raise DataError(
        f"{one_line(path)}: found {what}, expected classes that are no parts of "
        "a split; call parts train, test, validation or database, or list the images "
        f"in a table if these are the classes{ADVICE}"
    )


def _inside(path: pathlib.Path, names: Sequence[str]) -> str:
    """Advice where the folders of a data set lie one level deeper."""
    if len(names) != 1 or not (path / names[0]).is_dir():
        return ""
    folders = list(folders_in(path / names[0], PassedOver()))
    if len(folders) < 2:
        return ""
    inner = one_line(str(path / names[0]))
    return f"; data.path={inner} reads what is in it{_listing(folders)}"


def _classes(
    path: pathlib.Path, prefix: str, passed_over: PassedOver
) -> dict[str, list[str]]:
    """The images in each class folder of `path / prefix`, relative to `path`."""
    directory = path / prefix
    # Those of `path` itself have been counted.
    folders = list(folders_in(directory, passed_over if prefix else PassedOver()))
    if not prefix:
        folders = [name for name in folders if part_of(name) != UNLABELLED]
    if prefix:
        if folders:
            _refuse_loose_images(directory, passed_over)
        for name in folders:
            if part_of(name) not in (None, UNLABELLED) and _has_class_folders(
                directory / name
            ):
                raise DataError(
                    f"{one_line(directory)}: found {one_line(name)}/ with "
                    f"folders in it, expected the images of a class"
                )
    found = {name: _images(path, f"{prefix}{name}/", passed_over) for name in folders}
    classes = {name: images for name, images in found.items() if images}
    if not classes:
        raise DataError(
            f"{one_line(directory)}: found no class folders with images, "
            "expected one for each class, with its images in it"
        )
    return classes


def _images(path: pathlib.Path, prefix: str, passed_over: PassedOver) -> list[str]:
    """All images below `path / prefix`, relative to `path`; none is counted."""
    here = PassedOver()
    images = find_images(path / prefix, passed_over=here)
    if not images:
        unread = [(kind, unread_pictures(kind)) for kind in here.counts]
        unread = [(kind, what_to_do) for kind, what_to_do in unread if what_to_do]
        if unread:
            kind, what_to_do = unread[0]
            raise DataError(
                f"{one_line(path / prefix)}: found {here.counts[kind]} {kind} "
                f"files and no image that can be read here, expected some; {what_to_do}"
            )
        here.add(_EMPTY)
    passed_over.update(here)
    return [prefix + image for image in images]


def _refuse_loose_images(directory: pathlib.Path, passed_over: PassedOver) -> None:
    loose = find_images(directory, recursive=False, passed_over=passed_over)
    if loose:
        raise DataError(
            f"{one_line(directory)}: found {len(loose)} images outside of its "
            f"folders (first {one_line(loose[0])}), expected all in class folders or "
            f"in an unlabelled folder{ADVICE}"
        )


def _listing(names: Sequence[str]) -> str:
    """` (a, b, ...)`, for messages; nothing of nothing."""
    few = [one_line(name) for name in names[:_MAX_NAMED]]
    if len(names) > _MAX_NAMED:
        few.append("...")
    return f" ({', '.join(few)})" if few else ""
