"""`ssah serve`: images that wait are encoded together, each with its own answer."""

import asyncio
import time

import numpy as np
from PIL import Image

from ssah_jax.run import parallel
from ssah_jax.run.serve import batching


def test_requests_that_wait_share_one_call():
    sizes: list[int] = []

    def encode(images):
        sizes.append(len(images))
        time.sleep(0.05)
        return [(image[0, 0], None) for image in images]

    async def ask():
        batcher = batching.Batcher(encode)
        images = [np.full((2, 2, 1), n, np.uint8) for n in range(20)]
        return await asyncio.gather(*map(batcher, images))

    codes = asyncio.run(ask())
    assert [int(code[0]) for code, _ in codes] == [*range(20)]
    assert sum(sizes) == 20 and len(sizes) <= 3


def test_a_failure_reaches_all_who_wait_and_ends_nothing():
    def encode(images):
        if images[0, 0, 0, 0] == 9:
            raise RuntimeError("failed")
        return [(image[0, 0], None) for image in images]

    async def ask():
        batcher = batching.Batcher(encode)
        bad, good = np.full((1, 1, 1), 9, np.uint8), np.zeros((1, 1, 1), np.uint8)
        first = await asyncio.gather(batcher(bad), return_exceptions=True)
        return first, await batcher(good)

    failed, (code, _) = asyncio.run(ask())
    assert isinstance(failed[0], RuntimeError) and code.tolist() == [0]


def test_every_call_takes_the_same_compiled_step(run, monkeypatch):
    made = []
    original = parallel.pmap_encode_step
    monkeypatch.setattr(
        parallel, "pmap_encode_step", lambda c: made.append(c) or original(c)
    )
    encode = batching.batch_encoder(run.encoder)
    for count in (1, 1, 3, 2):
        encode(np.zeros((count, 8, 8, 1), np.uint8))
    assert len(made) == 1


def test_a_batch_gives_the_codes_of_its_images(run):
    images = [
        np.asarray(Image.open(run.photos / name))[..., None] for name in run.names[:6]
    ]
    encode = batching.batch_encoder(run.encoder)
    packed = np.stack([code for code, _ in encode(np.stack(images))])
    found = np.unpackbits(packed, axis=1)[:, :20]
    np.testing.assert_array_equal(found, run.codes[:6] >= 0)
