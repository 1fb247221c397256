"""What a run is, in a few lines for the terminal before its first step."""

from collections.abc import Sequence

import jax
import numpy as np

from ssah_jax.networks import backbone_scope
from ssah_jax.run import processes
from ssah_jax.run.opening import Run
from ssah_jax.types import Params


def overview(run: Run, *, log: Sequence[str] = ()) -> list[str]:
    """Data, networks with their parameters, devices, steps, and where it writes.

    Args:
        run: an open one.
        log: the trackers that it is told to.

    Returns:
        Lines of a name and what there is to say of it, aligned.
    """
    experiment, config = run.experiment, run.experiment.config
    split, state = experiment.split, run.state
    shape = " x ".join(map(str, experiment.image_shape))
    backbone = state.hnet.get(backbone_scope(config.hnet.backbone), {})
    hnet, anet = count_parameters(state.hnet), count_parameters(state.anet)
    several = f" in {jax.process_count()} processes" if processes.several() else ""
    frozen = f", {config.hnet.frozen_stages} stages frozen"
    batch, num_classes = config.batch, experiment.source.num_classes
    rows = {
        "data": f"{experiment.source.name}, images of {shape}, "
        + (f"{num_classes} classes" if num_classes else "without labels"),
        "split": f"{len(split.labelled):,} labelled, {len(split.unlabelled):,} "
        f"unlabelled, {len(split.database):,} in the database, "
        f"{len(split.query):,} queries, {len(split.validation):,} for validation",
        "H-Net": f"{config.hnet.backbone}, {config.bits} bits, {hnet:,} parameters "
        f"({count_parameters(backbone):,} in the backbone"
        f"{frozen if config.hnet.frozen_stages else ''})",
        "A-Net": f"{config.anet.kind}, {anet:,} parameters",
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}{several}",
        "steps": f"{config.steps:,} of {batch.labelled} labelled and "
        f"{batch.unlabelled} unlabelled images",
        "writes": f"{run.workdir.path}{''.join(f', {word}' for word in log)}",
    }
    width = max(map(len, rows))
    return [f"  {name:<{width}}  {said}" for name, said in rows.items()]


def count_parameters(tree: Params) -> int:
    """How many numbers a tree of parameters holds."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
