"""What checkpoints hold, compared bit by bit, and processes that write them."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import grain
import jax
import numpy as np
from commands import ROOT


def bits(tree: object) -> list[tuple[str, bytes]]:
    """Every leaf as dtype and raw bytes; a key as its words."""

    def raw(leaf: jax.Array) -> tuple[str, bytes]:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            name, leaf = str(leaf.dtype), jax.random.key_data(leaf)
        else:
            name = str(leaf.dtype)
        return f"{name}{leaf.shape}", np.asarray(leaf).tobytes()

    return [raw(leaf) for leaf in jax.tree.leaves(tree)]


def make_iterator(seed: int) -> grain.DatasetIterator:
    dataset = grain.MapDataset.range(50).seed(seed).shuffle().repeat()
    return iter(dataset.batch(4, drop_remainder=True).to_iter_dataset())


def in_a_process(script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run an indented script, whose argument is the directory, on one device."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), str(directory)],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
