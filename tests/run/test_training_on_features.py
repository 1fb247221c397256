"""Training on features instead of images, and `ssah features`."""

import dataclasses
import json
import os
import shutil
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import ROOT, here
from feature_cases import LITE0, WIDTH, data_set, direct, small, write
from ml_collections import ConfigDict
from PIL import Image

from ssah_jax.config import Config, ConfigError, from_config_dict, presets
from ssah_jax.data import (
    features_source,
    synthetic_images,
)
from ssah_jax.data.sealed import sealed, unsealed
from ssah_jax.method import steps
from ssah_jax.networks.pretrained import read_tensors, write_tensors
from ssah_jax.run import (
    evaluators,
    opening,
    parallel,
    run_encoder,
    train_lib,
    train_state,
)
from ssah_jax.run.encoder import Encoder
from ssah_jax.run.experiment import images_to_show, prepare
from ssah_jax.run.extractor import load_extractor
from ssah_jax.run.report.gallery import write_gallery
from ssah_jax.run.report.run_page import write_report
from ssah_jax.run.view_recipe import ViewRecipe
from ssah_jax.run.workdir import Workdir


def training(features: Path, **data) -> Config:
    return from_config_dict(
        {
            "bits": 16,
            "steps": 20,
            "labels_per_class": 5,
            "log_every": 10,
            "checkpoint_every": 10,
            "batch": {"labelled": 16, "unlabelled": 16},
            "hnet": {"backbone": "features"},
            "anet": {"kind": "none", "width": 4, "grid": 3},
            "data": {
                "source": "features",
                "path": str(features),
                "max_shift": 0,
                "num_queries": 50,
                "num_validation": 50,
            }
            | data,
            "eval": {"every": 10, "batch": 64, "max_database": 100},
        }
    )


def trained(config: Config, workdir: Path):
    with opening.open_run(prepare(config), Workdir(workdir)) as run:
        results = train_lib.train(run)
        return results, jax.device_get((run.state.hnet, run.state.teacher))


@pytest.fixture(scope="module")
def finished(stored, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"
    return workdir, *trained(training(stored), workdir)


@pytest.mark.slow
def test_only_the_hash_layer_is_there_and_it_learns(finished, stored):
    _, results, (hnet, _) = finished
    assert set(hnet) == {"hash"}
    assert hnet["hash"]["kernel"].shape == (WIDTH, 16)
    untrained = prepare(training(stored))
    state = parallel.replicate(train_state.init_state(untrained))
    before = dict(evaluators.Evaluator(untrained).test(state))
    assert results["map"] > before["map"] + 0.05
    assert results["source"] == "synthetic/small_conv"


@pytest.mark.slow
@pytest.mark.parametrize("place", ["memory", "device"])
def test_where_features_lie_and_moments_of_pixels_change_nothing(
    finished, stored, tmp_path, place
):
    _, results, state = finished
    # A configuration of coloured images serves their features too.
    moments = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}
    config = training(stored, store=place, **moments)
    again, other = trained(config, tmp_path / "run")
    # On the device it is another program, which XLA may round in another way.
    error = {"memory": 0.0, "device": 1e-6}[place]
    close = partial(np.testing.assert_allclose, rtol=0, atol=error)
    jax.tree.map(close, other, state)
    assert again["map"] == results["map"]


@pytest.mark.slow
def test_codes_are_linear_in_the_stored_features(finished, stored):
    """No augmentation, scaling or resizing comes between."""
    workdir, _, (_, teacher) = finished
    experiment = prepare(training(stored))
    state, _ = train_state.restore_state(experiment, Workdir(workdir))
    images = jnp.asarray(experiment.source.images[:10])
    encode = jax.jit(partial(steps.encode_step, config=experiment.config))
    code = encode(state.teacher, state.teacher_stats, images)
    stats = state.teacher_stats["centre"]["stats_clean"]
    raw = np.asarray(images[:, 0, 0], np.float32) @ teacher["hash"]["kernel"]
    mean, var = (np.asarray(stats[name])[None] for name in ("mean", "var"))
    np.testing.assert_allclose(
        code, (raw - mean) / np.sqrt(var + 1e-5), rtol=1e-3, atol=1e-3
    )


@pytest.mark.slow
def test_the_gallery_shows_the_images_that_they_are_features_of(finished, stored):
    workdir, _, _ = finished
    shown = json.loads((workdir / "gallery" / "gallery.json").read_text())["queries"]
    assert len(shown) == 9
    assert all((workdir / "gallery" / s["picture"]).is_file() for s in shown)
    images = images_to_show(prepare(training(stored)))
    np.testing.assert_array_equal(images, synthetic_images(seed=0).images)


def test_without_its_images_a_gallery_has_no_pictures(stored, tmp_path):
    shutil.copytree(stored, tmp_path / "f")
    path = tmp_path / "f" / "features.json"
    info = unsealed(json.loads(path.read_text()))
    info["config"]["seed"] = 1  # Other images, of equal labels.
    path.write_text(json.dumps(sealed(info)))
    experiment = prepare(training(tmp_path / "f"))
    evaluator = evaluators.Evaluator(experiment)
    state = parallel.replicate(train_state.init_state(experiment))
    shown = evaluator.draw_gallery(evaluator.encode_test(state))
    assert len(shown.queries) == 9
    assert shown.pictures == {}
    write_gallery(tmp_path / "run" / "gallery", shown)
    assert "no picture" in write_report(tmp_path / "run").read_text()
    info["config"]["data"] = {"source": "idx", "path": "/no/such/place"}
    path.write_text(json.dumps(sealed(info)))
    assert images_to_show(prepare(training(tmp_path / "f"))) is None


def test_a_single_view_gives_neither_hard_samples_nor_two_to_compare(stored):
    for group, field, value in (
        ("anet", "kind", "stored"),
        ("loss", "cross_view", 1.0),
    ):
        config = dataclasses.asdict(training(stored))
        config[group] |= {field: value}
        with pytest.raises(ConfigError, match=rf"{field}: found .* single view"):
            prepare(from_config_dict(config))


@pytest.mark.slow
def test_without_labelled_batches_it_learns_from_all_images(tmp_path):
    source = data_set(60)
    config = {"data": {"max_shift": 1}, "anet": {"grid": 3}}
    views = ViewRecipe(3, from_config_dict(config))
    write(source, tmp_path / "f", batch_size=32, recipe=views)
    values = dataclasses.asdict(
        training(tmp_path / "f", num_queries=10, num_validation=10)
    )
    values = ConfigDict(values)
    values.update_from_flattened_dict(presets.VARIANTS["unsupervised"])
    results, _ = trained(from_config_dict(values), tmp_path / "run")
    assert results["num_labelled"] == 0 and results["map"] > 0
    assert not (tmp_path / "run/strips").exists()
    line = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert {n for n in line if n.startswith("loss/")} == {
        *("loss/cross_view", "loss/coding_rate", "loss/total")
    }


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A run on two views of 40 images, and these images."""
    folder, source = tmp_path_factory.mktemp("head"), data_set(20)
    kept = {"data": {"source": "synthetic", "image_size": 16, "channels": 1}}
    kept["data"]["resize"] = "crop"
    views = ViewRecipe(2, from_config_dict({"anet": {"grid": 3}}))
    write(source, folder / "f", batch_size=8, recipe=views, config=kept)
    few = {"num_queries": 5, "num_validation": 5}
    values = dataclasses.asdict(training(folder / "f", **few))
    values |= {"steps": 2, "labels_per_class": 1}
    trained(from_config_dict(values), folder / "run")
    return folder / "run", source, features_source(folder / "f").images


@pytest.mark.slow
def test_a_head_encodes_images_as_it_does_their_features(head, monkeypatch):
    workdir, source, features = head
    monkeypatch.setattr(run_encoder, "load_extractor", lambda *_, **__: small())
    encoder = Encoder.from_run(workdir)
    assert encoder.image_form == (16, "crop", 1)
    assert encoder.feature_width == WIDTH
    (wanted,) = [codes for _, codes in encoder.encode(features)]
    images, found, kept = np.asarray(source.images), [], []
    for rows, codes, width in encoder.encode_both(images, batch_size=16):
        found.append(codes)
        kept.append(width)
        assert rows[0] == 16 * (len(found) - 1)
    np.testing.assert_allclose(np.concatenate(found), wanted, rtol=1e-2, atol=2e-2)
    np.testing.assert_allclose(
        np.concatenate(kept), features[:, 0, 0], rtol=1e-2, atol=1e-2
    )
    (rows, again), *_ = encoder.encode(images, batch_size=40)
    np.testing.assert_allclose(again, wanted, rtol=1e-2, atol=2e-2)
    with pytest.raises(ValueError, match=r"found shape \(8, 8, 1\), accepted is \(16"):
        next(encoder.encode(images[:, :8, :8]))


@pytest.mark.slow
def test_a_head_asks_for_the_weights_of_its_features(head, monkeypatch):
    other = dataclasses.replace(small(), sha256="1" * 64)
    monkeypatch.setattr(run_encoder, "load_extractor", lambda *_, **__: other)
    encoder = Encoder.from_run(head[0], weights="elsewhere")
    with pytest.raises(ValueError, match="--weights: found elsewhere with sha256 1111"):
        encoder.given_images([])
    info = dataclasses.replace(encoder.info.made_by, sha256="1" * 64)
    moved = dataclasses.replace(encoder.info, made_by=info)
    fingerprint = run_encoder.fingerprint_of(encoder.config, moved, encoder.state)
    assert fingerprint != encoder.fingerprint


MISTAKES = {
    "max_shift": ({"max_shift": 2}, r"data\.max_shift: found 2, accepted is 0"),
    "flip": ({"flip": True}, r"data\.flip: found True, accepted is False"),
    "crop_size": ({"crop_size": 8}, r"data\.crop_size: found 8, accepted is 0"),
    "path": ({"path": ""}, r"data\.path: found none, .*`ssah features`"),
    "labels": ({"multi_label": True}, r"data\.multi_label: found True"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line(stored, name):
    data, match = MISTAKES[name]
    with pytest.raises(ConfigError, match=match):
        prepare(training(stored, **data))


def test_deformations_and_other_backbones_are_refused(stored):
    config = json.loads(json.dumps(dataclasses.asdict(training(stored))))
    for group, field, value in (
        ("anet", "kind", "random"),
        ("hnet", "backbone", "small_conv"),
        ("hnet", "image_size", 32),
        ("data", "source", "synthetic"),
    ):
        changed = config | {group: config[group] | {field: value}}
        with pytest.raises(ConfigError) as caught:
            from_config_dict(changed)
        assert "features" in str(caught.value)
        assert "\n" not in str(caught.value)


# Commands


SMALL = f"{ROOT}/configs/digits.py:data.source=synthetic"


@pytest.mark.slow
def test_the_command_writes_what_the_backbone_computes(tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 9, 9, 1), np.uint8)
    for index, image in enumerate(pixels):
        path = tmp_path / "data" / f"class {index // 5}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    out, folder = (
        tmp_path / "new/f",
        f"data.source=folder,data.path={tmp_path / 'data'}",
    )
    arguments = [
        *("features", f"{ROOT}/configs/digits.py:{folder},data.channels=1"),
        *("--backbone=efficientnet_lite0", f"--weights={LITE0}", "--image-size=32"),
        *(f"--out={out}", "--batch=16", "--stored=float32"),
    ]
    status, printed, err = here(capsys, *arguments)
    assert status == 0, err
    assert "computed 10 features of 1280 numbers" in printed
    found = features_source(out)
    extractor = load_extractor("efficientnet_lite0", str(LITE0), image_size=32)
    wanted = direct(extractor, pixels)
    np.testing.assert_allclose(found.images[:, 0, 0], wanted, rtol=1e-3, atol=1e-4)
    assert list(found.names)[5] == "class 1/5.png"
    status, printed, _ = here(capsys, *arguments)
    assert (status, printed.startswith("already there: 10 features")) == (0, True)
    tensors = read_tensors(LITE0)
    name = next(iter(tensors))
    write_tensors(tmp_path / "other", tensors | {name: tensors[name] + 1})
    status, _, err = here(capsys, *arguments, f"--weights={tmp_path / 'other'}")
    assert status == 2 and err.count("error: ") == 1
    assert "features of another weights sha256" in err


WRONG = {
    "no file": (["none.py"], "--config: found 'none.py'"),
    "no preset": ([SMALL + ",tiny"], "'tiny'"),
    "own features": ([f"{SMALL},data.source=features"], "features"),
    "backbone": ([SMALL], "--backbone: found small_conv"),
    "too small": ([SMALL, "--backbone=efficientnet_lite0"], "at least 32"),
    "size": ([SMALL, "--image-size=-1"], "--image-size: found -1"),
    "batch": ([SMALL, "--batch=0"], "--batch: found 0"),
    "stored": ([SMALL, "--stored=int8"], "int8"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_one_line(tmp_path, capsys, name):
    arguments, word = WRONG[name]
    out = ["--out", str(tmp_path / "f"), "--weights", str(LITE0)]
    status, printed, err = here(capsys, "features", *arguments, *out)
    assert (status, printed) == (2, "")
    # Above it stands what was understood of the data, if it came so far.
    assert err.splitlines()[-1].startswith("error: "), err
    assert err.count("error: ") == 1 and len(err.splitlines()) <= 3, err
    assert word in err, err
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_encoding_other_images_is_refused_in_one_line(finished, tmp_path, capsys):
    (tmp_path / "x.png").write_bytes(b"")
    status, _, err = here(
        capsys,
        *("encode", f"--workdir={finished[0]}", str(tmp_path / "x.png")),
        f"--out={tmp_path / 'codes.parquet'}",
    )
    assert status == 2 and err.count("\n") == 1
    assert "a run on stored features" in err


@pytest.mark.slow
def test_train_and_eval_as_users_run_them(stored, tmp_path, capsys):
    presets = "smoke,num_queries=50,num_validation=50"
    arguments = [
        *(f"--config=configs/digits.py:{presets}", f"--workdir={tmp_path / 'run'}"),
        *("--config.data.source=features", f"--config.data.path={stored}"),
        *("--config.hnet.backbone=features", "--config.anet.kind=none"),
        "--config.data.max_shift=0",
    ]
    status, out, err = here(capsys, "train", *arguments)
    assert status == 0, err
    first = json.loads((tmp_path / "run" / "results.json").read_text())
    status, out, err = here(capsys, "eval", f"--workdir={tmp_path / 'run'}")
    assert status == 0, err
    assert f"{first['map']:.6f}" in out
    status, out, err = here(capsys, "train", *arguments, "--check", "--workdir=")
    assert status == 0, err
    assert "1,300 images" in out and "images of 1x1x512" in out
