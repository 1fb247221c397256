"""What `ssah encode --update` keeps of a file of codes, and labels of images."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ssah_jax.cli.two_stages import features_path
from ssah_jax.retrieval.code_columns import Stamp, stamps_of
from ssah_jax.retrieval.code_files import CodeSet, read_table
from ssah_jax.retrieval.code_writer import PART_ROWS, CodeWriter
from ssah_jax.retrieval.feature_files import KeptFeatures, KeptWriter, read_features
from ssah_jax.retrieval.files import CodeFileError, one_line

if TYPE_CHECKING:
    import ssah_jax.data.changes
    import ssah_jax.run.image_encoder


@dataclasses.dataclass(frozen=True, eq=False)
class Earlier:
    """A file of codes beside the images that it is to be of.

    Attributes:
        codes: what is in the file.
        stamps: of its rows' files.
        changes: since then.
        features: kept beside it, in the order of its rows; None without.
    """

    codes: CodeSet
    stamps: list[Stamp | None]
    changes: "ssah_jax.data.changes.Changes"
    features: KeptFeatures | None

    @staticmethod
    def compare(
        path: Path,
        encoder: "ssah_jax.run.image_encoder.ImageEncoder",
        names: Sequence[str],
        states: "Mapping[str, ssah_jax.data.changes.FileState]",
        *,
        keep: str | None,
    ) -> "Earlier":
        """Compares a file with images.

        Args:
            path: of the file.
            encoder: that its codes must be of.
            names: of the images.
            states: of their files.
            keep: type of the features that are to be kept beside it; None for those
                that are there, if any.

        Raises:
            CodeFileError: it is no file of codes, of another model, or of none of
                the images; or the features beside it are not those wanted.
        """
        from ssah_jax.data.changes import find_changes

        table, codes = read_table(path)
        for name in ("bits", "fingerprint"):
            found, wanted = getattr(codes, name), getattr(encoder, name)
            if found != wanted:
                raise CodeFileError(
                    f"{one_line(path)}: found codes with {name} {found}, expected "
                    f"{wanted} of this model; --overwrite encodes all images anew"
                )
        stamps = stamps_of(table)
        changes = find_changes(states, names, codes.ids, stamps)
        if codes.ids and not changes.rows and not changes.changed:
            raise CodeFileError(
                f"{one_line(path)}: found none of its {len(codes.ids)} images among "
                "those given, expected at least one; --overwrite forgets them all"
            )
        return Earlier(codes, stamps, changes, _features_before(path, codes, keep))

    def stays(
        self, names: Sequence[str], labels: Mapping[str, Sequence[str]] | None
    ) -> bool:
        """Whether the file already is what it is to become."""
        return (
            list(self.codes.ids) == list(names)
            and self.changes.unchanged == len(names)
            and list(self.changes.stamps.values()) == self.stamps
            and (
                labels is None
                or tuple(tuple(labels.get(n, ())) for n in names) == self.codes.labels
            )
        )

    def write_kept(
        self,
        writer: CodeWriter,
        kept: KeptWriter | None,
        *,
        labels: Mapping[str, Sequence[str]] | None,
    ) -> None:
        """Writes the rows that are kept, but those that are written already.

        Args:
            writer: of the file.
            kept: writer of the features beside it, if there are any.
            labels: of images, by name; None to keep those that the rows have.
        """
        rows, stamps = self.changes.rows, self.changes.stamps
        names = [name for name in rows if name not in writer.done]
        for start in range(0, len(names), PART_ROWS):
            some = names[start : start + PART_ROWS]
            if labels is not None:
                known = [labels.get(name) for name in some]
            else:
                before = self.codes.labels
                known = [before[rows[n]] or None if before else None for n in some]
            # Before the codes: what is written of these has its features.
            theirs = [rows[name] for name in some]
            if kept is not None and self.features is not None:
                kept.write_stored(self.features[theirs])
            writer.write_packed(
                some,
                self.codes.packed[theirs],
                labels=known,
                stamps=[stamps[name] for name in some],
            )


def _features_before(
    path: Path, codes: CodeSet, keep: str | None
) -> KeptFeatures | None:
    """The features beside a file that is updated, in the order of its rows.

    Raises:
        CodeFileError: they are absent though wanted, of another type, or not those of
            its images.
    """
    beside = features_path(path)
    if not beside.is_file():
        if keep is None:
            return None
        raise CodeFileError(
            f"--keep: found no {one_line(beside)} beside the codes to update, accepted "
            "is --overwrite, which encodes all anew"
        )
    found = read_features(beside)
    if keep not in (None, found.stored):
        raise CodeFileError(
            f"--keep: found {keep}, accepted is {found.stored} as in "
            f"{one_line(beside)}, or --overwrite"
        )
    if found.fingerprint != codes.fingerprint:
        raise CodeFileError(
            f"{one_line(beside)}: found features of model {found.fingerprint}, "
            f"expected {codes.fingerprint} as of the codes; delete it"
        )
    return found.of(codes.ids)


def describe_changes(changes: "ssah_jax.data.changes.Changes") -> str:
    """How many images became what, in one line."""
    kinds = ("new", "changed", "unchanged", "renamed", "copied", "gone")
    counts = ((kind, getattr(changes, kind)) for kind in kinds)
    return "since the last time: " + ", ".join(
        f"{count} {kind}" for kind, count in counts
    )


def labels_of(
    names: Sequence[str], wanted: str, *, arguments: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Names of what images show.

    Args:
        names: of the images.
        wanted: "folders", or a table as `ssah_jax.data.table` reads it.
        arguments: that the images were found by.

    Returns:
        By name, for images whose labels are known.

    Raises:
        DataError: the table cannot be read, or names none of the images.
    """
    from ssah_jax.data.source import DataError
    from ssah_jax.data.spelling import file_identity
    from ssah_jax.data.table import read_tags
    from ssah_jax.retrieval.files import one_line

    if wanted == "folders":
        roots = [os.path.join(a, "") for a in arguments if os.path.isdir(a)]
        classes = {name: _class_folder(name, roots) for name in names}
        return {name: found for name, found in classes.items() if found}
    tags = {
        file_identity(os.path.join(os.path.dirname(wanted), path)): found
        for path, found in read_tags(wanted)
    }
    labels = {
        name: found
        for name in names
        if (identity := file_identity(name)) and (found := tags.get(identity))
    }
    if not labels:
        raise DataError(
            f"{one_line(wanted)}: found none of the {len(names)} images in column "
            "'path', expected paths relative to the table, or absolute ones"
        )
    return labels


def _class_folder(name: str, roots: Sequence[str]) -> tuple[str, ...]:
    """The class of an image, as `ssah_jax.data.folder` takes it from its folders."""
    from ssah_jax.data.naming import part_of
    from ssah_jax.retrieval.files import one_line

    root = next((root for root in roots if name.startswith(root)), None)
    if root is None:
        folder = os.path.basename(os.path.dirname(name))
        return (one_line(folder),) if folder not in ("", ".", "..") else ()
    folders = name.removeprefix(root).split("/")[:-1]
    part = part_of(folders[0]) if folders else None
    if part == "unlabelled":
        return ()
    if part and len(folders) > 1:
        folders = folders[1:]
    return (one_line(folders[0]),) if folders else ()
