"""Golden values of the losses, made by PyTorch: the inputs, and how to make them anew.

    python tests/golden/make_losses.py

writes losses.json beside this file from benchmarks/torch_losses.py, in float64, and
prints what changed. It needs PyTorch; the tests that read the file do not.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("losses.json")
TORCH_LOSSES = Path(__file__).parents[2] / "benchmarks" / "torch_losses.py"
BITS, CLASSES = 6, 4


def single(rng, rows):
    return np.eye(CLASSES)[rng.permutation(np.arange(rows) % CLASSES)]


def several(rng, rows):
    labels = single(rng, rows)
    return np.maximum(labels, rng.random(labels.shape) < 0.25)


def codes(rng, rows):
    # Float32 values, so that both sides start from the same numbers; inside (-1, 1),
    # where all the losses are defined alike and away from their kinks.
    return np.tanh(rng.normal(size=(rows, BITS))).astype(np.float32).astype(float)


def pair_cases():
    """Name -> u `[B, K]`, v `[M, K]`, similar `[B, M]`, where `[B, M]`."""
    cases = {}
    for seed, (name, draw, rows, columns) in enumerate(
        (
            ("single label", single, 5, 5),
            ("several labels", several, 5, 5),
            ("masked", several, 5, 5),
            ("bank", single, 3, 8),
        )
    ):
        rng = np.random.default_rng(seed)
        u, labels = codes(rng, rows), draw(rng, rows)
        v, others = codes(rng, columns), draw(rng, columns)
        where = np.ones((rows, columns), bool)
        if name == "masked":
            where = rng.random((rows, columns)) < 0.7
            where[1] = False
        if name == "bank":  # Slots not filled yet: zero codes without labels.
            v[-2:], others[-2:], where[:, -2:] = 0.0, 0.0, False
        cases[name] = u, v, labels @ others.T > 0, where
    return cases


def pointwise_cases():
    """Name -> u `[B, K]`, labels `[B, C]`, centres `[C, K]`, ties `[K]`, where `[B]`.

    Of these centres two or more sum to 0 on some bits, so that ties count.
    """
    cases = {}
    for seed, (name, draw) in enumerate(
        (("single label", single), ("several labels", several), ("masked", several))
    ):
        rng = np.random.default_rng(10 + seed)
        u, labels = codes(rng, 5), draw(rng, 5)
        centres = np.where(rng.random((CLASSES, BITS)) < 0.5, 1.0, -1.0)
        ties = np.where(rng.random(BITS) < 0.5, 1.0, -1.0)
        where = np.ones(5, bool)
        if name == "masked":
            where = np.array([True, False, True, True, True])
            labels[3] = 0.0  # A row without labels.
        cases[name] = u, labels, centres, ties, where
    return cases


def torch_losses():
    """The module of PyTorch versions, which is not on the path."""
    spec = importlib.util.spec_from_file_location("torch_losses", TORCH_LOSSES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def graded(loss, *codes):
    """Value of a PyTorch loss of codes, and its gradient with respect to each."""
    import torch

    codes = [torch.tensor(x, requires_grad=True) for x in codes]
    value = loss(*codes)
    value.backward()
    return [value.item(), *(x.grad.numpy().round(9).tolist() for x in codes)]


def values():
    """`{case: {loss: [value, gradient, ...]}}`, by PyTorch in float64."""
    import torch

    peer = torch_losses()
    found = {}
    for name, (u, v, similar, where) in pair_cases().items():
        mask = [torch.tensor(similar), torch.tensor(where)]
        for method, loss in (peer.PAIRWISE | peer.RANKING).items():
            result = graded(lambda u, v, f=loss, m=mask: f(u, v, *m), u, v)
            found.setdefault(f"pairs: {name}", {})[method] = result
    for name, (u, labels, centres, ties, where) in pointwise_cases().items():
        y, t, mask = (torch.tensor(x) for x in (labels, ties, where))
        for method, loss in peer.POINTWISE.items():
            extra = [t, mask] if method == "csq" else [mask]
            if method == "greedyhash":  # The only centres that are trained.
                result = graded(
                    lambda u, c, f=loss, y=y, m=mask: f(u, y, c, m), u, centres
                )
            else:
                c = torch.tensor(centres)
                result = graded(lambda u, f=loss, a=(y, c, *extra): f(u, *a), u)
            found.setdefault(f"points: {name}", {})[method] = result
    return found


def main():
    """Write the file; print each entry that is new, gone or different."""
    old = json.loads(FILE.read_text()) if FILE.exists() else {}
    new = values()
    for case in sorted(old.keys() | new.keys()):
        before, after = old.get(case, {}), new.get(case, {})
        for method in sorted(before.keys() | after.keys()):
            a, b = before.get(method), after.get(method)
            if a != b:
                said = [None if x is None else x[0] for x in (a, b)]
                print(f"{case}: {method}: {said[0]} -> {said[1]}")
    lines = []
    for case, methods in new.items():
        rows = [f"    {json.dumps(k)}: {json.dumps(v)}" for k, v in methods.items()]
        lines.append(f"  {json.dumps(case)}: {{\n" + ",\n".join(rows) + "\n  }")
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
