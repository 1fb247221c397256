"""A user's own images, in a table of paths and tags."""

import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from jaxtyping import Float32

from ssah_jax.data.images import Resize
from ssah_jax.data.listing import UNLABELLED, image_root, listed_source
from ssah_jax.data.naming import check_different, part_of
from ssah_jax.data.source import DataError, Source
from ssah_jax.data.table_rows import Row, as_tags, read_rows
from ssah_jax.data.unlabelled import ADVICE, Labelling, Labels, without_labels
from ssah_jax.retrieval.files import one_line

_UNLABELLED: Final = UNLABELLED
_PARTS: Final = ("train", "test", "validation", "database", _UNLABELLED)
_SEPARATORS: Final = (",", ";", "|", "/", "&", "+", ":", "\n", "\t", " ")


def image_table(
    table: str | pathlib.Path,
    *,
    images: str = "",
    separator: str = "|",
    size: int = 0,
    resize: Resize = "crop",
    channels: int = 3,
    multi_label: bool | None = None,
    max_missing: float = 0.0,
    labels: Labels = "auto",
) -> Source:
    """Images of a table with the columns `path`, `labels` and perhaps `part`.

    `labels` holds tags joined by `separator`; an image without any is one whose labels
    nobody knows, and is in part `unlabelled`. `part` is `train`, `test`, `validation`,
    `database` or `unlabelled`, or another word for them (see `naming.part_of`); without
    that column, or where it is empty in all rows with labels, these are in part `all`.
    Blanks around cells and tags do not count. Other columns are not read. A file by
    several paths is one image.

    Args:
        table: a .csv file (with commas and double quotes), a .tsv file (with tabs) or
            a .parquet file, where `labels` may also be a list of strings. Text is in
            UTF-8 or UTF-16; another delimiter is taken where the names of the columns
            show it, or Excel's first line `sep=;`. Case does not matter in these names.
        images: the folder that paths are relative to, itself relative to that of the
            table; empty for that of the table. Paths may be absolute.
        separator: between tags; lists are not split.
        size: side of the square images delivered, in pixels; 0 as stored.
        resize: how an image becomes square.
        channels: 3 for colour, 1 for grey.
        multi_label: whether an image may show several classes; None where a row that
            does is to tell.
        max_missing: share of the images that may be absent, in [0, 1].
        labels: "none" reads no other column than `path`, and takes all images without
            labels.

    Returns:
        A source whose pool is in the order of the table, and whose classes are all
        tags, sorted.

    Raises:
        DataError: the table cannot be read, or a row says something else than above,
            repeats a path or has several tags where `multi_label` is False; there are
            fewer than two classes, or some that differ only in upper and lower case;
            tags are plainly separated by something else; too many images are absent.
        ValueError: `separator` is empty.
    """
    if not separator:
        raise ValueError("separator: found none, expected what stands between labels")
    table = pathlib.Path(table)
    where = one_line(table)
    notes: list[str] = []
    labelled = labels != "none"
    found = read_rows(table, separator, notes, labelled=labelled)
    rows = list(_checked(found, where))
    root = image_root(table.parent, images)
    known = (
        _labelling(rows, separator, multi_label, where)
        if labelled
        else without_labels(len(rows))
    )
    return listed_source(
        "table",
        root=root,
        files=tuple(row.path for row in rows),
        labels=known.labels,
        parts=known.parts,
        class_names=known.class_names,
        multi_label=known.multi_label,
        max_missing=max_missing,
        where=where,
        size=size,
        resize=resize,
        channels=channels,
        place=lambda index: rows[index].where,
        notes=notes,
    )


def _labelling(
    rows: Sequence[Row], separator: str, multi_label: bool | None, where: str
) -> Labelling:
    """What the rows say of their images, if that makes sense."""
    _check_separator(rows, separator, where, several=bool(multi_label))
    class_names = sorted({tag for row in rows for tag in row.tags})
    if len(class_names) < 2:
        raise DataError(
            f"{where}: found {len(class_names)} classes in {len(rows)} rows, expected "
            f"at least 2 in column 'labels'{ADVICE}"
        )
    check_different(class_names, where=f"{where} column 'labels'")
    several = [row for row in rows if len(row.tags) > 1]
    if several and multi_label is False:
        raise DataError(
            f"{several[0].where}: found the labels {', '.join(several[0].tags)}, "
            "expected one label (or multi_label=True)"
        )
    return Labelling(
        labels=_multi_hot([row.tags for row in rows], class_names),
        parts=_parts(rows),
        class_names=class_names,
        multi_label=bool(several) if multi_label is None else multi_label,
    )


def read_tags(
    table: str | pathlib.Path, *, separator: str = "|"
) -> list[tuple[str, tuple[str, ...]]]:
    """Paths and tags of a table, whether their files are there or not.

    Args:
        table: as `image_table` takes it.
        separator: between tags.

    Returns:
        The rows that have tags, in the order of the table.

    Raises:
        DataError: the table cannot be read, a row says something else, or tags are
            plainly separated by something else.
    """
    table = pathlib.Path(table)
    where = one_line(table)
    rows = list(_checked(read_rows(table, separator, []), where))
    _check_separator(rows, separator, where)
    return [(row.path, tuple(row.tags)) for row in rows if row.tags]


def _checked(rows: Iterable[Row], where: str) -> Iterator[Row]:
    """`rows`, each of which alone or with earlier ones makes sense, with their part."""
    first: dict[str, str] = {}
    labelled: dict[str, str] = {}
    for row in rows:
        if not row.path:
            raise DataError(f"{row.where}: found an empty path, expected an image")
        if first.setdefault(row.path, row.where) != row.where:
            raise DataError(
                f"{row.where}: found {row.path!r} as in {first[row.path]}, expected "
                "each image once"
            )
        part = _part(row)
        if part != _UNLABELLED:
            labelled.setdefault(part, row.where)
            # Protocols that ask for parts would never see such an image.
            if "all" in labelled and len(labelled) > 1:
                named = next(name for name in labelled if name != "all")
                raise DataError(
                    f"{labelled['all']}: found an empty part, but {named!r} in "
                    f"{labelled[named]}, expected a part for all labelled images or "
                    "for none"
                )
        yield row._replace(part=part)
    if not first:
        raise DataError(f"{where}: found no rows, expected one for each image")


def _part(row: Row) -> str:
    part = (part_of(row.part) or row.part) if row.part else ""
    if part and part not in _PARTS:
        raise DataError(
            f"{row.where}: found the part {part!r}, accepted are {', '.join(_PARTS)} "
            "or nothing"
        )
    if row.tags and part == _UNLABELLED:
        raise DataError(
            f"{row.where}: found the labels {', '.join(row.tags)} in part unlabelled, "
            "expected none"
        )
    if not row.tags and part in ("test", "validation", "database"):
        raise DataError(
            f"{row.where}: found no labels in part {part}, expected at least one"
        )
    return part or "all" if row.tags else _UNLABELLED


def _parts(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    parts = np.array([row.part for row in rows])
    return {
        part: np.flatnonzero(parts == part).astype(np.int64)
        for part in ("all", *_PARTS)
        if np.any(parts == part)
    }


def _multi_hot(
    tags: Sequence[Sequence[str]], class_names: Sequence[str]
) -> Float32[np.ndarray, "N C"]:
    column = {name: index for index, name in enumerate(class_names)}
    labels = np.zeros((len(tags), len(class_names)), np.float32)
    rows = np.repeat(np.arange(len(tags)), [len(of_row) for of_row in tags])
    labels[rows, [column[tag] for of_row in tags for tag in of_row]] = 1
    return labels


def _check_separator(
    rows: Sequence[Row], separator: str, where: str, *, several: bool = False
) -> None:
    """Refuses cells that another separator takes apart, where nobody uses this one.

    Another one it is where it leaves no more tags than there are different cells, and
    some of them also stand alone: `sea` and `sand` of `sea,sand` and `sea`. `Paris,
    France` beside `Rome, Italy` are names with a comma, unless images are said to have
    `several` tags and at least half of the cells have one of these.
    """
    cells = [row.cell for row in rows if row.cell and row.cell[0] != "["]
    if not cells or any(separator in cell for cell in cells):
        return
    different = set(cells)
    for other in _SEPARATORS:
        using = [cell for cell in cells if len(as_tags(cell.split(other))) > 1]
        if not using:
            continue
        alone = {cell for cell in different if other not in cell}
        tags = {tag for cell in different for tag in as_tags(cell.split(other))}
        # Words of names repeat too (red cat, red dog), so blanks need more than that.
        many = 2 * len(tags) <= len(different)
        some = len(tags) <= len(different) and bool(alone & tags)
        said = several and 2 * len(using) >= len(cells)
        if (many and some) if other == " " else (many or some or said):
            raise DataError(
                f"{where}: found {one_line(using[0])!r} and no {separator!r} in any "
                f"cell of 'labels', but {other!r} in {len(using)} of {len(cells)}, "
                f"expected {separator!r} between tags; data.separator={other!r} makes "
                f"{len(tags)} classes instead of {len(different)}"
            )
