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

Encoded = tuple[UInt8[np.ndarray, "bytes"], Float32[np.ndarray, "D"] | None]
"""The packed code of an image, and its features where these are asked for."""

EncodeBatch = Callable[[UInt8[np.ndarray, "B S S ch"]], list[Encoded]]


def batch_encoder(encoder: ImageEncoder, *, features: bool = False) -> EncodeBatch:
    """The encoder as a function of a batch.

    Args:
        encoder: of S x S images.
        features: whether features are asked for.

    Returns:
        From uint8 `[B, S, S, ch]`, 1 <= B <= 16, to what is said of each.
    """

    def encode(images: UInt8[np.ndarray, "B S S ch"]) -> list[Encoded]:
        size = next(size for size in SIZES if size >= len(images))
        codes = np.full((len(images), encoder.bits), np.nan, np.float32)
        kept: list[Float32[np.ndarray, D] | None] = [None] * len(images)
        if features:
            for rows, values, found in encoder.encode_both(images, batch_size=size):
                codes[rows] = values
                for row, feature in zip(rows.tolist(), found, strict=True):
                    kept[row] = feature
        else:
            for rows, values in encoder.encode(images, batch_size=size):
                codes[rows] = values
        return list(zip(pack_codes(codes, bits=encoder.bits), kept, strict=True))

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
        self._waiting: list[tuple[np.ndarray, asyncio.Future[Encoded]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, image: UInt8[np.ndarray, "S S ch"]) -> Encoded:
        """What is said of an image, uint8 `[S, S, ch]`.

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


def warm_up(encoder: ImageEncoder, *, features: bool = False) -> None:
    """Compiles the encoder for every size of a batch, so that no request waits for it.

    Args:
        encoder: of S x S images.
        features: whether features are asked for.
    """
    size, _, channels = encoder.image_form
    for number in SIZES:
        blank = np.zeros((number, size, size, channels), np.uint8)
        batch_encoder(encoder, features=features)(blank)
