"""`ssah encode --backbone`: what its binariser learns from, and where it is kept."""

import argparse
import contextlib
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ssah_jax.cli.encoders import model_path
from ssah_jax.retrieval.files import one_line

# As in ssah_jax.cli.encoding.
if TYPE_CHECKING:
    import ssah_jax.run.frozen_encoder


def make_encoder(
    options: argparse.Namespace, names: Sequence[str], sample: Sequence[str] | None
) -> tuple["ssah_jax.run.frozen_encoder.FrozenEncoder", list[str]]:
    """The encoder of `--backbone`, and the images that it still has to learn from.

    What an interrupted call learnt is taken up, and of `--update` what made the codes
    that are there.

    Args:
        options: of `ssah encode`.
        names: of the images that are to be encoded.
        sample: of others to learn from, if `--fit` named any.

    Returns:
        The encoder; and names, none if it has learnt.

    Raises:
        ValueError: options do not fit, weights cannot be had, or a model is in the way.
    """
    import jax

    from ssah_jax.run.code_model import CodeModel
    from ssah_jax.run.encoder import Encoder
    from ssah_jax.run.frozen_encoder import SAMPLE, sample_of

    if jax.process_count() > 1:
        raise ValueError(
            "--backbone: found several processes, which would learn several "
            "binarisers; accepted is --model, of one process"
        )
    seed = options.seed or 0
    if sample is None:
        most = SAMPLE if options.fit is None else int(options.fit)
        sample = [names[i] for i in sample_of(len(names), most, seed=seed).tolist()]
    encoder = Encoder.from_backbone(
        options.backbone,
        weights=options.weights or "default",
        image_size=options.image_size,
        resize=options.resize or "crop",
        binarise=options.binarise or "itq",
        bits=options.bits,
        seed=seed,
    )
    final = model_path(options.out)
    updating = options.update and Path(options.out).exists()
    for path in (unfinished_path(options.out), final):
        if not path.is_file() or (path == final and options.overwrite):
            continue
        # A file that is no model stays where it is, and is told below.
        with contextlib.suppress(ValueError):
            model = CodeModel.load(path)
            same = updating or model.learnt_from == digest_of(sample, seed)
            if same and encoder.adopt(model):
                return encoder, []
    if updating:
        raise ValueError(
            f"{one_line(final)}: found none of this backbone, weights and binariser, "
            f"accepted are those that {one_line(options.out)} was made with, or "
            "--overwrite"
        )
    check_model_path(options.out, fingerprint=None, overwrite=options.overwrite)
    encoder.check_fit(len(sample))
    return encoder, list(sample)


def learn(
    encoder: "ssah_jax.run.frozen_encoder.FrozenEncoder",
    sample: Sequence[str],
    *,
    out: str,
    seed: int,
    skip: bool,
) -> None:
    """Learn the binariser, and keep it where an interrupted call finds it.

    Features are kept in memory for `encode`, which need not compute them again.

    Args:
        encoder: of `make_encoder`.
        sample: likewise.
        out: the file of codes that is to be written.
        seed: of the draw.
        skip: whether images that cannot be read are left out, or an error.

    Raises:
        DataError: an image cannot be read.
        UserError: too few can be, or what was learnt cannot be written.
    """
    import numpy as np
    from tqdm import tqdm

    from ssah_jax.cli.errors import UserError, setting_up
    from ssah_jax.data.changes import digest, file_states, stamp_of
    from ssah_jax.data.reading import SkippedImages

    skipped = SkippedImages(num_images=len(sample), max_share=1.0) if skip else None
    seen: dict[str, np.ndarray] = {}
    states, stamps = file_states(sample), {}

    def note(index: int, content: bytes) -> None:
        state = states.get(sample[index])
        stamps[sample[index]] = stamp_of(state, len(content), digest(content))

    with tqdm(
        total=len(sample),
        unit=" images",
        desc="learning",
        disable=not sys.stderr.isatty(),
    ) as bar:
        for rows, features in encoder.features.compute(
            encoder.image_files(sample).watched(note), skipped=skipped
        ):
            names = [sample[i] for i in rows.tolist()]
            seen |= zip(names, features, strict=True)
            bar.update(len(names))
    if not seen:
        reasons = skipped.reasons if skipped is not None else []
        raise UserError(
            f"found none of {len(sample)} images readable (the first: {reasons[0]})"
        )
    with setting_up():
        encoder.fit_features(
            np.stack([*seen.values()]), learnt_from=digest_of(sample, seed)
        )
        encoder.features.seen, encoder.features.stamps = seen, stamps
        encoder.save(unfinished_path(out))


def check_model_path(
    out: str | os.PathLike[str], *, fingerprint: str | None, overwrite: bool
) -> None:
    """Check that a model may be written beside codes.

    Args:
        out: the file of codes.
        fingerprint: of the model; one that is there and equal is no obstacle. None
            where it has yet to learn.
        overwrite: whether another may be replaced.

    Raises:
        ValueError: something is in the way.
    """
    from ssah_jax.run.code_model import CodeModel

    path = model_path(out)
    if path == Path(out):
        raise ValueError(
            f"--out: found {one_line(path)}, accepted is another suffix: the model is "
            "called so"
        )
    if not path.exists() or overwrite:
        return
    with contextlib.suppress(ValueError):
        if CodeModel.load(path).fingerprint == fingerprint:
            return
    raise ValueError(
        f"{one_line(path)}: is there already; replace it with --overwrite, or encode "
        "as it does by --model"
    )


def keep_model(
    encoder: "ssah_jax.run.frozen_encoder.FrozenEncoder", out: str | os.PathLike[str]
) -> None:
    """Write the model beside codes that are all but complete."""
    from ssah_jax.run.code_model import CodeModel

    path = model_path(out)
    with contextlib.suppress(ValueError):
        if CodeModel.load(path).fingerprint == encoder.fingerprint:
            return
    encoder.save(path)


def unfinished_path(out: str | os.PathLike[str]) -> Path:
    """Where a model lies until the codes beside it are complete."""
    path = model_path(out)
    return path.with_name(f".{path.name}")


def digest_of(sample: Sequence[str], seed: int) -> str:
    """16 hexadecimal digits of names and a seed."""
    text = "\0".join([str(seed), *sample])
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
