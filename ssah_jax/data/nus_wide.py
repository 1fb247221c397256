"""NUS-WIDE: 269,648 photographs from Flickr, each with any of 81 concepts.

Source: Chua, Tang, Hong, Li, Luo, Zheng, "NUS-WIDE: A Real-World Web Image Database
from National University of Singapore", CIVR 2009,
https://doi.org/10.1145/1646396.1646452. Read from the data set's folder, whatever the
case of the letters:

- `ImageList/Imagelist.txt` or `Imagelist.txt`: every image, a line each, such as
  `actor\\0001_2124494179.jpg`;
- beside it, `TrainImagelist.txt` and `TestImagelist.txt`: the official parts, optional;
- `Groundtruth/AllLabels` or `AllLabels`: `Labels_airport.txt` to `Labels_zebra.txt`, a
  line of 0 or 1 for each line of the list;
- `Flickr`, `images` or `image`: the images, stored by the name in the list, by its last
  part (`0001_2124494179.jpg`) or by the photograph's number at Flickr
  (`2124494179.jpg`).

`Groundtruth/TrainTestLabels` is not read: it repeats the labels in the order of the
official parts.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from ssah_jax.data.encoded import image_files
from ssah_jax.data.images import Resize
from ssah_jax.data.listing import read_bytes
from ssah_jax.data.source import DataError, Source
from ssah_jax.data.spelling import check_missing, find_files
from ssah_jax.retrieval.files import one_line

_NAMES = """
    airport animal beach bear birds boats book bridge buildings cars castle cat
    cityscape clouds computer coral cow dancing dog earthquake elk fire fish flags
    flowers food fox frost garden glacier grass harbor horses house lake leaf map
    military moon mountain nighttime ocean person plane plants police protest railroad
    rainbow reflection road rocks running sand sign sky snow soccer sports statue street
    sun sunset surf swimmers tattoo temple tiger tower town toy train tree valley
    vehicle water waterfall wedding whales window zebra
"""
_FREQUENT_NAMES = """
    animal beach buildings clouds flowers grass lake mountain ocean person plants
    reflection road rocks sky snow sunset tree vehicle water window
"""

CONCEPTS = tuple(_NAMES.split())
"""The 81 concepts, as `Concepts81.txt` names them."""

FREQUENT_CONCEPTS = tuple(_FREQUENT_NAMES.split())
"""The 21 concepts that the hashing literature keeps: those with over 5,000 images."""

_CONCEPTS = {len(names): names for names in (FREQUENT_CONCEPTS, CONCEPTS)}
_LISTS = ("ImageList/Imagelist.txt", "Imagelist.txt")
_OFFICIAL = {"train": "TrainImagelist.txt", "test": "TestImagelist.txt"}
_LABELS = ("Groundtruth/AllLabels", "AllLabels")
_IMAGES = ("Flickr", "images", "image")
_MAX_FOUND = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Listing:
    """Which images there are and what they show; no image has been opened.

    Attributes:
        root: the folder of the images.
        names: their files, relative to `root`, N of them, in the order of the list.
        labels: multi-hot labels in {0, 1}, `[N, C]`, at least one an image.
        parts: sorted indices by name: `all`, and `train` and `test` where both
            official lists are there.
        class_names: the C concepts.
        missing: files that would belong here and are not on the disk.
        notes: what was understood otherwise than it is written.
    """

    root: pathlib.Path
    names: tuple[str, ...]
    labels: UInt8[np.ndarray, "N C"]
    parts: Mapping[str, Int64[np.ndarray, "n"]]
    class_names: tuple[str, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...] = ()


def nus_wide_source(
    path: str | pathlib.Path,
    *,
    concepts: int = 21,
    images: str = "",
    size: int = 0,
    resize: Resize = "crop",
    channels: int = 3,
    max_missing: float = 0.05,
) -> Source:
    """NUS-WIDE from its folder.

    Args:
        path: the folder; the module's docstring says what is in it.
        concepts: 21, the most frequent ones (195,834 images in the full set), or 81
            (209,347); images that show none of them are left out.
        images: the folder of the images, relative to `path`; empty for the first of
            `Flickr`, `images` and `image` that is there.
        size: side of the square images delivered, in pixels; 0 as stored.
        resize: how an image becomes square.
        channels: 3 for colour, 1 for grey.
        max_missing: share of the images that may be absent, in [0, 1]; many links to
            Flickr were dead when the mirrors were made.

    Returns:
        A multi-label source with the part `all`, and `train` and `test` where the
        official lists are there.

    Raises:
        ValueError: another number of concepts.
        DataError: a file is absent, damaged, or does not fit the others.
    """
    listing = read_listing(
        path, concepts=concepts, images=images, max_missing=max_missing
    )
    return Source(
        name="nus_wide",
        images=image_files(
            listing.root, listing.names, size=size, resize=resize, channels=channels
        ),
        labels=listing.labels.astype(np.float32),
        parts=listing.parts,
        class_names=listing.class_names,
        multi_label=True,
        missing=listing.missing,
        notes=listing.notes,
    )


def read_listing(
    path: str | pathlib.Path,
    *,
    concepts: int = 21,
    images: str = "",
    max_missing: float = 0.05,
) -> Listing:
    """Everything about NUS-WIDE but its pixels; arguments and errors of `nus_wide`.

    Returns:
        The images on the disk that show at least one of the concepts.
    """
    if concepts not in _CONCEPTS:
        raise ValueError(f"concepts: found {concepts}, accepted are 21 and 81")
    path = pathlib.Path(path).expanduser()
    class_names = _CONCEPTS[concepts]
    list_file = _find(path, _LISTS)
    listed = _read_list(list_file)
    labels = _read_labels(
        _find(path, _LABELS), class_names, list_file=list_file, num_images=len(listed)
    )
    shown = labels.any(axis=1)
    if not shown.any():
        raise DataError(
            f"{path}: found no image that shows one of the {concepts} concepts, "
            "expected at least one"
        )
    root = _find(path, (images,) if images else _IMAGES)
    stored = _stored_names(root, listed)
    rows = np.flatnonzero(shown)
    found = find_files(root, [stored[row] for row in rows])
    check_missing(root, found, max_missing=max_missing, where=str(list_file))
    present = np.flatnonzero(found.first == np.arange(len(rows)))
    again = len(rows) - len(present) - len(found.missing)
    notes = (f"{again:,} further names of the same files",) if again else ()
    rows = rows[present]
    parts = {"all": np.arange(len(rows), dtype=np.int64)}
    for part, members in _official_parts(list_file, listed).items():
        parts[part] = np.flatnonzero(members[rows])
    return Listing(
        root=root,
        names=tuple(found.names[index] for index in present.tolist()),
        labels=labels[rows],
        parts=parts,
        class_names=class_names,
        missing=found.missing,
        notes=(*found.notes, *notes),
    )


def _find(path: pathlib.Path, accepted: Sequence[str]) -> pathlib.Path:
    """The first of `accepted` below `path` that is there, in upper or lower case."""
    if not path.is_dir():
        raise DataError(f"{path}: found no such folder, expected that of NUS-WIDE")
    for relative in accepted:
        found: pathlib.Path | None = path
        for component in pathlib.PurePath(relative).parts:
            found = _child(found, component) if found else None
        if found:
            return found
    raise DataError(f"{path}: found {_content(path)}, expected {' or '.join(accepted)}")


def _child(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """`folder/name`, else the same but for the case of its letters, else None."""
    if (folder / name).exists():
        return folder / name
    others = sorted(os.listdir(folder)) if folder.is_dir() else []
    same = [other for other in others if other.lower() == name.lower()]
    return folder / same[0] if same else None


def _content(folder: pathlib.Path) -> str:
    """The first few names in a folder, for a message."""
    names = sorted(os.listdir(folder))
    few = ", ".join(map(one_line, names[:_MAX_FOUND])) or "nothing"
    return few + (f" and {len(names) - _MAX_FOUND} more" * (len(names) > _MAX_FOUND))


def _read_list(file: pathlib.Path) -> list[str]:
    """The lines of an image list, which are all different, with forward slashes."""
    try:
        text = read_bytes(file).decode().rstrip()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: found {error}, expected UTF-8 text") from error
    if not text:
        raise DataError(f"{file}: found no lines, expected one for each image")
    lines = [line.strip().replace("\\", "/") for line in text.split("\n")]
    first: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line:
            raise DataError(f"{file}:{number}: found an empty line, expected an image")
        if first.setdefault(line, number) != number:
            raise DataError(
                f"{file}:{number}: found {line!r} as in line {first[line]}, "
                "expected each image once"
            )
    return lines


def _read_labels(
    folder: pathlib.Path,
    class_names: Sequence[str],
    *,
    list_file: pathlib.Path,
    num_images: int,
) -> UInt8[np.ndarray, "N C"]:
    """The labels of all listed images, {0, 1}, `[N, C]`."""
    labels = np.empty((len(class_names), num_images), np.uint8)
    for row, name in zip(labels, class_names, strict=True):
        file = folder / f"Labels_{name}.txt"
        if not file.is_file():
            raise DataError(
                f"{file}: found no such file, expected one for each of the "
                f"{len(class_names)} concepts"
            )
        values = _read_bits(file)
        if len(values) != num_images:
            raise DataError(
                f"{file}: found {len(values)} lines, expected {num_images}, one for "
                f"each line of {list_file.name}"
            )
        row[:] = values
    return np.ascontiguousarray(labels.T)


def _read_bits(file: pathlib.Path) -> UInt8[np.ndarray, "N"]:
    """The lines of a file, each of them 0 or 1, `[N]`."""
    # Without blanks every line is two bytes, so no line has to be looked at by Python.
    content = read_bytes(file).translate(None, b" \t\r").rstrip(b"\n")
    if not content:
        return np.zeros(0, np.uint8)
    pairs = np.frombuffer(content + b"\n", np.uint8)
    if len(pairs) % 2 == 0 and np.all(pairs[1::2] == ord("\n")):
        values = pairs[::2] - np.uint8(ord("0"))
        if np.all(values <= 1):
            return values
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line not in (b"0", b"1"):
            raise DataError(
                f"{file}:{number}: found {line.decode(errors='replace')!r}, "
                "expected 0 or 1"
            )
    raise AssertionError("a line that is no label has been seen and not been found")


def _stored_names(root: pathlib.Path, listed: Sequence[str]) -> list[str]:
    """The file of each listed image below `root`; whether it is there is not asked."""
    if not root.is_dir():
        raise DataError(f"{root}: found no folder, expected that of the images")
    entries = set(os.listdir(root))
    last_parts = [name.rpartition("/")[2] for name in listed]
    flickr_ids = [name.rpartition("_")[2] for name in last_parts]
    for names in (list(listed), last_parts, flickr_ids):
        if any(name.partition("/")[0] in entries for name in names):
            return names
    raise DataError(
        f"{root}: found {_content(root)}, expected images such as {listed[0]}, "
        f"{last_parts[0]} or {flickr_ids[0]}"
    )


def _official_parts(
    list_file: pathlib.Path, listed: Sequence[str]
) -> dict[str, Bool[np.ndarray, "N"]]:
    """Which listed images are in which official part; {} without both lists."""
    files = {part: _child(list_file.parent, name) for part, name in _OFFICIAL.items()}
    row_of = {name: row for row, name in enumerate(listed)}
    parts: dict[str, np.ndarray] = {}
    for part, file in files.items():
        if file is None:
            return {}
        members = np.zeros(len(listed), bool)
        for number, name in enumerate(_read_list(file), start=1):
            if name not in row_of:
                raise DataError(
                    f"{file}:{number}: found {name!r}, expected a line of "
                    f"{list_file.name}"
                )
            members[row_of[name]] = True
        parts[part] = members
    both = np.flatnonzero(parts["train"] & parts["test"])
    if len(both):
        raise DataError(
            f"{files['test']}: found {len(both)} images of {_OFFICIAL['train']} "
            f"(the first: {listed[both[0]]!r}), expected none"
        )
    return parts
