"""Names of parts and of classes: which mean a part, which are one name by mistake."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from ssah_jax.data.source import DataError
from ssah_jax.retrieval.files import one_line

_WORDS: Final = {
    "train": ("train", "training", "trainset"),
    "test": ("test", "testing", "testset", "query", "queries", "probe"),
    "validation": ("val", "valid", "validation", "validate", "dev", "eval"),
    "database": ("database", "gallery", "retrieval", "db"),
    "unlabelled": ("unlabelled", "unlabeled", "nolabel", "unsupervised"),
}
_PART_OF: Final = {word: part for part, words in _WORDS.items() for word in words}
# What stands beside such a word and says nothing: train_images, test-set, seg_train.
_FILLERS: Final = {
    *("set", "data", "dataset", "image", "images", "img", "imgs", "split", "part"),
    *("folder", "dir", "seg", "files", "jpg", "png", "jpeg"),
}

# Cyrillic and Greek letters that look like Latin ones.
_TWINS: Final = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445"
    "\u0456\u0458\u0455\u0501\u04bb\u03bf\u03b1\u03bd",
    "aeopcyxijsdhoav",
)


def part_of(name: str) -> str | None:
    """The part of a data set that a word means, such as `test` for `Queries`.

    Args:
        name: of a folder or in a table; blanks, case, digits and words such as `set`
            or `images` do not matter.

    Returns:
        `train`, `test`, `validation`, `database`, `unlabelled`, or None for others.
    """
    words = re.split(r"[^a-z]+", unicodedata.normalize("NFC", name).strip().casefold())
    parts = [_PART_OF.get(word) for word in words if word and word not in _FILLERS]
    return parts[0] if len(parts) == 1 else None


def folded(name: str) -> str:
    """A name as people mean it: NFC, no blanks around it, no case."""
    return unicodedata.normalize("NFC", name.strip()).casefold()


def check_different(names: Sequence[str], *, where: str, kind: str = "class") -> None:
    """Checks that no two names are the same but for case, blanks and Unicode form.

    Args:
        names: of the classes, all different.
        where: what names them, for the message.
        kind: what they are names of.

    Raises:
        DataError: two are; one line that names both.
    """
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(folded(name), name)
        if other != name:
            one_form = unicodedata.normalize("NFC", name)
            how = "upper and lower case or blanks"
            if one_form == unicodedata.normalize("NFC", other):
                how = "their Unicode form (NFC and NFD)"
            raise DataError(
                f"{where}: found the {kind} names {_shown(other)} and {_shown(name)}, "
                f"which differ only in {how}, expected one name for one {kind}: "
                "rename one of them"
            )


def look_alikes(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Names that differ only in accents, blanks, signs, plurals or twins of letters.

    Args:
        names: of the classes, all different.

    Returns:
        Groups of two and more, in the order of their first names.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_skeleton(name), []).append(name)
    return [tuple(g) for key, g in groups.items() if key and len(g) > 1]


def twin_numbers(names: Sequence[str]) -> tuple[str, ...]:
    """Two names that are one whole number, such as 3 and 3.0; empty where none are.

    Tables turn the numbers of a column into such with decimals where one is absent.
    """
    first: dict[str, str] = {}
    for name in names:
        if found := re.fullmatch(r"([0-9]+)(\.0*)?", name.strip()):
            other = first.setdefault(found[1], name)
            if other != name:
                return other, name
    return ()


def _skeleton(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name).casefold().translate(_TWINS)
    kept = "".join(c for c in letters if c.isalnum())
    # Only of words: 3 and 3s are not one thing.
    return kept[:-1] if len(kept) > 3 and kept.endswith("s") else kept


def _shown(name: str) -> str:
    """A name in quotes; in escapes where it would look like its twin."""
    if unicodedata.normalize("NFC", name) != name:
        return repr(name.encode("ascii", "backslashreplace").decode())
    return repr(one_line(name))
