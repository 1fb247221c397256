"""What a checkpoint says of itself, by which one that was damaged is known.

A digest lies in each as an item of its own: of the tree, of the numbers in it, of the
positions of the data iterators, and the metric. Those of earlier versions have none.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ssah_jax.run import processes
from ssah_jax.run.state_tree import KeyPath, description

DIGEST = "digest"
"""The name of the item."""

METRIC = "map"
"""The name under which a checkpoint's metric is stored; higher is better."""


class CheckpointError(ValueError):
    """A checkpoint is missing, or is not one of the state it should be restored to."""


class DamagedCheckpoint(CheckpointError):
    """A checkpoint is not what was saved.

    Attributes:
        step: of it.
    """

    def __init__(self, directory: Path, step: int, reason: str) -> None:
        """Says which, and why."""
        super().__init__(f"{directory}: step {step} is damaged ({reason})")
        self.step = step


def digest_of(
    state: Any,
    tree: Mapping[KeyPath, Any],
    iterators: Mapping[str, Any],
    metric: float | None,
) -> dict[str, Any]:
    """The digest of what is about to be saved.

    Args:
        state: a pytree of arrays.
        tree: the same by path.
        iterators: positions by name, as JSON has them.
        metric: what is stored as such; None without.
    """
    return {
        "tree": description(tree),
        "state": processes.digest(state),
        "iterators": iterators,
        METRIC: metric,
    }


def read_json(folder: Path, name: str = "metadata") -> Any:
    """What Orbax's handler of JSON wrote."""
    return json.loads((folder / name).read_text())


def damaged_metrics(directory: Path) -> Iterator[int]:
    """Steps whose metric is not that saved: they might be taken for the best."""
    if not directory.is_dir():
        return
    names = [path.name for path in directory.iterdir()]
    for step in sorted(int(name) for name in names if name.isdecimal()):
        folder = directory / str(step)
        try:
            saved = read_json(folder / DIGEST)[METRIC]
            found = None
            if (folder / "metrics").is_dir():
                found = read_json(folder / "metrics", "metrics")[METRIC]
        except FileNotFoundError:
            continue  # half removed, or of an earlier version
        except (ValueError, LookupError, TypeError):
            yield step
        else:
            if saved != found:
                yield step
