"""A trained encoder as a file that runs without this package.

All forms take uint8 images `[batch, H, W, ch]` of the size that the run has, for any
batch, normalise them as the run does, and give both the real-valued codes, float32
`[batch, K]`, and the packed bits, uint8 `[batch, ceil(K / 8)]` in the order of
`ssah_jax.retrieval.codes`. How photographs become images of that size is not in them;
`describe` says it.
"""

import importlib.util
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array, Float, UInt8

from ssah_jax.method import steps
from ssah_jax.run.onnx_graph import to_onnx
from ssah_jax.run.onnx_nodes import UntranslatableError
from ssah_jax.run.run_encoder import RunEncoder

PLATFORMS = ("cpu", "cuda", "tpu")
"""What an exported StableHLO runs on."""

OUTPUTS = ("codes", "packed")
"""Names of the outputs, in their order."""

Encode = Callable[
    [UInt8[Array, "B H W ch"]],
    tuple[Float[Array, "B K"], UInt8[Array, "B bytes"]],
]


class ExportError(ValueError):
    """The encoder cannot be exported in that form."""


def describe(encoder: RunEncoder) -> dict[str, Any]:
    """What whoever runs the file has to know; JSON."""
    height, width, channels = encoder.info.image_shape
    return {
        "format": "ssah_jax encoder",
        "version": 1,
        "input": {
            "images": f"uint8 [batch, {height}, {width}, {channels}], "
            + ("grey" if channels == 1 else "RGB")
        },
        "outputs": {
            "codes": f"float32 [batch, {encoder.bits}]; bit i is 1 where >= 0",
            "packed": f"uint8 [batch, {-(-encoder.bits // 8)}]; bit i is bit 7 - i % 8 "
            "of byte i // 8",
        },
        "resize": encoder.config.data.resize,
        "bits": encoder.bits,
        "fingerprint": encoder.fingerprint,
    }


def to_function(encoder: RunEncoder) -> Encode:
    """From images to codes and packed bits, with the parameters as constants.

    Raises:
        ExportError: the run is on stored features, and has no backbone.
    """
    if encoder.config.data.source == "features":
        raise ExportError(
            "--workdir: found a run on stored features, which holds no backbone to "
            "make them of images with; accepted is a run on images"
        )
    # Off the devices that they are replicated over.
    teacher = encoder.state.teacher, encoder.state.teacher_stats
    params, stats = jax.tree.map(jnp.asarray, jax.device_get(teacher))
    bit = np.arange(encoder.bits)
    places = np.zeros((encoder.bits, -(-encoder.bits // 8)), np.float32)
    places[bit, bit // 8] = 128 >> bit % 8

    def encode(
        images: UInt8[Array, "B H W ch"],
    ) -> tuple[Float[Array, "B K"], UInt8[Array, "B bytes"]]:
        codes = steps.encode_step(params, stats, images, config=encoder.config)
        ones = (codes >= 0).astype(jnp.float32)
        # Sums of powers of two below 256: exact in any precision of a product.
        packed = jnp.matmul(ones, places, precision="highest")
        return codes, packed.astype(jnp.uint8)

    return encode


def to_stablehlo(encoder: RunEncoder) -> bytes:
    """What `jax.export.deserialize` takes, for `PLATFORMS`."""
    (batch,) = export.symbolic_shape("batch")
    shape = (batch, *encoder.info.image_shape)
    found = export.export(jax.jit(to_function(encoder)), platforms=PLATFORMS)(
        jax.ShapeDtypeStruct(shape, np.uint8)
    )
    return bytes(found.serialize())


def require_onnx() -> None:
    """Checks that the package of ONNX's files is there.

    Raises:
        ExportError: it is not.
    """
    if importlib.util.find_spec("onnx") is None:
        raise ExportError(
            "--to onnx: found no package onnx; pip install 'ssah-jax[export]' brings it"
        )


def to_onnx_file(encoder: RunEncoder) -> bytes:
    """A `.onnx` file; its properties hold what `describe` says.

    Raises:
        ExportError: the network computes what ONNX is not told here.
    """
    try:
        return to_onnx(
            to_function(encoder),
            image_shape=encoder.info.image_shape,
            outputs=OUTPUTS,
            metadata={"ssah_jax": json.dumps(describe(encoder))},
        )
    except UntranslatableError as error:
        raise ExportError(
            f"--to onnx: the network {encoder.config.hnet.backbone}: {error}; "
            "--to stablehlo takes every network"
        ) from error
