"""Fixed centres of the classes: binary codes that are far from each other."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from ssah_jax.losses.hadamard import hadamard
from ssah_jax.similarity import arguments, inner_product, unit_rows

_BLOCK = 512
"""Candidates that are looked at together, and rows whose distances are."""

_LISTED_BITS = 16
"""Most bits at which all codes are listed, so that none can be missed."""


@arguments.takes(
    key=arguments.key,
    num_classes=arguments.whole(1),
    bits=arguments.whole(1),
    draws=arguments.whole(1),
)
def class_centres(
    key: Key[Array, ""], *, num_classes: int, bits: int, draws: int = 64
) -> Float[Array, "C K"]:
    """Centres for the classes, `[C, K]` in {-1, +1}, no two of them equal.

    Rows of a Hadamard matrix and then their negatives where C <= 2K and such a matrix
    of order K can be built (any two differ in at least K/2 bits): Sylvester's, both of
    Paley's for a prime, and Kronecker products of these, which are all multiples of 4
    up to 128 but 52, 92, 100 and 116. Columns are permuted and flipped by the key.

    Elsewhere random codes with as many +1 as -1 (but for one, if K is odd), taken one
    after the other if they keep a distance from all before, which is `minimum_distance`
    at the least. That distance begins at what chance should allow, and is relaxed
    whenever fewer than one candidate in `draws` keeps it. Where there are too few such
    codes for the classes (K hardly above log2 C), any codes.

    The first are the centres of CSQ ("Central Similarity Quantization",
    https://arxiv.org/abs/1908.00347); its second rule is the best of 20 random sets,
    whose nearest centres are nearer. Cost: O(draws C^2 K) time at worst, O(C) memory.

    Args:
        key: consumed.
        num_classes: C, at least 1.
        bits: K, at least 1, and with 2^K >= C (2^K >= 2 C for K > 16).
        draws: random candidates for each centre, at least 1, where they are needed.

    Raises:
        ValueError: one line: too few bits for the classes.
    """
    matrix = hadamard(bits) if num_classes <= 2 * bits else None
    if matrix is not None:
        order, flip, pick = jax.random.split(key, 3)
        rows = jax.random.permutation(pick, jnp.asarray(matrix))
        # The negatives come last: used only when the rows do not suffice.
        rows = jnp.concatenate([rows, -rows])
        columns = jax.random.permutation(order, bits)
        sign = jax.random.rademacher(flip, (bits,), jnp.float32)
        return rows[:num_classes, columns] * sign[None, :]
    if num_classes > _count_codes(bits):
        least = next(k for k in range(bits, 64) if num_classes <= _count_codes(k))
        raise ValueError(
            f"bits: found {bits}, accepted is at least {least} for {num_classes} "
            "classes"
        )
    return _distant_codes(key, num_classes, bits, draws)


@arguments.takes(key=arguments.key, bits=arguments.whole(1))
def init_ties(key: Key[Array, ""], *, bits: int) -> Float[Array, "K"]:
    """Random bits that stand where an image's centres disagree, `[K]` in {-1, +1}.

    Draw them once and keep them with the centres; see `merged_centres`.

    Args:
        key: consumed.
        bits: K, at least 1.
    """
    return jax.random.rademacher(key, (bits,), jnp.float32)


@arguments.takes(
    centres=arguments.signs("C K"),
    labels=arguments.labels("B C"),
    ties=arguments.signs("K"),
)
def merged_centres(
    labels: Float[Array, "B C"], centres: Float[Array, "C K"], ties: Float[Array, "K"]
) -> Float[Array, "B K"]:
    """The one centre of an image with several labels, `[B, K]` in {-1, +1}.

    Bit by bit the sign of the sum of the true labels' centres, and where that sum is 0
    the bit of `ties`: the centroid of CSQ (https://arxiv.org/abs/1908.00347). Its code
    rewrites the ties as it goes; here they are an argument, and stay what they are.
    Cost: O(B C K) time, O(B K) memory.

    Args:
        labels: multi-hot `[B, C]` or class numbers `[B]`; zeros give `ties`.
        centres: `[C, K]` in {-1, +1}.
        ties: `[K]` in {-1, +1}, see `init_ties`.
    """
    total = inner_product(labels, centres.T)
    return jnp.where(total == 0, ties.astype(jnp.float32)[None, :], jnp.sign(total))


@arguments.takes(
    centres=arguments.codes("C K"),
    u=arguments.codes("B K"),
    labels=arguments.labels("B C"),
    decay=arguments.number("[0, 1]"),
)
def follow_class_means(
    centres: Float[Array, "C K"],
    u: Float[Array, "B K"],
    labels: Float[Array, "B C"],
    *,
    decay: float = 0.99,
) -> Float[Array, "C K"]:
    """Move each centre towards the mean direction of its images' codes, `[C, K]`.

    `decay c + (1 - decay) mean(u / |u|)`; a class without images stays. For losses
    that know no centres, so that a code can still be asked for its class.

    Cost: O(B C K) time, O(B C + B K) memory.

    Args:
        centres: running means, `[C, K]`.
        u: codes of the whole batch, `[B, K]`, any real; constants of the gradient.
        labels: multi-hot `[B, C]` in {0, 1}.
        decay: share of the old mean that stays, in [0, 1].
    """
    unit = jax.lax.stop_gradient(unit_rows(u))
    number = jnp.sum(labels, axis=0)[:, None]
    mean = jnp.matmul(labels.T, unit, precision="highest") / jnp.maximum(number, 1.0)
    return jnp.where(number > 0, decay * centres + (1.0 - decay) * mean, centres)


@arguments.takes(centres=arguments.signs("C K"))
def minimum_distance(centres: Float[Array, "C K"]) -> Float[Array, ""]:
    """Least Hamming distance of two centres, in bits; K if there is only one.

    Cost: O(C^2 K) time, O(C) memory.

    Args:
        centres: `[C, K]` in {-1, +1}.
    """
    num_classes, bits = centres.shape

    def nearest(own: tuple[Array, Array]) -> Array:
        index, row = own
        alike = inner_product(row[None, :], centres)[0]
        return jnp.max(jnp.where(jnp.arange(num_classes) == index, -bits, alike))

    rows = (jnp.arange(num_classes), centres)
    alike = jax.lax.map(nearest, rows, batch_size=min(_BLOCK, num_classes))
    return (bits - jnp.max(alike)) / 2


def _count_codes(bits: int) -> int:
    """Most classes for which different codes are certain to be found."""
    # Drawn codes are taken up to half of all, so that every other draw is a new one.
    return 2**bits if bits <= _LISTED_BITS else 2 ** (bits - 1)


def _count_balanced(bits: int) -> int:
    return math.comb(bits, bits // 2) * (1 + bits % 2)


Search = tuple[Array, Array, Array, Array]
"""Centres `[C, K]`, how many there are, blocks looked at, and the wanted distance."""

Candidates = Callable[[Int[Array, ""]], Float[Array, "block K"]]
"""Makes the n-th block of candidates."""


# Compiled once for a size, not anew for every key.
@partial(jax.jit, static_argnames=("num_classes", "bits", "draws"))
def _distant_codes(
    key: Key[Array, ""], num_classes: int, bits: int, draws: int
) -> Float[Array, "C K"]:
    listed = bits <= _LISTED_BITS
    balanced = num_classes * (1 if listed else 2) <= _count_balanced(bits)
    # Codes with equally many +1 differ in an even number of bits.
    step = 2 if balanced and bits % 2 == 0 else 1
    start = _promising_distance(num_classes, bits, draws, step)
    candidates = (_listed if listed else _drawn)(key, bits, balanced)
    numbers = jnp.arange(num_classes)

    def unfinished(state: Search) -> Bool[Array, ""]:
        return state[1] < num_classes

    def add(state: Search) -> Search:
        centres, count, block, distance = state
        codes = candidates(block)
        alike = jnp.where(
            numbers[None, :] < count, inner_product(codes, centres), -bits
        )
        taken = jnp.max(alike, axis=-1) > bits - 2 * distance
        near = inner_product(codes, codes) > bits - 2 * distance

        def take(i: Array, chosen: Array) -> Array:
            free = ~taken[i] & ~jnp.any(chosen & near[i])
            return chosen.at[i].set(free)

        chosen = jax.lax.fori_loop(0, _BLOCK, take, jnp.zeros(_BLOCK, bool))
        place = jnp.where(chosen, count + jnp.cumsum(chosen) - 1, num_classes)
        found = jnp.sum(chosen)
        relaxed = jnp.maximum(distance - step, 1)
        return (
            centres.at[place].set(codes, mode="drop"),
            count + found,
            block + 1,
            jnp.where(found < _BLOCK / draws, relaxed, distance),
        )

    zero = jnp.asarray(0, jnp.int32)
    empty = jnp.zeros((num_classes, bits), jnp.float32)
    first = (empty, zero, zero, jnp.asarray(start, jnp.int32))
    return jax.lax.while_loop(unfinished, add, first)[0]


def _promising_distance(num_classes: int, bits: int, draws: int, step: int) -> int:
    """The largest distance that one in `draws` codes keeps from C - 1 random ones."""
    if step == 2:
        half = bits // 2
        chances = {2 * j: math.comb(half, j) ** 2 for j in range(half + 1)}
    else:
        chances = {j: math.comb(bits, j) for j in range(bits + 1)}
    total, nearer, best = sum(chances.values()), 0, 1
    for distance, count in chances.items():
        # The centres nearer than this are about Poisson.
        if distance and (num_classes - 1) * nearer / total <= math.log(draws):
            best = distance
        nearer += count
    return best


def _listed(key: Key[Array, ""], bits: int, balanced: bool) -> Candidates:
    """Blocks of all codes in random order, over and over."""
    codes = np.arange(2**bits, dtype=np.uint32)
    if balanced:
        ones = np.bitwise_count(codes)
        codes = codes[(ones == bits // 2) | (ones == (bits + 1) // 2)]
    order = jax.random.permutation(key, jnp.asarray(codes))

    def block(index: Int[Array, ""]) -> Float[Array, "block K"]:
        rows = (index * _BLOCK + jnp.arange(_BLOCK)) % len(codes)
        digits = order[rows, None] >> jnp.arange(bits, dtype=jnp.uint32)[None, :]
        return jnp.where(digits & 1 == 1, 1.0, -1.0)

    return block


def _drawn(key: Key[Array, ""], bits: int, balanced: bool) -> Candidates:
    """Blocks of independent random codes."""
    ordered = jnp.where(jnp.arange(bits) < bits // 2, 1.0, -1.0)

    def block(index: Int[Array, ""]) -> Float[Array, "block K"]:
        mix, flip = jax.random.split(jax.random.fold_in(key, index))
        if not balanced:
            return jax.random.rademacher(mix, (_BLOCK, bits), jnp.float32)
        codes = jnp.broadcast_to(ordered, (_BLOCK, bits))
        codes = jax.random.permutation(mix, codes, axis=1, independent=True)
        # Of an odd number of bits either sign may be the one in excess.
        return codes * jax.random.rademacher(flip, (_BLOCK, 1), jnp.float32)

    return block
