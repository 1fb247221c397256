"""Checkpoints: bit-exact, placed, of one structure, whole or absent, and quiet."""

import itertools
import signal

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from checkpoint_cases import bits, in_a_process, make_iterator
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ssah_jax.run.checkpoint_digest import CheckpointError
from ssah_jax.run.checkpointing import open_checkpoints
from ssah_jax.types import AlignmentState, PaceState, TrainState

OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))


def replicated() -> NamedSharding:
    return NamedSharding(Mesh(np.asarray(jax.devices()), ("batch",)), PartitionSpec())


def make_state(seed: int = 0, width: int = 4) -> TrainState:
    keys = jax.random.split(jax.random.key(seed), 4)
    hnet = {
        "dense": {"kernel": jax.random.normal(keys[0], (3, width))},
        "half": jax.random.normal(keys[1], (5,)).astype(jnp.bfloat16),
        "no_parameters": {},
    }
    anet = {"bias": jax.random.normal(keys[2], (2,))}
    grads = jax.tree.map(lambda x: 0.1 * x, hnet)
    _, hnet_opt = OPTIMISER.update(grads, OPTIMISER.init(hnet), hnet)
    return TrainState(
        step=jnp.asarray(7 + seed, jnp.int32),
        key=keys[3],
        hnet=hnet,
        anet=anet,
        batch_stats={},
        teacher=jax.tree.map(lambda x: 0.5 * x, hnet),
        teacher_stats={},
        hnet_opt=hnet_opt,
        anet_opt=OPTIMISER.init(anet),
        centres=jnp.ones((2, 8)),
        ties=jnp.ones(8),
        bank={"count": jnp.int32(3)},
        pace=PaceState(
            threshold=jnp.float32(0.1),
            window=jnp.float32(0.7),
            angle=jnp.float32(0.2),
            recognised=jnp.float32(0.5),
        ),
        alignment=AlignmentState(prior=jnp.ones(2) / 2, predicted=jnp.ones(2) / 3),
    )


def abstract(state: TrainState, sharding: NamedSharding | None) -> TrainState:
    def shape(leaf: jax.Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    # The records' own checks, on in tests only, want arrays.
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        return jax.tree.map(shape, state)
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


@pytest.mark.parametrize("form", ["concrete", "abstract", "no sharding"])
@pytest.mark.parametrize("async_save", [True, False])
def test_round_trip_is_bit_exact_and_placed(tmp_path, form, async_save):
    assert len(jax.devices()) == 8
    state = jax.device_put(make_state(), replicated())
    like = jax.device_put(make_state(seed=1), replicated())
    if form != "concrete":
        sharding = replicated() if form == "abstract" else None
        like = abstract(like, sharding)
    with open_checkpoints(tmp_path, async_save=async_save) as checkpoints:
        checkpoints.save(7, state, iterators={}, metric=None)
        restored = checkpoints.restore(like)
    assert isinstance(restored, TrainState)
    assert isinstance(restored.pace, PaceState)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert bits(restored) == bits(state)
    assert bits(restored) != bits(make_state(seed=1))
    for leaf in jax.tree.leaves(restored):
        assert leaf.sharding.is_equivalent_to(replicated(), leaf.ndim)
        assert len(leaf.sharding.device_set) == 8
    # A typed key that can be used, not its words.
    np.testing.assert_array_equal(
        jax.random.uniform(restored.key, (3,)), jax.random.uniform(state.key, (3,))
    )


def test_each_leaf_keeps_its_own_sharding(tmp_path):
    rows = NamedSharding(replicated().mesh, PartitionSpec("batch"))
    state = {"rows": jnp.arange(16.0).reshape(8, 2), "one": jnp.arange(3.0)}
    device = jax.devices()[3]
    like = {
        "rows": jax.device_put(jnp.zeros((8, 2)), rows),
        "one": jax.device_put(jnp.zeros(3), device),
    }
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, iterators={}, metric=None)
        restored = checkpoints.restore(like)
    assert bits(restored) == bits(state)
    assert restored["rows"].sharding == rows
    assert restored["one"].devices() == {device}


def test_a_save_survives_donation_of_the_state(tmp_path):
    """Large leaves are written in slices, small ones from the buffer itself."""

    def make(step):
        return jax.device_put(
            {"large": jnp.arange(2e6) + step, "small": jnp.arange(5.0) + step},
            replicated(),
        )

    step_fn = jax.jit(
        lambda tree: jax.tree.map(lambda x: -x - 1, tree), donate_argnums=0
    )
    with open_checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            state = make(step)
            checkpoints.save(step, state, iterators={}, metric=None)
            for _ in range(3):
                state = step_fn(state)
            jax.block_until_ready(state)
            assert bits(checkpoints.restore(make(0))) == bits(make(step))


@pytest.mark.slow
def test_iterators_resume_at_the_next_element(tmp_path):
    seeds = {"labelled": 3, "unlabelled": 4}
    iterators = {name: make_iterator(seed) for name, seed in seeds.items()}
    for _ in range(5):
        next(iterators["labelled"])
    for _ in range(20):  # into the second epoch
        next(iterators["unlabelled"])
    state = {"w": jnp.zeros(2)}
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, state, iterators=iterators, metric=None)
        expected = {n: list(itertools.islice(i, 20)) for n, i in iterators.items()}
        resumed = {name: make_iterator(seed) for name, seed in seeds.items()}
        next(resumed["labelled"])
        checkpoints.restore(state, iterators=resumed)
        # One alone, and none, can be restored as well.
        alone = make_iterator(seeds["unlabelled"])
        checkpoints.restore(state, iterators={"unlabelled": alone})
        checkpoints.restore(state)
    for name, iterator in resumed.items():
        np.testing.assert_array_equal(
            list(itertools.islice(iterator, 20)), expected[name]
        )
    np.testing.assert_array_equal(next(alone), expected["unlabelled"][0])


def renamed(state: TrainState) -> TrainState:
    hnet = dict(state.hnet)
    hnet["other"] = hnet.pop("half")
    return state.replace(hnet=hnet)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda state: make_state(width=6),
            r"hnet/dense/kernel is stored as float32\[3, 4\], expected float32\[3, 6\]",
        ),
        (
            lambda state: state.replace(centres=jnp.ones((2, 8), jnp.bfloat16)),
            r"centres is stored as float32\[2, 8\], expected bfloat16\[2, 8\]",
        ),
        (renamed, r"hnet/other is not stored, expected bfloat16\[5\]"),
        (
            lambda state: state.replace(anet={}, anet_opt=OPTIMISER.init({})),
            r"anet/bias is stored as float32\[2\], expected absent",
        ),
        (
            lambda state: state.replace(hnet_opt=optax.adamw(1e-3).init(state.hnet)),
            r"hnet_opt/0/count is not stored, expected int32\[\]",
        ),
        (
            lambda state: state.replace(key=jax.random.key(0, impl="rbg")),
            r"key is stored as uint32\[2\], expected uint32\[4\]",
        ),
    ],
)
def test_a_mismatch_is_one_line_that_names_the_leaf(
    tmp_path, capfd, caplog, change, message
):
    state = make_state()
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state, iterators={}, metric=None)
        with pytest.raises(CheckpointError, match=message) as caught:
            checkpoints.restore(change(state))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}: step 3: ")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.slow
def test_kill_in_the_middle_of_a_save(tmp_path):
    """Also: the console stays empty, at absl's chattiest and on other devices."""
    script = """
        import os, signal, sys
        import absl.logging
        absl.logging.use_absl_handler()
        absl.logging.set_verbosity(absl.logging.INFO)
        absl.logging.set_stderrthreshold("info")
        import jax, jax.numpy as jnp
        from ssah_jax.run.checkpointing import open_checkpoints
        state = {"w": jnp.arange(4.0), "key": jax.random.key(0)}
        with open_checkpoints(sys.argv[1]) as checkpoints:
            checkpoints.save(1, state, iterators={}, metric=0.5)
            checkpoints.save(2, state, iterators={}, metric=None)
            checkpoints.restore(state)
        with open_checkpoints(sys.argv[1], read_only=True) as checkpoints:
            checkpoints.restore(state, step=1)
        absl.logging.info("shown")
        with open_checkpoints(sys.argv[1]) as checkpoints:
            large = state | {"w": jnp.ones(20_000_000)}
            checkpoints.save(3, large, iterators={}, metric=0.9)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = in_a_process(script, tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout == ""
    # absl still speaks for others; its first line is its own.
    spoken = [line.split("] ")[-1] for line in done.stderr.splitlines()]
    assert spoken == ["WARNING: Logging before flag parsing goes to stderr.", "shown"]
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == 3, left  # 1, 2 and something unfinished
    like = jax.eval_shape(lambda: {"w": jnp.zeros(4), "key": jax.random.key(0)})
    for read_only in (True, False):
        with open_checkpoints(tmp_path, read_only=read_only) as checkpoints:
            assert checkpoints.all_steps() == [1, 2]
            assert (checkpoints.best_step(), checkpoints.latest_step()) == (1, 2)
            # Saved on one device, restored on eight.
            restored = checkpoints.restore(like)
            np.testing.assert_array_equal(restored["w"], np.arange(4.0))
            assert len(restored["w"].devices()) == 8
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, restored, iterators={}, metric=0.6)
        assert checkpoints.best_step() == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "4"]
