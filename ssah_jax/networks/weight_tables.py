"""Weights of others, from PyTorch's tensors, as the variables of our backbones."""

import re
from collections.abc import Iterator, Mapping

import flax
import flax.linen as nn
import jax
import numpy as np

from ssah_jax.networks.backbones import SPECS, Classifier, build_backbone
from ssah_jax.networks.torch_names import Leaf, Transform


class WeightsError(ValueError):
    """A file of weights that cannot be read, or does not fit the network."""


CONVERTIBLE = tuple(name for name, spec in SPECS.items() if spec.table)
"""Backbones that others' weights exist for."""


def convert(
    name: str, tensors: Mapping[str, np.ndarray], *, network: nn.Module | None = None
) -> dict[str, dict]:
    """Turn a PyTorch network's tensors into a backbone's variables.

    Every tensor is accounted for: counters of batches and the classifier (unless the
    network is a `Classifier`) are left out because the table says so, and anything
    else that is missing, extra or of another shape is an error. Batch statistics are
    given to both domains.

    Args:
        name: one of `BACKBONES` that has a table.
        tensors: by torchvision's, timm's or the authors' names.
        network: whose variables are wanted: the backbone `name` with other options,
            or a `Classifier` of it; None for the backbone with its default ones.

    Returns:
        {"params": ..., "batch_stats": ...}, nested dictionaries of float32 arrays
        with exactly the names and shapes of the network's variables ("batch_stats"
        is empty where it has none).

    Raises:
        WeightsError: in one line, with the first few tensors of each kind.
    """
    table = SPECS[name].table if name in SPECS else None
    if table is None:
        raise WeightsError(
            f"weights: found the backbone {name!r}, for which no PyTorch names are "
            f"known; accepted are {', '.join(CONVERTIBLE)}"
        )
    network = build_backbone(name) if network is None else network
    wanted = _shapes(name, network)
    classifier = isinstance(network, Classifier)
    found: dict[tuple[str, ...], np.ndarray] = {}
    extra, misshapen = [], []
    rules = [
        (re.compile(pattern + re.escape(leaf.suffix)), ours, leaf)
        for pattern, ours, leaves in table()
        for leaf in leaves
    ]
    for torch_name, tensor in tensors.items():
        matches = list(_leaves(torch_name, rules))
        if not matches:
            extra.append(f"{torch_name} {tensor.shape}")
        for path, transform in matches:
            if not path or (path[1] == "logits" and not classifier):
                continue
            if classifier and path[1] != "logits":
                path = (path[0], "backbone", *path[1:])
            if path not in wanted and "stats_generated" in path:
                continue  # Of a network whose domains share them.
            value = transform(tensor)
            if path not in wanted or path in found:
                extra.append(f"{torch_name} {tensor.shape}")
            elif value.shape != wanted[path]:
                misshapen.append(
                    f"{torch_name} (found {value.shape}, accepted {wanted[path]})"
                )
            found[path] = value
    missing = ["/".join(path) for path in wanted if path not in found]
    problems = [
        f"{len(names)} {kind}: {', '.join(names[:3])}{', ...' * (len(names) > 3)}"
        for kind, names in (
            ("missing", missing),
            ("extra", list(dict.fromkeys(extra))),
            ("misshapen", list(dict.fromkeys(misshapen))),
        )
        if names
    ]
    if problems:
        raise WeightsError(f"weights of {name}: found {'; '.join(problems)}")
    variables = flax.traverse_util.unflatten_dict(
        {path: np.ascontiguousarray(x, np.float32) for path, x in found.items()}
    )
    return {"params": {}, "batch_stats": {}} | variables


def _leaves(
    torch_name: str, rules: list[tuple[re.Pattern[str], str, Leaf]]
) -> Iterator[tuple[tuple[str, ...], Transform]]:
    """Paths and transforms of a tensor; an empty path for what is left out."""
    for pattern, ours, leaf in rules:
        match = pattern.fullmatch(torch_name)
        if match:
            layer = match.expand(ours).split("/")
            path = [layer if part == "{}" else [part] for part in leaf.path]
            yield tuple(part for parts in path for part in parts), leaf.transform


def _shapes(name: str, network: nn.Module) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Shape of every variable of a network, of both domains, by path."""

    def visit(network: nn.Module, image: jax.Array) -> None:
        for domain in ("clean", "generated"):
            network(image, domain=domain, train=False)

    # Parameters do not depend on the image's size: a small one is traced faster.
    side = SPECS[name].smallest
    image = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
    variables = jax.eval_shape(nn.init(visit, network), jax.random.key(0), image)
    flat = flax.traverse_util.flatten_dict(variables)
    return {path: x.shape for path, x in flat.items()}
