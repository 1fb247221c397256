"""Names of PyTorch's tensors, and the variables of our backbones that they become.

A table has one row for each kind of layer: a regular expression of the layer's name in
PyTorch, our name for it, and what its tensors are. Between them the rows of a backbone
name every tensor of the files that torchvision, timm and the authors publish.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping

import flax
import flax.linen as nn
import jax
import numpy as np

from ssah_jax.networks.backbones import SPECS, Classifier, build_backbone
from ssah_jax.networks.efficientnet_lite import STAGES as LITE_STAGES
from ssah_jax.networks.vgg import BLOCKS as VGG_BLOCKS


class WeightsError(ValueError):
    """A file of weights that cannot be read, or does not fit the network."""


Transform = Callable[[np.ndarray], np.ndarray]


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _conv(x: np.ndarray) -> np.ndarray:
    """Kernel `[out, in, H, W]` to `[H, W, in, out]`."""
    return x.transpose(2, 3, 1, 0) if x.ndim == 4 else x


def _dense(x: np.ndarray) -> np.ndarray:
    """Matrix `[out, in]`, or a 1x1 convolution's, to `[in, out]`."""
    return _rows(x, 1)


def _rows(x: np.ndarray, side: int) -> np.ndarray:
    """The matrix behind a flattened map: from channels first to channels last.

    PyTorch's columns (or an equivalent convolution `[out, in, side, side]`) count
    channels, rows, columns; our rows count rows, columns, channels.
    """
    if x.ndim not in (2, 4) or not x.size or x[0].size % side**2:
        return x  # Its shape will be found wrong.
    x = x.reshape(len(x), -1, side, side)
    return x.transpose(2, 3, 1, 0).reshape(-1, len(x))


@dataclasses.dataclass(frozen=True)
class _Leaf:
    """What one tensor of a layer becomes; `path` is empty for what is left out."""

    suffix: str
    path: tuple[str, ...] = ()
    transform: Transform = _same


def _affine(kernel: Transform, prefix: str = ".") -> tuple[_Leaf, ...]:
    return (
        _Leaf(f"{prefix}weight", ("params", "{}", "kernel"), kernel),
        _Leaf(f"{prefix}bias", ("params", "{}", "bias")),
    )


_CONV = _affine(_conv)
_DENSE = _affine(_dense)
_IN_PROJECTION = _affine(_dense, r".in_proj_")
_LAYER_NORM = (
    _Leaf(".weight", ("params", "{}", "scale")),
    _Leaf(".bias", ("params", "{}", "bias")),
)
# Each domain starts from the pretrained statistics.
_BATCH_NORM = (
    *_LAYER_NORM,
    *(
        _Leaf(torch, ("batch_stats", "{}", f"stats_{domain}", ours))
        for torch, ours in ((".running_mean", "mean"), (".running_var", "var"))
        for domain in ("clean", "generated")
    ),
    _Leaf(".num_batches_tracked"),
)
_PARAMETER = (_Leaf("", ("params", "{}")),)
_DROPPED = (_Leaf(""),)

_Rule = tuple[str, str, tuple[_Leaf, ...]]


def _five_and_two() -> Iterator[_Rule]:
    """AlexNet of torchvision."""
    for i, place in enumerate((0, 3, 6, 8, 10)):
        yield rf"features\.{place}", f"conv{i}", _CONV
    yield r"classifier\.1", "fc0", _affine(functools.partial(_rows, side=6))
    yield r"classifier\.4", "fc1", _DENSE
    yield r"classifier\.6", "logits", _DENSE


def _vgg16() -> Iterator[_Rule]:
    """VGG-16 of torchvision and timm, which differ in the classifier."""
    place = 0
    for block, (_, convolutions) in enumerate(VGG_BLOCKS):
        for i in range(convolutions):
            yield rf"features\.{place}", f"block{block}_conv{i}", _CONV
            place += 2
        place += 1
    rows = _affine(functools.partial(_rows, side=7))
    yield r"(?:classifier\.0|pre_logits\.fc1)", "fc0", rows
    yield r"(?:classifier\.3|pre_logits\.fc2)", "fc1", _DENSE
    yield r"(?:classifier\.6|head\.fc)", "logits", _DENSE


def _resnet() -> Iterator[_Rule]:
    """ResNets of torchvision and timm, which agree."""
    block = r"layer(\d)\.(\d+)"
    yield "conv1", "stem_conv", _CONV
    yield "bn1", "stem_norm", _BATCH_NORM
    yield rf"{block}\.conv(\d)", r"stage\1_block\2/conv\3", _CONV
    yield rf"{block}\.bn(\d)", r"stage\1_block\2/norm\3", _BATCH_NORM
    yield rf"{block}\.downsample\.0", r"stage\1_block\2/shortcut", _CONV
    yield rf"{block}\.downsample\.1", r"stage\1_block\2/shortcut_norm", _BATCH_NORM
    yield "fc", "logits", _DENSE


def _efficientnet_lite() -> Iterator[_Rule]:
    """Lite0 of timm and of efficientnet_lite_pytorch."""
    places = [
        (stage, i)
        for stage, (_, _, blocks, _, _) in enumerate(LITE_STAGES)
        for i in range(blocks)
    ]
    for place, (stage, i) in enumerate(places):
        ours = f"stage{stage + 1}_block{i}"
        other, timm = rf"_blocks\.{place}", rf"blocks\.{stage}\.{i}"
        # timm numbers what is there, and the first block does not expand.
        names = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
        if LITE_STAGES[stage][0] == 1:
            names = ("", "", "conv_dw", "bn1", "conv_pw", "bn2")
        for layer, mine, theirs in (
            ("expand", names[:2], ("_expand_conv", "_bn0")),
            ("filter", names[2:4], ("_depthwise_conv", "_bn1")),
            ("project", names[4:], ("_project_conv", "_bn2")),
        ):
            if mine[0]:
                conv, norm = f"{ours}/{layer}", f"{ours}/{layer}_norm"
                yield rf"(?:{timm}\.{mine[0]}|{other}\.{theirs[0]})", conv, _CONV
                yield rf"(?:{timm}\.{mine[1]}|{other}\.{theirs[1]})", norm, _BATCH_NORM
    yield "_?conv_stem", "stem_conv", _CONV
    yield "(?:bn1|_bn0)", "stem_norm", _BATCH_NORM
    yield "_?conv_head", "head_conv", _CONV
    yield "(?:bn2|_bn1)", "head_norm", _BATCH_NORM
    yield "(?:classifier|_fc)", "logits", _DENSE


def _vit() -> Iterator[_Rule]:
    """ViT of timm and of DINOv2, which agree, and of torchvision."""
    timm, other = r"blocks\.(\d+)", r"encoder\.layers\.encoder_layer_(\d+)"
    yield "(?:cls_token|class_token)", "embed_class", _PARAMETER
    yield r"(?:pos_embed|encoder\.pos_embedding)", "embed_position", _PARAMETER
    yield r"(?:patch_embed\.proj|conv_proj)", "embed_patch", _CONV
    for i in (1, 2):
        yield rf"{timm}\.norm{i}", rf"block\1/norm{i}", _LAYER_NORM
        yield rf"{other}\.ln_{i}", rf"block\1/norm{i}", _LAYER_NORM
        yield rf"{timm}\.ls{i}\.gamma", rf"block\1/scale{i}", _PARAMETER
    yield rf"{timm}\.attn\.qkv", r"block\1/qkv", _DENSE
    yield rf"{other}\.self_attention", r"block\1/qkv", _IN_PROJECTION
    yield rf"{timm}\.attn\.proj", r"block\1/projection", _DENSE
    yield rf"{other}\.self_attention\.out_proj", r"block\1/projection", _DENSE
    for i, place in ((1, "(?:0|linear_1)"), (2, "(?:3|linear_2)")):
        yield rf"{timm}\.mlp\.fc{i}", rf"block\1/fc{i}", _DENSE
        yield rf"{other}\.mlp\.{place}", rf"block\1/fc{i}", _DENSE
    yield r"(?:norm|encoder\.ln)", "norm", _LAYER_NORM
    yield r"(?:head|heads\.head)", "logits", _DENSE
    yield "mask_token", "", _DROPPED  # DINOv2's, of its training.


_TABLES: dict[str, Callable[[], Iterator[_Rule]]] = {
    "alexnet": _five_and_two,
    "vgg16": _vgg16,
    "resnet18": _resnet,
    "resnet50": _resnet,
    "efficientnet_lite0": _efficientnet_lite,
    "vit_b16": _vit,
    "vit_s14": _vit,
}

CONVERTIBLE = tuple(_TABLES)
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
    if name not in _TABLES:
        raise WeightsError(
            f"weights: found the backbone {name!r}, for which no PyTorch names are "
            f"known; accepted are {', '.join(_TABLES)}"
        )
    network = build_backbone(name) if network is None else network
    wanted = _shapes(name, network)
    classifier = isinstance(network, Classifier)
    found: dict[tuple[str, ...], np.ndarray] = {}
    extra, misshapen = [], []
    rules = [
        (re.compile(pattern + re.escape(leaf.suffix)), ours, leaf)
        for pattern, ours, leaves in _TABLES[name]()
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
    torch_name: str, rules: list[tuple[re.Pattern[str], str, _Leaf]]
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
