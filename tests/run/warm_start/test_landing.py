"""Pretrained backbones in a run: where weights go, and what images become."""

import hashlib
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights_cases import (
    SHAPE,
    SMALL,
    WIDTH,
    leaves,
    make_batch,
    make_config,
    make_state,
    original_tensors,
    refusal,
)

from ssah_jax.method import steps
from ssah_jax.method.codes import build_hnet
from ssah_jax.networks import backbones, pretrained, weight_tables
from ssah_jax.run import opening, train_state
from ssah_jax.run.experiment import prepare
from ssah_jax.run.warm_start import load_backbone
from ssah_jax.run.workdir import Workdir

# Where weights go.


@pytest.mark.slow
def test_weights_land_in_the_network_its_teacher_and_both_domains(weights, tmp_path):
    config = make_config(weights)
    experiment = prepare(config)
    with opening.open_run(experiment, Workdir(tmp_path / "run")) as run:
        state = jax.device_get(run.state.replace(key=None))
        for leaf in jax.tree.leaves(run.state):
            assert len(leaf.sharding.device_set) == 8
    tensors = original_tensors()
    for params in (state.hnet, state.teacher):
        backbone = params["ResNet_0"]
        np.testing.assert_array_equal(
            backbone["stem_conv"]["kernel"],
            tensors["conv1.weight"].transpose(2, 3, 1, 0),
        )
        np.testing.assert_array_equal(
            backbone["stage3_block0"]["shortcut_norm"]["scale"],
            tensors["layer3.0.downsample.1.weight"],
        )
    for stats in (state.batch_stats, state.teacher_stats):
        for domain in ("clean", "generated"):
            found = stats["ResNet_0"]["stage4_block0"]["norm2"][f"stats_{domain}"]
            for ours, theirs in (("mean", "running_mean"), ("var", "running_var")):
                wanted = tensors[f"layer4.0.bn2.{theirs}"]
                np.testing.assert_array_equal(found[ours], wanted)
    # All else is what the same seed gives without them.
    plain = train_state.init_state(prepare(make_config()))
    assert leaves(plain.hnet).keys() == leaves(state.hnet).keys()
    np.testing.assert_array_equal(
        state.hnet["hash"]["kernel"], plain.hnet["hash"]["kernel"]
    )
    jax.tree.map(np.testing.assert_array_equal, state.anet, plain.anet)

    model = json.loads((tmp_path / "run" / "model.json").read_text())
    assert model["weights"] == str(weights)
    assert model["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_shared_statistics_take_weights(weights):
    state = make_state(make_config(weights, hnet={"share_stats": True}))
    assert not any("generated" in name for name in leaves(state.batch_stats))
    wanted = original_tensors()["bn1.running_mean"]
    found = state.batch_stats["ResNet_0"]["stem_norm"]["stats_clean"]["mean"]
    np.testing.assert_array_equal(found, wanted)


def test_default_is_the_backbones_own(weights, monkeypatch):
    asked = []

    def locate(spec):
        asked.append(spec)
        return weights

    monkeypatch.setattr(pretrained, "locate", locate)
    found = load_backbone(make_config("default"), SHAPE)
    assert asked == [found.spec] == ["hf:timm/resnet18.a1_in1k"]


def enlarged(image: np.ndarray, side: int) -> np.ndarray:
    """Bilinear enlargement by pixel centres, in loops."""
    ratio = len(image) / side
    out = np.zeros((side, side, image.shape[-1]))
    for i in range(side):
        for j in range(side):
            y, x = (np.clip((k + 0.5) * ratio - 0.5, 0, len(image) - 1) for k in (i, j))
            a, b = int(y), int(x)
            c, d = min(a + 1, len(image) - 1), min(b + 1, len(image) - 1)
            top = image[a, b] * (1 - x + b) + image[a, d] * (x - b)
            bottom = image[c, b] * (1 - x + b) + image[c, d] * (x - b)
            out[i, j] = top * (1 - y + a) + bottom * (y - a)
    return out


@pytest.mark.slow
def test_the_code_is_the_backbones_feature_through_the_hash_layer(weights):
    config = make_config(weights, data={"mean": (0.9,), "std": (0.7,)})
    state = make_state(config)
    images = make_batch(4).image
    encode = jax.jit(partial(steps.encode_step, config=config))
    found = encode(state.teacher, state.teacher_stats, jnp.asarray(images))
    # Grey images enlarged, repeated to three channels, normalised as in pretraining.
    x = np.stack([enlarged(image / 255, 32) for image in images])
    x = (np.repeat(x, 3, axis=-1) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    variables = weight_tables.convert("resnet18", original_tensors())
    network = backbones.build_backbone("resnet18")
    feature = jax.jit(partial(network.apply, domain="clean", train=False))(
        variables, jnp.asarray(x, jnp.float32)
    )
    assert feature.shape == (4, 8 * WIDTH)
    # The hash layer's norm has seen nothing yet: mean 0, variance 1.
    wanted = feature @ state.hnet["hash"]["kernel"] / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_images_keep_their_own_normalisation_without_weights():
    data = {"mean": (0.9,), "std": (0.7,)}
    net = build_hnet(make_config(data=data))
    assert (net.mean, net.std, net.channels) == ((0.9,), (0.7,), 0)


def test_stored_features_are_hashed_as_they_are():
    config = make_config(
        data={"source": "features", "mean": (0.9,), "std": (0.7,)},
        hnet={"backbone": "features", "image_size": 0},
        anet={"kind": "none"},
    )
    init = partial(
        steps.init_state, config=config, image_shape=(1, 1, 6), num_classes=4
    )
    state = jax.jit(init)(jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(5, 1, 1, 6)).astype(np.float32)
    x = jnp.asarray(x)
    outputs = jax.jit(build_hnet(config).apply)(
        {"params": state.hnet, "batch_stats": state.batch_stats}, x
    )
    np.testing.assert_array_equal(outputs.feature, x[:, 0, 0])
    wanted = x[:, 0, 0] @ np.asarray(state.hnet["hash"]["kernel"])
    np.testing.assert_allclose(outputs.code, wanted / np.sqrt(1 + 1e-5), rtol=1e-4)
    assert set(state.hnet) == {"hash"}


# What is refused, before anything is written or compiled.


def test_weights_that_do_not_fit_are_refused_in_one_line(weights, tmp_path):
    run = tmp_path / "run"
    tensors = original_tensors()
    del tensors["bn1.bias"]
    tensors["layer5.0.conv1.weight"] = np.zeros((1, 1), np.float32)
    wrong = tmp_path / "wrong.safetensors"
    pretrained.write_tensors(wrong, tensors)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(weights.read_bytes()[:-1])
    for spec, message in (
        (wrong, "weights of resnet18: found 1 missing: params/stem_norm/bias; 1 extra"),
        (damaged, f"{damaged}: found a damaged file"),
        (tmp_path / "none.pth", f"'{tmp_path}/none.pth': found no such file"),
        (tmp_path, f"{tmp_path}: cannot be read"),
        ("hf:resnet18", "hf:resnet18: found no repository"),
        ("torchvision:resnet19", "torchvision:resnet19: found no such weights"),
        ("https://example.org/a.pth", "https://example.org/a.pth: found no sha256"),
    ):
        found = refusal(make_config(spec), run)
        assert found.startswith(f"config.hnet.weights: {message}")
    assert refusal(make_config(weights, hnet=SMALL), run).startswith(
        f"config.hnet.weights: found {str(weights)!r}, accepted for small_conv is none"
    )
    assert refusal(make_config(weights, hnet={"norm": "group"}), run) == (
        "config.hnet.norm: found group, accepted is batch with weights of resnet18"
    )


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (
            "resnet18",
            "resnet18 accepts images of at least 32 pixels, found 16 x 16 in synthetic",
        ),
        (
            "vit_s14",
            "vit_s14 accepts sides that are multiples of 14 pixels, found 16 x 16 in "
            "synthetic",
        ),
    ],
)
def test_images_that_a_backbone_does_not_take(backbone, message):
    hnet = {"backbone": backbone, "image_size": 0}
    with pytest.raises(ValueError) as caught:
        prepare(make_config(hnet=hnet))
    hint = "; config.hnet.image_size resizes them"
    assert str(caught.value) == f"config.hnet.backbone: {message}{hint}"
    side = 32 if backbone == "resnet18" else 14
    prepare(make_config(hnet=hnet | {"image_size": side}))
