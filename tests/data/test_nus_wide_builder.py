"""NUS-WIDE: the builder stores what the loader reads."""

import io
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from nus_wide_cases import NAMES, expected, official
from PIL import Image
from tensorflow_datasets.core import shuffle

from ssah_jax.data.builders.nus_wide import nus_wide_dataset_builder
from ssah_jax.data.source import DataError
from ssah_jax.data.tensorflow_free import tensorflow_free

# The builder, without TensorFlow.


def prepare(tree, data_dir, **config):
    builder = nus_wide_dataset_builder.Builder(
        data_dir=str(data_dir), file_format="array_record", **config
    )
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=str(tree))
    )
    return builder


def stored(builder, split):
    """Bytes of the image and labels, by file name."""
    examples = builder.as_data_source(
        split=split, decoders={"image": tfds.decode.SkipDecoding()}
    )
    return {
        example["image/filename"].decode(): (
            example["image"],
            np.asarray(example["labels"]).tolist(),
        )
        for example in examples
    }


@pytest.mark.parametrize(
    ("config", "concepts"),
    [({}, 21), ({"config": "all81"}, 81)],
    ids=["top21", "all81"],
)
def test_builder_stores_what_was_drawn(drawn, tmp_path, config, concepts):
    builder = prepare(drawn.path, tmp_path, **config)
    assert builder.info.full_name.startswith(
        f"nus_wide/{'all81' if concepts == 81 else 'top21'}/"
    )
    assert builder.info.features["labels"].feature.names == list(NAMES[concepts])
    rows, labels = expected(drawn, concepts)
    assert sorted(builder.info.splits) == ["test", "train"]
    for part in ("train", "test"):
        found = stored(builder, part)
        members = official(drawn, rows, part)
        assert builder.info.splits[part].num_examples == len(members) == len(found)
        for index in members:
            name = drawn.names[rows[index]]
            image, classes = found[name]
            assert image == (drawn.path / "Flickr" / name).read_bytes()
            assert classes == [c for c, bit in enumerate(labels[index]) if bit]


def test_builder_decodes_and_reloads(drawn, tmp_path):
    prepare(drawn.path, tmp_path)
    builder = tfds.builder("nus_wide", data_dir=str(tmp_path), try_gcs=False)
    for example in builder.as_data_source(split="test"):
        file = drawn.path / "Flickr" / example["image/filename"].decode()
        image = np.asarray(Image.open(io.BytesIO(file.read_bytes())))
        np.testing.assert_array_equal(example["image"], image)


def test_builder_without_official_parts(drawn, tree, tmp_path):
    (tree / "ImageList/TestImagelist.txt").unlink()
    builder = prepare(tree, tmp_path / "tfds")
    rows, _ = expected(drawn, 21)
    assert list(builder.info.splits) == ["pool"]
    assert sorted(stored(builder, "pool")) == sorted(drawn.names[row] for row in rows)


def test_builder_keeps_images_of_neither_part(drawn, tree, tmp_path):
    file = tree / "ImageList/TestImagelist.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[: len(lines) // 2]))
    builder = prepare(tree, tmp_path / "tfds")
    rows, _ = expected(drawn, 21)
    kept = {line.replace("\\", "/") for line in lines[: len(lines) // 2]}
    names = {drawn.names[row] for row in rows if row not in drawn.train}
    assert set(stored(builder, "test")) == names & kept
    assert set(stored(builder, "pool")) == names - kept
    assert len(stored(builder, "all")) == len(rows)


def test_builder_copies_images_that_cannot_be_decoded(drawn, tree, tmp_path):
    rows, _ = expected(drawn, 21)
    name = drawn.names[rows[0]]
    (tree / "Flickr" / name).write_bytes(b"no JPEG")
    builder = prepare(tree, tmp_path / "tfds")
    assert stored(builder, "all")[name][0] == b"no JPEG"


def test_builder_refuses_too_many_missing_images(drawn, tmp_path):
    strict = nus_wide_dataset_builder.NusWideConfig(name="strict", max_missing=0.0)
    with pytest.raises(DataError, match=r"Imagelist.txt"):
        prepare(drawn.path, tmp_path, config=strict)


def test_builder_writes_more_than_fits_in_memory(drawn, tmp_path, monkeypatch):
    # Beyond a limit of a gigabyte TFDS keeps examples in files until they are shuffled.
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 1000)
    builder = nus_wide_dataset_builder.Builder(
        data_dir=str(tmp_path), file_format="array_record"
    )
    with tensorflow_free(builder):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=str(drawn.path))
        )
    rows, _ = expected(drawn, 21)
    found = stored(builder, "all")
    assert sorted(found) == sorted(drawn.names[row] for row in rows)
    for name, (image, _) in found.items():
        assert image == (drawn.path / "Flickr" / name).read_bytes()


def test_builder_says_where_the_data_come_from(tmp_path):
    with pytest.raises(AssertionError, match=r"(?s)Flickr/actor/.*links .* are dead"):
        prepare(tmp_path / "nothing", tmp_path / "tfds")


def test_builder_carries_its_texts(tmp_path):
    builder = nus_wide_dataset_builder.Builder(data_dir=str(tmp_path))
    assert "269,648" in builder.info.description
    assert "chua2009nuswide" in builder.info.citation
    assert pathlib.Path(builder.pkg_dir_path, "TAGS.txt").is_file()
