"""What runs and commands left, as bytes that can be compared."""

import hashlib
import json
from pathlib import Path
from typing import Any

_TIMES = ("wall_seconds", "versions", "seal")
_RATES = ("seconds", "images_per_second", "data_wait")


def state_of(workdir: Path) -> str:
    """SHA-256 of the last checkpoint's every leaf, by its path."""
    import jax
    import numpy as np

    from ssah_jax.run import train_state
    from ssah_jax.run.checkpointing import open_checkpoints
    from ssah_jax.run.experiment import prepare
    from ssah_jax.run.workdir import Workdir

    run = Workdir(workdir)
    experiment = prepare(run.read_config())
    like = jax.eval_shape(lambda: train_state.init_state(experiment))
    with open_checkpoints(run.checkpoints, read_only=True) as checkpoints:
        state = checkpoints.restore(like)
    state = state.replace(key=jax.random.key_data(state.key))
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = np.asarray(leaf)
        digest.update(
            f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode()
        )
        digest.update(array.tobytes())
    return digest.hexdigest()


def results_of(workdir: Path) -> dict[str, Any]:
    """The results, without what a clock says."""
    found = json.loads((workdir / "results.json").read_text())
    return {name: value for name, value in found.items() if name not in _TIMES}


def metrics_of(workdir: Path) -> list[dict[str, Any]]:
    """The logged numbers, without what a clock says."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k not in _RATES} for line in lines
    ]


def run_of(workdir: Path, state: str) -> dict[str, Any]:
    """All of a finished run that must be equal."""
    return {
        "state": state,
        "results": results_of(workdir),
        "metrics": metrics_of(workdir),
        "files": sorted(
            str(p.relative_to(workdir))
            for p in workdir.rglob("*")
            if "checkpoints" not in p.parts
        ),
        "split": (workdir / "split.json").read_text(),
    }


def codes_of(path: Path) -> Any:
    """Everything in a file of codes."""
    from ssah_jax.retrieval import read_codes

    found = read_codes(path)
    return (
        found.ids,
        found.packed.tobytes(),
        found.bits,
        found.fingerprint,
        found.labels,
    )


def tree_of(path: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, or of a file."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return {
        str(file.relative_to(path.parent)): hashlib.sha256(
            file.read_bytes()
        ).hexdigest()
        for file in sorted(files)
    }
