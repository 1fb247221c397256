"""Every public loss by name, with arguments that it takes."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from loss_oracles import normal

from ssah_jax import losses

# Distinct primes, so that an array's shape says what it is.
B, M, K, C = 7, 11, 13, 5


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss as its kind calls it, always with `where` last.

    The kinds: "pair" and "anchor" take u `[B, K]`, v `[M, K]`, similar `[B, M]`, where
    `[B, M]` and return `[B, M]` and `[B]`; "point" takes u, labels `[B, C]`, centres
    `[C, K]`, ties `[K]`, where `[B]`, and "code" takes u, where `[B]`: both return
    `[B]`. "bit" takes the same and says something of the batch: `[K]` or `[K, K]`.

    Attributes:
        call: the loss with those arguments.
        kind: see above.
        flips: whether flipping the signs of some bits of all codes (and centres)
            changes nothing.
        permutes: whether the order of the bits changes nothing; None where it changes
            nothing of the sum alone.
    """

    call: Callable[..., jax.Array]
    kind: str
    flips: bool = True
    permutes: bool | None = True


def of_pairs(function, kind="pair", **features):
    def call(u, v, similar, where=None):
        return function(u, v, similar, where=where)

    return Loss(call, kind, **features)


def of_points(function, ties=False, **features):
    def call(u, labels, centres, bits, where=None):
        extra = (bits,) if ties else ()
        return function(u, labels, centres, *extra, where=where)

    return Loss(call, "point", **features)


def of_codes(function, kind="code", **features):
    def call(u, where=None):
        return function(u, where=where)

    return Loss(call, kind, **features)


# Few draws, so that no array of draws is as long as one that must not arise.
SAMPLED = functools.partial(losses.dtsh_sampled_loss, jax.random.key(0), draws=3)


def of_own_bits(u, where=None):
    return losses.code_agreement_loss(u, u, where=where)


LOSSES = {
    "dsh_loss": of_pairs(losses.dsh_loss),
    "dpsh_loss": of_pairs(losses.dpsh_loss),
    "dhn_loss": of_pairs(losses.dhn_loss),
    "hashnet_loss": of_pairs(losses.hashnet_loss),
    "dch_loss": of_pairs(losses.dch_loss),
    "logistic_pair_loss": of_pairs(losses.logistic_pair_loss),
    "contrastive_loss": of_pairs(losses.contrastive_loss),
    "ssdph_loss": of_pairs(losses.ssdph_loss),
    "mihash_loss": of_pairs(losses.mihash_loss, "anchor"),
    "talr_loss": of_pairs(losses.talr_loss, "anchor"),
    "dtsh_loss": of_pairs(losses.dtsh_loss, "anchor"),
    "dtsh_sampled_loss": of_pairs(SAMPLED, "anchor"),
    "triplet_margin_loss": of_pairs(losses.triplet_margin_loss, "anchor"),
    "greedyhash_loss": of_points(losses.greedyhash_loss),
    "csq_loss": of_points(losses.csq_loss, ties=True),
    "dpn_loss": of_points(losses.dpn_loss),
    "orthohash_loss": of_points(losses.orthohash_loss),
    "absolute_quantisation": of_codes(losses.absolute_quantisation),
    "squared_quantisation": of_codes(losses.squared_quantisation),
    "log_cosh_quantisation": of_codes(losses.log_cosh_quantisation),
    "cubic_quantisation": of_codes(losses.cubic_quantisation),
    "cosine_quantisation": of_codes(losses.cosine_quantisation),
    "dch_quantisation": of_codes(losses.dch_quantisation),
    "code_balance": of_codes(losses.code_balance, flips=False),
    "code_agreement_loss": of_codes(of_own_bits),
    "coding_rate_gap": of_codes(losses.coding_rate_gap, "bit", permutes=None),
    "bit_balance": of_codes(losses.bit_balance, "bit", permutes=False),
    "bit_independence": of_codes(losses.bit_independence, "bit", permutes=False),
}


def multi_hot(seed, rows):
    rng = np.random.default_rng(seed)
    labels = np.eye(C)[np.arange(rows) % C]
    return np.maximum(labels, rng.random((rows, C)) < 0.2).astype(np.float32)


def signs(seed, *shape):
    return np.where(normal(seed, *shape) >= 0, 1.0, -1.0).astype(np.float32)


def arguments(name, rows=B, columns=M, seed=0):
    """Arguments of a loss but for `where`, the codes first."""
    kind = LOSSES[name].kind
    u = 0.6 * normal(seed, rows, K)
    if kind in ("code", "bit"):
        return (u,)
    if kind == "point":
        labels = multi_hot(seed + 1, rows)
        return u, labels, signs(seed + 2, C, K), signs(seed + 3, K)
    v = 0.6 * normal(seed + 4, columns, K)
    labels, others = multi_hot(seed + 1, rows), multi_hot(seed + 5, columns)
    similar = labels @ others.T > 0
    return u, v, similar


def is_of_pairs(name):
    return LOSSES[name].kind in ("pair", "anchor")


def codes_of(name):
    """Which arguments are codes."""
    return (0, 1) if is_of_pairs(name) else (0,)


def shape_of(name, *given):
    """Shape of the values for these arguments."""
    shapes = {"bit_balance": (K,), "bit_independence": (K, K)}
    shapes["coding_rate_gap"] = (K,)
    rows = given[2].shape if LOSSES[name].kind == "pair" else given[0].shape[:1]
    return shapes.get(name, rows)


@functools.cache
def compiled(name):
    """Values, and the gradient of their weighted sum for the codes; one program."""

    def both(weights, where, *given):
        def total(*given):
            values = LOSSES[name].call(*given, where)
            return jnp.sum(values * weights), values

        grad = jax.grad(total, codes_of(name), has_aux=True)
        of, values = grad(*given)
        return values, of

    return jax.jit(both)


def both(name, *given, where=None):
    """Values, and the gradient for the codes of their sum with random weights."""
    if where is None:
        shape = given[2].shape if is_of_pairs(name) else given[0].shape[:1]
        where = np.ones(shape, bool)
    weights = normal(9, *shape_of(name, *given))
    return jax.tree.map(np.asarray, compiled(name)(weights, where, *given))


def close(found, wanted, rtol=2e-5):
    wanted = np.asarray(wanted)
    scale = max(np.abs(wanted).max(initial=0.0), 1e-3)
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * scale)
