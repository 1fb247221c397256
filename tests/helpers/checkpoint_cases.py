"""What is saved in checkpoints, and what of it is compared: every bit."""

import grain
import jax
import numpy as np


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
