"""PyTorch's side of backbone_speed.py: the peers, and calls that can be timed."""

import copy
import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

CLASSES = 1000
MODES = ("forward", "training")
# Backbone -> the package, the maker and the name of its peer.
PEERS = {
    "alexnet": ("torchvision", "alexnet"),
    "vgg16": ("torchvision", "vgg16"),
    "resnet18": ("torchvision", "resnet18"),
    "resnet50": ("torchvision", "resnet50"),
    "efficientnet_lite0": ("timm", "tf_efficientnet_lite0"),
    "vit_b16": ("torchvision", "vit_b_16"),
    "vit_s14": ("timm", "vit_small_patch14_dinov2"),
}

Key = tuple[str, str]
"""Data type and mode."""

Call = Callable[[int], np.ndarray]
"""Runs so many times, waits for the last, and returns its logits or loss."""


def seconds(call: Call, times: int = 1) -> float:
    """Wall time of one of `times` runs in a row."""
    start = time.perf_counter()
    call(times)
    return (time.perf_counter() - start) / times


def torch_model(name: str, size: int) -> Any:
    """A peer without dropout, weights drawn."""
    import torch

    torch.manual_seed(0)
    package, maker = PEERS[name]
    options = {"image_size": size} if name == "vit_b16" else {}
    options |= {"img_size": size} if name == "vit_s14" else {}
    if package == "timm":
        model = importlib.import_module("timm").create_model(
            maker, num_classes=CLASSES, **options
        )
    else:
        models = importlib.import_module("torchvision").models
        model = getattr(models, maker)(num_classes=CLASSES, **options)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    # What starts at zero would hide what differs: torchvision's last layer of ViT.
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    return model


def torch_calls(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    device: str,
    wanted: Sequence[str],
    compiled: bool,
) -> tuple[dict[Key, Call], str, dict[Key, np.ndarray]]:
    """Calls by data type and mode, their layout, and what each returns at first.

    With `compiled`, `torch.compile` makes them, in the layout that is faster eager.
    """
    import torch

    # What JAX does by default.
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True

    place = torch.device("cuda" if device == "gpu" else "cpu")
    y = torch.from_numpy(labels).to(place)

    def calls_of(layout: str, compiling: bool = False) -> dict[Key, Call]:
        order = {"memory_format": getattr(torch, layout)}
        net = copy.deepcopy(model).to(place, **order)
        net = torch.compile(net) if compiling else net
        x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(place, **order)

        def make(dtype: str, mode: str) -> Call:
            learns, rough = mode == "training", dtype == "bfloat16"

            def call(times: int) -> Any:
                net.train(learns)
                for _ in range(times):
                    net.zero_grad(set_to_none=True)
                    with (
                        torch.autocast(place.type, torch.bfloat16, enabled=rough),
                        torch.inference_mode(not learns),
                    ):
                        value = net(x)
                        if learns:
                            value = torch.nn.functional.cross_entropy(value, y)
                    if learns:
                        value.backward()
                if device == "gpu":
                    torch.cuda.synchronize()
                return value.detach().float().cpu().numpy()

            return call

        # On a CPU PyTorch's autocast is no peer.
        dtypes = [x for x in wanted if device == "gpu" or x == "float32"]
        return {(dtype, mode): make(dtype, mode) for dtype in dtypes for mode in MODES}

    answers: dict[Key, np.ndarray] = {}
    found: dict[str, tuple[float, dict[Key, Call]]] = {}
    for layout in ("contiguous_format", "channels_last"):
        calls, took = calls_of(layout), 0.0
        # Evaluation comes before training, which moves running statistics.
        for key, call in sorted(calls.items(), key=lambda x: MODES.index(x[0][1])):
            answers.setdefault(key, call(1))
            took += min(seconds(call) for _ in range(2))
        found[layout] = took, calls
    best = min(found, key=lambda layout: found[layout][0])
    calls = found[best][1]
    if compiled:
        more = calls_of(best, compiling=True)
        calls |= {(dtype, f"{mode}, compiled"): x for (dtype, mode), x in more.items()}
    return calls, best, answers
