"""From a configuration to images and split: every source, and what does not fit."""

import importlib.util

import numpy as np
import pytest
import tree_nus_wide
from commands import ROOT
from PIL import Image

from ssah_jax.config import ConfigError, from_config_dict
from ssah_jax.run.experiment import iterate, prepare

COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200), "green": (30, 200, 30)}


def draw_images(directory, number):
    """Files of one colour each; returns name and class of each."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(number):
        name = list(COLOURS)[index % 3]
        Image.new("RGB", (20, 16), COLOURS[name]).save(directory / f"{index:03d}.png")
        rows.append((f"{index:03d}.png", name))
    return rows


def small(**data):
    """A configuration of a small split of files."""
    fields = {
        "path": "",
        "image_size": 12,
        "protocol": "pooled",
        "num_queries": 6,
        "num_validation": 3,
    }
    return from_config_dict({"labels_per_class": 2, "data": fields | data})


def preset(name, presets, **data):
    """A shipped configuration with presets."""
    path = ROOT / "configs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values = module.get_config(presets)
    for field, value in data.items():
        values.data[field] = value
    return from_config_dict(values)


def check(experiment, classes):
    """Every image has its class's colour, through the whole of the input pipeline."""
    source = experiment.source
    assert source.image_shape == (12, 12, 3)
    assert set(source.class_names) == set(classes)
    batch = next(iterate(experiment))
    assert batch.image.shape == (64, 12, 12, 3)
    for image, label in zip(batch.image, batch.label, strict=True):
        name = source.class_names[int(label.argmax())]
        np.testing.assert_array_equal(image[6, 6], COLOURS[name])
    experiment.split.check(source)


def test_class_folders(tmp_path):
    for name, colour in COLOURS.items():
        (tmp_path / name).mkdir()
        for index in range(9):
            Image.new("RGB", (20, 16), colour).save(tmp_path / name / f"{index}.png")
    experiment = prepare(small(source="folder", path=str(tmp_path)))
    check(experiment, COLOURS)
    assert len(experiment.split.database) == 27 - 6


def test_a_table_with_images_elsewhere(tmp_path):
    rows = draw_images(tmp_path / "images", 27)
    table = tmp_path / "tables" / "tags.csv"
    table.parent.mkdir()
    lines = ["path,labels", *(f"{path},{name}" for path, name in rows)]
    table.write_text("\n".join(lines))
    check(prepare(small(source="folder", path=str(table), images="../images")), COLOURS)


def test_published_lists(tmp_path):
    rows = draw_images(tmp_path / "images", 30)
    order = sorted(COLOURS)

    def write(name, chosen):
        (tmp_path / name).write_text(
            "".join(
                f"images/{path} {' '.join(str(int(c == kind)) for c in order)}\n"
                for path, kind in chosen
            )
        )

    write("test.txt", rows[:6])
    write("database.txt", rows[6:])
    write("train.txt", rows[6:18])
    config = preset(
        "nuswide",
        "source=list,protocol=listed,labels_per_class=0,num_queries=0,"
        "data.image_size=12,crop_size=0,backbone=small_conv,num_validation=3",
        path=str(tmp_path),
        multi_label=False,
    )
    experiment = prepare(config)
    split = experiment.split
    sizes = [len(getattr(split, n)) for n in ("query", "labelled", "database")]
    assert sizes == [6, 12, 24]
    assert len(split.unlabelled) == 24 - 12 - 3

    write("database.txt", rows[5:])
    with pytest.raises(ValueError, match="found 1 images in both query and database"):
        prepare(config)


@pytest.mark.parametrize(
    ("concepts", "split"),
    [(21, "protocol=nus_wide_21"), (81, "protocol=full,labels_per_class=0")],
)
def test_nus_wide(tmp_path, concepts, split):
    tree = tree_nus_wide.draw(tmp_path, num_images=200, seed=0, missing=2)
    config = preset(
        "nuswide",
        f"smoke,concepts={concepts},{split}",
        path=str(tmp_path),
    )
    experiment = prepare(config)
    assert experiment.source.num_classes == concepts
    assert len(experiment.source.missing) == 2
    assert experiment.image_shape == (32, 32, 3)
    assert len(experiment.source) < len(tree.names)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "folder"}, "config.data.path: found none, accepted is the direct"),
        ({"source": "nus_wide"}, "config.data.path: found none, accepted is the dire"),
        ({"source": "idx"}, "data.path: found none, expected a directory of MNIST"),
        ({"source": "folder", "path": "no/such"}, "no/such: found no such directory"),
        ({"source": "tfds", "name": "cifar11"}, "cifar11: found no data set of this n"),
        ({"source": "tfds", "name": ""}, ": found no data set of this name"),
        (
            {"source": "synthetic", "image_size": 0, "crop_size": 17},
            "config.data.crop_size: found 17, accepted is at most the 16 pixels",
        ),
        (
            {"source": "synthetic", "mean": (0.1, 0.2, 0.3), "std": (1, 1, 1)},
            "config.data.mean: found 3 values, accepted are 1 or 1, the channels of",
        ),
        (
            {"source": "synthetic", "protocol": "listed", "num_queries": 400},
            "num_queries: found 400, expected at most 300",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(fields, message):
    with pytest.raises((ConfigError, ValueError)) as caught:
        prepare(small(**fields))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
