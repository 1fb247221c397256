import dataclasses
import json
import time

import numpy as np
import pytest

from ssah_jax.data import (
    Part,
    Split,
    eval_batches,
    load_source,
    make_split,
    train_iterator,
)
from ssah_jax.types import Batch


class LazyImages:
    """Random access without being an array, and no more than the protocol asks."""

    def __init__(self, images):
        self._images = images

    def __len__(self):
        return len(self._images)

    def __getitem__(self, index):
        assert isinstance(index, int)
        return self._images[index]


@pytest.fixture(scope="module")
def source():
    """Thirty training images; the first pixel of each spells its index."""
    source = load_source(
        "synthetic", num_classes=3, image_size=4, train_per_class=10, test_per_class=5
    )
    images = source.train.images.copy()
    images[:, 0, 0, 0] = np.arange(30)
    return dataclasses.replace(source, train=Part(images, source.train.labels))


@pytest.fixture(scope="module")
def split(source):
    return make_split(
        source, labels_per_class=2, num_queries=6, num_validation=3, seed=0
    )


def lazy(source):
    train = Part(LazyImages(source.train.images), source.train.labels)
    return dataclasses.replace(source, train=train)


def ids(images):
    """The index that the first pixel of each image spells."""
    return images[:, 0, 0, 0].astype(int).tolist()


def make(source, split, *, labelled=4, unlabelled=7, seed=0, **processes):
    return train_iterator(
        source,
        split,
        labelled_batch=labelled,
        unlabelled_batch=unlabelled,
        seed=seed,
        **processes,
    )


def take(iterator, steps):
    return [next(iterator) for _ in range(steps)]


def stream(batches, field):
    return [index for batch in batches for index in ids(getattr(batch, field))]


def assert_same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for field in dataclasses.fields(Batch):
            np.testing.assert_array_equal(
                getattr(a, field.name), getattr(b, field.name)
            )


@pytest.mark.parametrize("wrap", [lambda s: s, lazy], ids=["array", "lazy"])
def test_batches_hold_what_they_should(source, split, wrap):
    iterator = make(wrap(source), split)
    for batch in take(iterator, 5):
        assert isinstance(batch, Batch)
        for field, shape, dtype in (
            ("image", (4, 4, 4, 1), np.uint8),
            ("label", (4, 3), np.float32),
            ("unlabelled", (7, 4, 4, 1), np.uint8),
        ):
            value = getattr(batch, field)
            assert isinstance(value, np.ndarray)
            assert value.shape == shape
            assert value.dtype == dtype
        np.testing.assert_array_equal(
            batch.image, source.train.images[ids(batch.image)]
        )
        np.testing.assert_array_equal(
            batch.label, source.train.labels[ids(batch.image)]
        )
        np.testing.assert_array_equal(
            batch.unlabelled, source.train.images[ids(batch.unlabelled)]
        )
    iterator.close()


@pytest.mark.parametrize(
    ("labelled", "unlabelled"), [(1, 1), (4, 7), (6, 24), (17, 100)]
)
def test_every_epoch_holds_every_image_once(source, split, labelled, unlabelled):
    batches = take(make(source, split, labelled=labelled, unlabelled=unlabelled), 80)
    for field, indices in (("image", split.labelled), ("unlabelled", split.unlabelled)):
        order = stream(batches, field)
        epochs = [
            order[start : start + len(indices)]
            for start in range(0, len(order) - len(indices) + 1, len(indices))
        ]
        assert len(epochs) >= 3
        for epoch in epochs:
            assert sorted(epoch) == indices.tolist()
        assert len({tuple(epoch) for epoch in epochs}) > 1
        # Reshuffled, and not by the same order shifted.
        assert epochs[0] != epochs[1]


def test_orders_are_uniform(source, split):
    # Each labelled image comes first in its epoch as often as any other.
    batches = take(make(source, split, labelled=6, unlabelled=1), 1200)
    first = np.array([ids(batch.image)[0] for batch in batches])
    counts = np.array([(first == index).sum() for index in split.labelled])
    # Chi-square with five degrees of freedom: 20.5 is passed once in a thousand.
    assert ((counts - 200) ** 2 / 200).sum() < 20.5


def test_seeds(source, split):
    one, again = take(make(source, split), 8), take(make(source, split), 8)
    assert_same(one, again)
    other = take(make(source, split, seed=1), 8)
    for field in ("image", "unlabelled"):
        assert stream(one, field) != stream(other, field)
    # An epoch of one seed is not another epoch of the next seed.
    epochs = [
        {tuple(stream(batches, "image")[k : k + 6]) for k in range(0, 30, 6)}
        for batches in (one, other)
    ]
    assert not epochs[0] & epochs[1]


def test_streams_are_independent(source, split):
    # Same images in both streams: their orders must still differ.
    both = dataclasses.replace(split, labelled=split.unlabelled)
    batches = take(make(source, both, labelled=24, unlabelled=24), 2)
    assert stream(batches, "image") != stream(batches, "unlabelled")
    # The size of one stream's batch does not move the other stream.
    one = take(make(source, split, labelled=4), 5)
    other = take(make(source, split, labelled=5), 5)
    assert stream(one, "unlabelled") == stream(other, "unlabelled")


@pytest.mark.parametrize("wrap", [lambda s: s, lazy], ids=["array", "lazy"])
def test_labels_of_unlabelled_images_are_never_read(source, split, wrap):
    labels = np.full_like(source.train.labels, np.nan)
    labels[split.labelled] = source.train.labels[split.labelled]
    poisoned = dataclasses.replace(source, train=Part(source.train.images, labels))
    one = make(wrap(source), split)
    other = make(wrap(poisoned), split)
    batches = take(other, 20)
    assert_same(take(one, 20), batches)
    assert all(np.isfinite(batch.label).all() for batch in batches)
    one.close()
    other.close()


@pytest.mark.parametrize("wrap", [lambda s: s, lazy], ids=["array", "lazy"])
def test_resume_at_every_position_gives_the_same_tail(source, split, wrap):
    steps = 12
    iterator = make(wrap(source), split)
    states, batches = [], []
    for _ in range(steps):
        states.append(json.loads(json.dumps(iterator.get_state())))
        batches.append(next(iterator))
    fresh = make(wrap(source), split)
    for position, state in enumerate(states):
        # In a new process, and in one that has run on.
        for resumed in (fresh, iterator):
            resumed.set_state(state)
            assert resumed.get_state() == state
            assert_same(take(resumed, steps - position), batches[position:])
    fresh.close()
    iterator.close()


def test_streams_are_the_state(source, split):
    iterator = make(source, split)
    take(iterator, 3)
    saved = {name: stream.get_state() for name, stream in iterator.streams.items()}
    assert saved == iterator.get_state()
    expected = take(iterator, 4)
    resumed = make(source, split)
    for name, grain_iterator in resumed.streams.items():
        grain_iterator.set_state(saved[name])
    assert_same(take(resumed, 4), expected)


def test_a_state_of_something_else_is_refused(source, split):
    iterator = make(source, split)
    with pytest.raises(ValueError, match=r"found streams \['labelled'\], expected"):
        iterator.set_state({"labelled": {"next_index": 1}})


def test_far_positions_cost_nothing(source, split):
    iterator = make(source, split)
    far = {name: {"next_index": 10**12} for name in iterator.streams}
    iterator.set_state(far)
    batch = next(iterator)
    assert set(ids(batch.image)) <= set(split.labelled.tolist())


@pytest.mark.parametrize("count", [2, 4])
def test_process_shares_join_to_the_global_batch(source, split, count):
    whole = take(make(source, split, labelled=4, unlabelled=8), 9)
    shares = [
        take(
            make(
                source,
                split,
                labelled=4,
                unlabelled=8,
                process_index=index,
                process_count=count,
            ),
            9,
        )
        for index in range(count)
    ]
    for step, batch in enumerate(whole):
        for field in dataclasses.fields(Batch):
            parts = [getattr(share[step], field.name) for share in shares]
            assert {len(part) for part in parts} == {
                len(getattr(batch, field.name)) // count
            }
            np.testing.assert_array_equal(
                np.concatenate(parts), getattr(batch, field.name)
            )
    # 24 unlabelled images, 8 a step: three steps of all processes are one epoch.
    epoch = [index for share in shares for index in stream(share[:3], "unlabelled")]
    assert sorted(epoch) == split.unlabelled.tolist()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"labelled": 10, "process_count": 4},
            "labelled_batch: found 10, expected a multiple of process_count = 4",
        ),
        (
            {"labelled": 8, "unlabelled": 6, "process_count": 4},
            "unlabelled_batch: found 6, expected a multiple of process_count = 4",
        ),
        ({"labelled": 0}, "labelled_batch: found 0, expected at least 1"),
        ({"unlabelled": -1}, "unlabelled_batch: found -1, expected at least 1"),
        (
            {"process_index": 2, "process_count": 2},
            "process_index: found 2, expected 0 to process_count - 1 = 1",
        ),
        (
            {"process_index": -1},
            "process_index: found -1, expected 0 to process_count - 1 = 0",
        ),
    ],
)
def test_errors(source, split, changed, message):
    with pytest.raises(ValueError) as error:
        make(source, split, **changed)
    assert str(error.value) == message


@pytest.mark.parametrize("name", ["labelled", "unlabelled"])
def test_a_stream_needs_images(source, split, name):
    empty = dataclasses.replace(split, **{name: np.zeros(0, np.int64)})
    with pytest.raises(
        ValueError, match=f"found no {name} images, expected at least 1"
    ):
        make(source, empty)


def test_overhead():
    # 192 images of 28 x 28 a batch: 0.1 ms on one core; single images through Grain's
    # own shuffle, repeat and batch take 4 ms. The best of many, as machines are shared.
    rng = np.random.default_rng(0)
    part = Part(
        rng.integers(0, 256, (6000, 28, 28, 1), np.uint8),
        np.eye(10, dtype=np.float32)[np.arange(6000) % 10],
    )
    source = dataclasses.replace(
        load_source("synthetic"), train=part, test=part, name="timing"
    )
    indices = np.arange(6000)
    split = Split(
        protocol="timing",
        seed=0,
        query=indices[:0],
        validation=indices[:0],
        labelled=indices[:500],
        unlabelled=indices[500:],
        database=indices[500:],
    )
    iterator = make(source, split, labelled=64, unlabelled=128)
    seconds = []
    for _ in range(200):
        start = time.perf_counter()
        next(iterator)
        seconds.append(time.perf_counter() - start)
    assert np.median(seconds) < 0.002


@pytest.mark.parametrize("wrap", [lambda i: i, LazyImages], ids=["array", "lazy"])
@pytest.mark.parametrize("batch_size", [1, 4, 5, 7, 20])
def test_eval_batches(source, batch_size, wrap):
    part = Part(wrap(source.train.images), source.train.labels)
    indices = np.array([3, 29, 4, 4, 0, 11, 8, 1, 2, 20])
    found, labels = [], []
    batches = list(eval_batches(part, indices, batch_size=batch_size))
    assert len(batches) == -(-10 // batch_size)
    for number, (image, label, mask) in enumerate(batches):
        assert image.shape == (batch_size, 4, 4, 1)
        assert label.shape == (batch_size, 3)
        assert mask.shape == (batch_size,)
        assert (image.dtype, label.dtype, mask.dtype) == (np.uint8, np.float32, bool)
        assert mask.all() or number == len(batches) - 1
        np.testing.assert_array_equal(label, source.train.labels[ids(image)])
        assert set(ids(image[~mask])) <= {20}
        found += ids(image[mask])
        labels.append(label[mask])
    assert found == indices.tolist()
    np.testing.assert_array_equal(np.concatenate(labels), source.train.labels[indices])


def test_eval_batches_edges(source):
    none = np.zeros(0, np.int64)
    assert list(eval_batches(source.test, none, batch_size=4)) == []
    with pytest.raises(ValueError, match="batch_size: found 0, expected at least 1"):
        eval_batches(source.test, np.arange(3), batch_size=0)
