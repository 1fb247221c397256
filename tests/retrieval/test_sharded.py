"""Histograms of a database split over devices and processes: identical integers."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from commands import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from ssah_jax import retrieval
from ssah_jax.retrieval import bit_sliced, histograms, inputs, sharded


def make(seed, *, queries, items, bits, classes, multi):
    rng = np.random.default_rng(seed)
    return [
        array
        for rows in (queries, items)
        for array in (
            rng.normal(size=(rows, bits)).astype(np.float32),
            (rng.random((rows, classes)) < 0.3).astype(np.int8)
            if multi
            else rng.integers(0, classes, rows),
        )
    ]


def keyed(sets):
    """The count of every distance and relevance from blocks of keys, on the host."""
    packed = inputs.pack_sets(*sets)
    total = np.zeros((len(sets[0]), packed.bits + 1, 2), int)
    for rows, _, keys in histograms.key_blocks(
        packed, query_block=5, database_block=1000
    ):
        for row, key in zip(total[rows], keys, strict=True):
            row += np.bincount(key, minlength=row.size).reshape(row.shape)
    return total.sum(axis=2), total[:, :, 1]


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 100),
    items=st.sampled_from([1, 7, 2048, 2049, 20000]),
    devices=st.sampled_from([1, 3, 8]),
    multi=st.booleans(),
)
def test_every_split_equals_keys_on_the_host(seed, items, devices, multi):
    sets = make(seed, queries=6, items=items, bits=10, classes=4, multi=multi)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("rows",))
    wanted = keyed(sets)
    for options in (dict(), dict(mesh=mesh), dict(mesh=mesh, database_block=1)):
        found = retrieval.distance_histograms(*sets, **options)
        np.testing.assert_array_equal(found, wanted)


def test_grades_over_all_devices():
    sets = make(0, queries=5, items=9000, bits=70, classes=9, multi=True)
    mesh = sharded.database_mesh()
    assert mesh.devices.shape == (8,)
    one = histograms.graded_histograms(*sets)
    assert one.shape[1] > 3 and one.sum() == 5 * 9000
    np.testing.assert_array_equal(histograms.graded_histograms(*sets, mesh=mesh), one)


def test_lanes_hold_every_item_once():
    rng = np.random.default_rng(0)
    code, label = rng.integers(0, 2**32, (2, 5000, 3), dtype=np.uint32)
    for shards, rows in [(1, None), (3, None), (4, 30000)]:
        found = bit_sliced.lanes(code, label, block=2048, shards=shards, rows=rows)
        assert len(found.code) % shards == 0
        bits = (found.valid[:, None] >> np.arange(32)[None, :, None]) & 1
        where = np.flatnonzero(bits)
        for words, wanted in ((found.code, code), (found.label, label)):
            flat = words.transpose(0, 2, 3, 1).reshape(-1, 3)
            np.testing.assert_array_equal(flat[where], wanted)


def test_two_axes_are_refused():
    mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 4), ("a", "b"))
    sets = make(0, queries=2, items=9, bits=4, classes=2, multi=False)
    with pytest.raises(ValueError, match=r"mesh: found the axes \('a', 'b'\); accep"):
        retrieval.distance_histograms(*sets, mesh=mesh)


def test_more_items_than_a_count_holds_are_refused():
    # A view of one row; nothing of its size is ever made.
    word = np.broadcast_to(np.uint32(0), (2**31, 1))
    row = np.zeros((1, 1), np.uint32)
    sets = inputs.PackedSets(row, word, row, word, np.ones(1, bool), True, 4)
    with pytest.raises(ValueError, match="found 2147483648 items; accepted are at mo"):
        histograms.count_sets(sets)


PROCESS = """
import json, sys
import jax
import numpy as np

number, port = int(sys.argv[1]), sys.argv[2]
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"localhost:{port}", 2, number)
from ssah_jax.retrieval import histograms, sharded

rng = np.random.default_rng(0)
codes, labels = rng.normal(size=(7000, 20)), rng.random((7000, 40)) < 0.1
# One process's rows are single-label, and fewer: both must run one program.
labels[5000:] = np.eye(40)[rng.integers(0, 40, 2000)]
labels[:5] = labels[5000:5005]
rows = slice(0, 5000) if number == 0 else slice(5000, 7000)
sets = codes[:5], labels[:5], codes[rows], labels[rows]
mesh = sharded.database_mesh()
found = histograms.distance_histograms(*sets, mesh=mesh)
graded = histograms.graded_histograms(*sets, mesh=mesh)
big = sharded.over_processes(2**40 + number)
assert big.tolist() == [2**40, 2**40 + 1], big
print(json.dumps([np.asarray(found).tolist(), graded.tolist()]))
"""


@pytest.mark.slow
def test_two_processes():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(number), port],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    one, two = (json.loads(out.splitlines()[-1]) for out, _ in outputs)
    assert one == two
    rng = np.random.default_rng(0)
    codes, labels = rng.normal(size=(7000, 20)), rng.random((7000, 40)) < 0.1
    labels[5000:] = np.eye(40)[rng.integers(0, 40, 2000)]
    labels[:5] = labels[5000:5005]
    sets = codes[:5], labels[:5], codes, labels
    np.testing.assert_array_equal(one[0], retrieval.distance_histograms(*sets))
    graded = np.array(one[1])
    wanted = histograms.graded_histograms(*sets)
    # A process alone may not know that the highest grades are out of reach.
    assert graded[:, wanted.shape[1] :].sum() == 0
    np.testing.assert_array_equal(graded[:, : wanted.shape[1]], wanted)


MEMORY = """
import pathlib, sys
import numpy as np
from ssah_jax.retrieval import histograms, inputs

def resident(field):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(field))
    return int(line.split()[1]) / 1024

rng = np.random.default_rng(0)
size, queries, classes = 1_000_000, int(sys.argv[1]), 21
words = rng.integers(0, 2**32, (size, 2), dtype=np.uint32)
masks = rng.integers(0, 2**classes, (size, 1), dtype=np.uint32)
sets = inputs.PackedSets(
    words[:queries], words, masks[:queries], masks, np.ones(queries, bool), False, 64
)
small = sets._replace(database_code=words[:70_000], database_label=masks[:70_000])
histograms.count_sets(small)
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
count, relevant = histograms.count_sets(sets).swapaxes(0, 1)
peak = resident("VmHWM")
assert (count.sum(axis=1) == size).all()
wanted = np.bitwise_count(words[3] ^ words).sum(axis=1)
np.testing.assert_array_equal(count[3], np.bincount(wanted, minlength=65))
shared = (masks[3] & masks)[:, 0] != 0
assert relevant[3].sum() == shared.sum()
print(peak - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_a_million_codes():
    # One byte a pair would be 200 MB for 200 queries, 400 MB for 400.
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    growth = []
    for queries in (200, 400):
        result = subprocess.run(
            [sys.executable, "-c", MEMORY, str(queries)],
            capture_output=True,
            text=True,
            env=environment,
        )
        assert result.returncode == 0, result.stderr
        growth.append(float(result.stdout))
    # Words of codes and labels are 12 MB; they are laid out anew and copied once.
    assert min(growth) > 0 and max(growth) < 100
    assert growth[1] < growth[0] + 20
