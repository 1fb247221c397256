"""Batches of stored rows, for evaluation, and of images that cannot be read."""

import dataclasses

import numpy as np
import pytest
from pipeline_cases import LazyImages, ids, lazy, make, take

from ssah_jax.data import (
    DataError,
    SkippedImages,
    eval_batches,
    in_memory,
)
from ssah_jax.types import BatchRows


@pytest.mark.parametrize("wrap", [lambda s: s, lazy], ids=["array", "lazy"])
@pytest.mark.parametrize("batch_size", [1, 4, 5, 7, 20])
def test_eval_batches(source, batch_size, wrap):
    indices = np.array([3, 44, 4, 4, 0, 11, 8, 1, 2, 20])
    found = []
    batches = list(eval_batches(wrap(source).images, indices, batch_size=batch_size))
    assert len(batches) == -(-10 // batch_size)
    for number, (image, mask) in enumerate(batches):
        assert image.shape == (batch_size, 4, 4, 1)
        assert mask.shape == (batch_size,)
        assert (image.dtype, mask.dtype) == (np.uint8, bool)
        assert mask.all() or number == len(batches) - 1
        np.testing.assert_array_equal(image[mask], source.images[ids(image[mask])])
        found += ids(image[mask])
    assert found == indices.tolist()


def test_eval_batches_edges(source):
    none = np.zeros(0, np.int64)
    assert list(eval_batches(source.images, none, batch_size=4)) == []
    with pytest.raises(ValueError, match="batch_size: found 0, expected at least 1"):
        eval_batches(source.images, np.arange(3), batch_size=0)


# Images on the device, and in memory.


def test_rows_are_the_same_batches(source, split):
    batches = take(make(source, split), 9)
    iterator = make(lazy(source), split, rows_only=True)
    for batch, rows in zip(batches, take(iterator, 9), strict=True):
        assert isinstance(rows, BatchRows)
        assert rows.labelled.dtype == rows.unlabelled.dtype == np.int32
        assert ids(batch.image) == rows.labelled.tolist()
        assert ids(batch.unlabelled) == rows.unlabelled.tolist()


def test_in_memory_reads_each_image_once(source):
    counts = np.zeros(45, int)

    class Counted(LazyImages):
        names = [f"{index}.png" for index in range(45)]  # noqa: RUF012

        def __getitem__(self, index):
            counts[index] += 1
            return super().__getitem__(index)

    counted = dataclasses.replace(source, images=Counted(source.images))
    decoded = in_memory(counted, threads=3)
    assert isinstance(decoded.images, np.ndarray)
    assert decoded.names == counted.names == [f"{index}.png" for index in range(45)]
    assert decoded.digest == counted.digest
    np.testing.assert_array_equal(decoded.images, source.images)
    assert (counts == 1).all()
    assert in_memory(decoded, threads=3) is decoded


# Images that cannot be read.


class DamagedImages(LazyImages):
    """Some images are damaged."""

    def __init__(self, images, damaged):
        super().__init__(images)
        self._damaged = damaged

    def __getitem__(self, index):
        if index in self._damaged:
            raise DataError(f"image {index}: found damage, expected none")
        return super().__getitem__(index)


def damage(source, *indices):
    return dataclasses.replace(source, images=DamagedImages(source.images, indices))


WRAPS = {"disk": lambda s: s, "memory": lambda s: in_memory(s, threads=2)}


@pytest.mark.parametrize("store", WRAPS)
def test_an_unreadable_image_is_an_error(source, split, store):
    bad = int(split.labelled[3])
    damaged = WRAPS[store](damage(source, bad))
    iterator = make(damaged, split, labelled=6)
    with pytest.raises(DataError, match=f"^image {bad}: found damage, expected none$"):
        next(iterator)
    iterator.close()
    with pytest.raises(DataError, match="found damage"):
        list(eval_batches(damaged.images, np.arange(45), batch_size=7))


@pytest.mark.parametrize("store", WRAPS)
def test_skipped_images_are_replaced_counted_and_masked(source, split, store):
    bad = [int(split.labelled[3]), int(split.unlabelled[0]), int(split.unlabelled[9])]
    damaged = WRAPS[store](damage(source, *bad))
    skipped = SkippedImages(num_images=45, max_share=3 / 45)
    iterator = make(damaged, split, skipped=skipped)
    batches = take(iterator, 12)
    iterator.close()
    wanted = take(make(source, split), 12)
    for batch, whole in zip(batches, wanted, strict=True):
        for field in ("image", "unlabelled"):
            found, order = ids(getattr(batch, field)), ids(getattr(whole, field))
            for row, index in enumerate(found):
                following = order[row:] + order[:row]
                assert index == next(i for i in following if i not in bad)
        np.testing.assert_array_equal(batch.label, source.labels[ids(batch.image)])
    assert len(skipped) == 3
    assert skipped.reasons == [
        f"image {index}: found damage, expected none" for index in sorted(bad)
    ]
    passes = list(
        eval_batches(damaged.images, np.arange(45), batch_size=10, skipped=skipped)
    )
    found = [index for image, mask in passes for index in ids(image[mask])]
    assert found == [index for index in range(45) if index not in bad]
    assert sum(int(mask.sum()) for _, mask in passes) == 42


def test_too_many_unreadable_images_end_the_run(source, split):
    bad = split.labelled[:3].tolist()
    skipped = SkippedImages(num_images=45, max_share=0.05)
    iterator = make(damage(source, *bad), split, labelled=6, skipped=skipped)
    with pytest.raises(
        DataError,
        match=r"^data.max_skipped: found 3 of 45 images unreadable \(the last: image "
        r"\d+: found damage, expected none\), accepted is a share of at most 0.05$",
    ):
        take(iterator, 3)
    iterator.close()


def test_a_batch_without_a_readable_image_is_an_error(source, split):
    skipped = SkippedImages(num_images=45, max_share=1.0)
    everything = range(45)
    iterator = make(damage(source, *everything), split, skipped=skipped)
    with pytest.raises(DataError, match="found no readable image in a batch of 4"):
        next(iterator)
    iterator.close()
