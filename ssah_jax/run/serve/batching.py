"""Images of several requests in one call of the encoder."""

import asyncio
from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Float32, UInt8

from ssah_jax.retrieval.code_files import pack_codes
from ssah_jax.run.image_encoder import ImageEncoder

SIZES: Final = (1, 4, 16)
"""Images of a call, filled up to one of these: each is compiled once."""

EncodeBatch = Callable[[UInt8[np.ndarray, "B S S ch"]], UInt8[np.ndarray, "B bytes"]]


def batch_encoder(encoder: ImageEncoder) -> EncodeBatch:
    """The encoder as a function of a batch.

    Args:
        encoder: of S x S images.

    Returns:
        From uint8 `[B, S, S, ch]`, 1 <= B <= 16, to packed codes `[B, ceil(K / 8)]`.
    """

    def encode(
        images: UInt8[np.ndarray, "B S S ch"],
    ) -> UInt8[np.ndarray, "B bytes"]:
        size = next(size for size in SIZES if size >= len(images))
        codes: Float32[np.ndarray, "B K"]
        codes = np.full((len(images), encoder.bits), np.nan, np.float32)
        for rows, values in encoder.encode(images, batch_size=size):
            codes[rows] = values
        return pack_codes(codes, bits=encoder.bits)

    return encode


class Batcher:
    """Codes of single images, computed for all who wait at once.

    Nobody waits for others to come: a batch is whoever came while the one before was
    computed.
    """

    def __init__(self, encode: EncodeBatch) -> None:
        """Starts nothing yet.

        Args:
            encode: of `batch_encoder`; called in a thread, once at a time.
        """
        self._encode = encode
        self._waiting: list[tuple[np.ndarray, asyncio.Future[np.ndarray]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def __call__(
        self, image: UInt8[np.ndarray, "S S ch"]
    ) -> UInt8[np.ndarray, "bytes"]:
        """The packed code of an image, uint8 `[S, S, ch]`.

        Raises:
            Exception: what the encoder raised on the batch.
        """
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((image, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            batch = self._waiting[: SIZES[-1]]
            del self._waiting[: len(batch)]
            images = np.stack([image for image, _ in batch])
            try:
                codes = await asyncio.to_thread(self._encode, images)
            # Whatever it is, those who wait have to hear of it.
            except Exception as error:
                for _, future in batch:
                    if not future.cancelled():
                        future.set_exception(error)
                continue
            for (_, future), code in zip(batch, codes, strict=True):
                if not future.cancelled():
                    future.set_result(code)
        self._worker = None


def warm_up(encoder: ImageEncoder) -> None:
    """Compiles the encoder for every size of a batch, so that no request waits for it.

    Args:
        encoder: of S x S images.
    """
    size, _, channels = encoder.image_form
    for number in SIZES:
        batch_encoder(encoder)(np.zeros((number, size, size, channels), np.uint8))
