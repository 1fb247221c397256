"""Batches for training: order, epochs, streams, resuming, processes."""

import dataclasses
import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pipeline_cases import ids, lazy, make, take

from ssah_jax.data import (
    Source,
    Split,
    seeded,
)
from ssah_jax.data.pipeline import BatchOrder
from ssah_jax.data.source import consecutive_parts
from ssah_jax.types import Batch


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
        np.testing.assert_array_equal(batch.image, source.images[ids(batch.image)])
        np.testing.assert_array_equal(batch.label, source.labels[ids(batch.image)])
        np.testing.assert_array_equal(
            batch.unlabelled, source.images[ids(batch.unlabelled)]
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
    labels = np.full_like(source.labels, np.nan)
    labels[split.labelled] = source.labels[split.labelled]
    poisoned = dataclasses.replace(source, labels=labels)
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
        for name in ("image", "label", "unlabelled"):
            parts = [getattr(share[step], name) for share in shares]
            assert {len(part) for part in parts} == {len(getattr(batch, name)) // count}
            np.testing.assert_array_equal(np.concatenate(parts), getattr(batch, name))
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
        ({"labelled": -1}, "labelled_batch: found -1, expected at least 1"),
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


def test_training_needs_labelled_images(source, split):
    empty = dataclasses.replace(split, labelled=np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="found no labelled images, expected at least"):
        make(source, empty)


def test_labelled_images_serve_where_none_are_unlabelled(source, split):
    empty = dataclasses.replace(split, unlabelled=np.zeros(0, np.int64))
    batches = take(make(source, empty, labelled=6, unlabelled=6), 4)
    for batch in batches:
        assert sorted(ids(batch.unlabelled)) == split.labelled.tolist()
    assert stream(batches, "unlabelled") != stream(batches, "image")


@pytest.mark.parametrize("rows_only", [False, True])
def test_without_a_labelled_batch_all_images_go_unlabelled(source, split, rows_only):
    iterator = make(source, split, labelled=0, unlabelled=5, rows_only=rows_only)
    everything = np.union1d(split.labelled, split.unlabelled)
    steps = take(iterator, len(everything))
    if rows_only:
        found = np.concatenate([step.unlabelled for step in steps]).tolist()
        assert all(step.labelled.shape == (0,) for step in steps)
    else:
        found = [index for step in steps for index in ids(step.unlabelled)]
        assert all(step.label.shape == (0, source.num_classes) for step in steps)
        assert steps[0].image.shape == (0, *source.image_shape)
    assert sorted(found) == sorted(5 * everything.tolist())
    assert set(iterator.streams) == {"unlabelled"}


def test_overhead():
    # 192 images of 28 x 28 a batch: 0.1 ms on one core; single images through Grain's
    # own shuffle, repeat and batch take 4 ms. The best of many, as machines are shared.
    rng = np.random.default_rng(0)
    source = Source(
        name="timing",
        images=rng.integers(0, 256, (6000, 28, 28, 1), np.uint8),
        labels=np.eye(10, dtype=np.float32)[np.arange(6000) % 10],
        parts=consecutive_parts(train=6000),
        class_names=tuple("abcdefghij"),
        multi_label=False,
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


# Another number of processes.


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 4)])
def test_resume_with_another_number_of_processes(source, split, before, after):
    def processes(count):
        return [
            make(source, split, unlabelled=8, process_index=index, process_count=count)
            for index in range(count)
        ]

    (whole,) = processes(1)
    expected = take(whole, 9)
    old, new = processes(before), processes(after)
    for iterator in old:
        take(iterator, 5)
    for iterator in new:
        iterator.set_state(old[0].get_state())
    shares = [take(iterator, 4) for iterator in new]
    for step in range(4):
        for name in ("image", "label", "unlabelled"):
            joined = [getattr(share[step], name) for share in shares]
            wanted = getattr(expected[5 + step], name)
            np.testing.assert_array_equal(np.concatenate(joined), wanted)


def test_threads_that_want_an_epochs_order_at_once_have_it_computed_once(monkeypatch):
    computed, compute = [], seeded.permutation

    def slowly(seed, size, name, epoch):
        computed.append(epoch)
        time.sleep(0.05)
        return compute(seed, size, name, epoch)

    monkeypatch.setattr(seeded, "permutation", slowly)
    order = BatchOrder(np.arange(32), batch_size=8, seed=0, name="x")
    with ThreadPoolExecutor(4) as threads:
        batches = list(threads.map(order.__getitem__, range(8)))
    assert sorted(computed) == [0, 1]
    assert sorted(np.concatenate(batches[:4])) == list(range(32))
