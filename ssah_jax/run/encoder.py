"""Images to codes: by a trained run, or by a frozen backbone and a binariser."""

import os
from typing import cast

from ssah_jax.data.images import RESIZES, Resize
from ssah_jax.networks.backbones import SPECS
from ssah_jax.retrieval.binarisers import check_kind
from ssah_jax.run.code_model import CodeModel
from ssah_jax.run.encoder_file import (
    find_encoder_file,
    is_encoder_file,
    read_encoder_file,
)
from ssah_jax.run.extractor import Extractor, load_extractor
from ssah_jax.run.frozen_encoder import FrozenEncoder
from ssah_jax.run.frozen_features import FeatureFunction
from ssah_jax.run.image_encoder import ImageEncoder
from ssah_jax.run.run_encoder import RunEncoder, load_encoder
from ssah_jax.run.workdir import Workdir, is_pushed


class Encoder(ImageEncoder):
    """Images to binary codes.

    Made by `from_run`, `from_backbone` or `load`:

    >>> import numpy as np
    >>> from ssah_jax import Encoder
    >>> images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
    >>> def pixels(images):
    ...     return images[:, ::4, ::4].reshape(len(images), -1) / 255
    >>> encoder = Encoder.from_backbone(pixels, image_size=16, bits=8).fit(images)
    >>> encoder.transform(images[:5]).shape
    (5, 8)

    Attributes:
        bits: K.
        fingerprint: 16 hexadecimal digits that change with anything that codes depend
            on; codes of two encoders are comparable only if theirs are equal.
    """

    @staticmethod
    def from_run(
        workdir: str | os.PathLike[str],
        *,
        step: str | int = "last",
        weights: str | os.PathLike[str] | None = None,
    ) -> RunEncoder:
        """The encoder of a trained run; its training data need not be there.

        Args:
            workdir: the directory of the run; or `hf:OWNER/NAME`, what `ssah push` sent
                of one.
            step: "last", "best" (on validation queries), or a step's number; of what
                was sent there is one.
            weights: of a run on stored features, where those of the backbone are that
                made them; None for where they were.

        Raises:
            ValueError: no run, or no such checkpoint.
        """
        if not is_pushed(workdir):
            encoder = load_encoder(Workdir(workdir), str(step))
        elif step != "last":
            raise ValueError(
                f"--step: found {step!r}, accepted is none with {os.fspath(workdir)}, "
                "which has one step"
            )
        else:
            stored = read_encoder_file(find_encoder_file(workdir))
            encoder = RunEncoder.of_stored(stored)
        return encoder if weights is None else encoder.with_weights(weights)

    @staticmethod
    def from_backbone(
        backbone: str | FeatureFunction,
        *,
        weights: str | os.PathLike[str] = "default",
        image_size: int | None = None,
        resize: str = "crop",
        binarise: str = "itq",
        bits: int | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> FrozenEncoder:
        """An encoder without training, which `fit` makes ready.

        Args:
            backbone: a word of `weight_tables.CONVERTIBLE`, such as "vit_s14"; or a
                function from uint8 images `[B, S, S, 3]` to features `[B, D]`, which
                normalises images itself.
            weights: of a word: a file, `hf:OWNER/NAME`, `torchvision:NAME`, or
                "default" for the backbone's own.
            image_size: S, in pixels; None for what the weights were made for, and 224
                for a function.
            resize: how images become square, "crop" or "squash".
            binarise: a word of `ssah_jax.retrieval.binarisers.KINDS`.
            bits: K; None for 64, or for D with "sign".
            seed: of what is drawn at random.
            name: of a function, part of the fingerprint: codes of functions with other
                names are not comparable; None for the function's own name.

        Raises:
            ValueError: an argument is none of these, or weights cannot be had.
        """
        check_kind(binarise)
        if resize not in RESIZES:
            raise ValueError(
                f"resize: found {resize!r}, accepted are {' and '.join(RESIZES)}"
            )
        if callable(backbone):
            function: Extractor | FeatureFunction = backbone
            side = 224 if image_size is None else image_size
            own = getattr(backbone, "__qualname__", type(backbone).__name__)
            called = str(name or own)
            if side < 1:
                raise ValueError(f"image_size: found {side}, accepted is 1 or more")
        else:
            # A later command may run elsewhere.
            spec = os.fspath(weights)
            spec = os.path.abspath(spec) if os.path.exists(spec) else spec
            function, called = load_extractor(backbone, spec), backbone
            side = SPECS[backbone].image_size if image_size is None else image_size
            function.check_images((side, side, 3))
        return FrozenEncoder(
            function,
            name=called,
            image_size=side,
            resize=cast(Resize, resize),
            binarise=binarise,
            bits=bits,
            seed=seed,
        )

    @staticmethod
    def load(
        path: str | os.PathLike[str],
        *,
        backbone: FeatureFunction | None = None,
        weights: str | os.PathLike[str] | None = None,
    ) -> ImageEncoder:
        """The encoder in a file.

        That is one that `save` or `ssah encode --backbone` wrote, or `ssah export --to
        safetensors` of a trained run.

        Args:
            path: the file; `hf:OWNER/NAME` for what `ssah push` has sent there; or
                "small" for the one that comes with the package.
            backbone: the function, where it is of one.
            weights: where the backbone's weights are now; None for where they were.

        Raises:
            ValueError: the file cannot be used, or weights or function are others.
        """
        path = find_encoder_file(path)
        if is_encoder_file(path):
            encoder = RunEncoder.of_stored(read_encoder_file(path))
            return encoder if weights is None else encoder.with_weights(weights)
        return FrozenEncoder.of_model(
            CodeModel.load(path), backbone=backbone, weights=weights
        )


# What is made here is one, for `isinstance`.
Encoder.register(RunEncoder)
Encoder.register(FrozenEncoder)
