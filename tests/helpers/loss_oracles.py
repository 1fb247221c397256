"""What the tests of the losses share: oracles in NumPy loops, gradients, inputs.

The oracles are loops in float64, and the gradients wanted are central differences of
the oracles, not of the functions under test.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

EPSILON = 1e-6


def numeric_gradient(f, x, step=1e-5):
    """Central differences of a scalar function of one array, in float64."""
    x = np.asarray(x, np.float64)
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (f(up) - f(down)) / (2 * step)
    return gradient


def assert_gradient(function, oracle, x, weights, step=1e-5):
    """Compare the gradient of a weighted sum of values with that of the oracle."""
    found = jax.grad(lambda x: jnp.sum(function(x) * weights))(jnp.asarray(x))
    wanted = numeric_gradient(lambda x: np.sum(oracle(x) * weights), x, step)
    np.testing.assert_allclose(
        found, wanted, rtol=2e-4, atol=2e-5 * max(1.0, np.abs(wanted).max())
    )


def gradient_of(function, *arguments):
    return jax.grad(lambda *x: function(*x).sum(), tuple(range(len(arguments))))(
        *on_device(*arguments)
    )


def on_device(*arrays):
    return tuple(map(jnp.asarray, arrays))


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def cosine_loop(u, v):
    out = np.zeros((len(u), len(v)))
    for i, j in np.ndindex(*out.shape):
        size_u = max(math.sqrt(sum(float(a) ** 2 for a in u[i])), EPSILON)
        size_v = max(math.sqrt(sum(float(b) ** 2 for b in v[j])), EPSILON)
        for a, b in zip(u[i], v[j], strict=True):
            out[i, j] += float(a) * float(b) / (size_u * size_v)
    return out


def log_softmax_loop(row):
    top = max(row)
    total = top + math.log(sum(math.exp(x - top) for x in row))
    return [x - total for x in row]


# Codes as they come in training, and as they come when something went wrong.

SMOOTH = ("random", "one row", "duplicate rows", "saturated", "long rows")


def codes(name, bits=8):
    u = normal(0, 6, bits)
    if name == "one row":
        return u[:1]
    if name == "duplicate rows":
        return u[[0, 1, 0, 0, 2, 1]]
    if name == "saturated":
        return np.where(u >= 0, 1e4, -1e4).astype(np.float32)
    if name == "long rows":
        return 1e4 * u
    if name == "zero rows":
        u[1] = u[4] = 0.0
    if name == "all zero":
        u[:] = 0.0
    return u


CODES = (*SMOOTH, "zero rows", "all zero")
LABELS = {
    "one label": np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 0]],
    "several labels": np.array(
        [[1, 1, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1], [0, 0, 0], [1, 0, 0]], np.float32
    ),
    "no label": np.zeros((6, 3), np.float32),
    "no similar pair": np.eye(6, dtype=np.float32),
    "all similar": np.ones((6, 1), np.float32),
}


def step_for(name):
    """A step that is small beside the rows (float64, so it may be very small)."""
    return {"saturated": 1.0, "long rows": 1.0}.get(name, 1e-5)
