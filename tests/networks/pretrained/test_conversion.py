"""Tensors of PyTorch become variables, or it is said what does not fit."""

import re

import backbone_cases as cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from narrow_backbones import NARROW, golden_tensors, shapes

from ssah_jax.networks.backbones import (
    Classifier,
    build_backbone,
)
from ssah_jax.networks.efficientnet_lite import EfficientNetLite
from ssah_jax.networks.weight_tables import WeightsError, convert

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


@pytest.mark.slow
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
