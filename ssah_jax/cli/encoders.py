"""Which encoder a command uses: that of a run, of a frozen backbone, or of codes."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ssah_jax.cli.arguments import as_images, as_path
from ssah_jax.retrieval.files import find_files, one_line

# As in ssah_jax.cli.encoding.
if TYPE_CHECKING:
    import ssah_jax.run.image_encoder

BINARISERS = ("sign", "pca", "itq", "lsh", "random-rotation")
"""`ssah_jax.retrieval.binarisers.KINDS`, for --help."""

_OF_BACKBONE = ("image_size", "resize", "binarise", "bits", "fit", "seed")
"""What is accepted with `--backbone` alone."""


def add_encoder(
    parser: argparse.ArgumentParser, *, backbone: bool = False, required: bool = True
) -> None:
    """Adds the arguments that say what encodes.

    Args:
        parser: of a command.
        backbone: whether the command can make an encoder of a backbone itself.
        required: whether the command always needs an encoder.
    """
    which = parser.add_mutually_exclusive_group(required=required)
    which.add_argument(
        "--workdir",
        metavar="RUN",
        type=as_path,
        help="the directory of a run, or hf:OWNER/NAME for what `ssah push` sent of "
        "one; its training data are not needed",
    )
    if backbone:
        which.add_argument(
            "--backbone",
            metavar="NAME",
            help="no run: a frozen backbone, such as vit_s14, whose features become "
            "bits as --binarise says",
        )
    which.add_argument(
        "--like",
        metavar="CODES",
        type=as_path,
        help="what made these codes of a frozen backbone",
    )
    which.add_argument(
        "--model",
        metavar="FILE",
        type=as_path,
        help="by a file: what `ssah export --to safetensors` wrote of a run, "
        "hf:OWNER/NAME for what `ssah push` sent, the .model that `ssah encode "
        "--backbone` left beside its codes; or small, which comes with the package",
    )
    parser.add_argument(
        "--step",
        metavar="last|best|N",
        help="which checkpoint of RUN: the last one (default), the best on validation "
        "queries, or that of step N",
    )
    parser.add_argument(
        "--weights",
        metavar="WEIGHTS",
        type=as_path,
        help="of the backbone: a file, hf:OWNER/NAME or torchvision:NAME (default: its "
        "own, downloaded; with --like and --model, where they were)",
    )
    if backbone:
        _add_of_backbone(parser.add_argument_group("of --backbone"))


def _add_of_backbone(group: argparse._ArgumentGroup) -> None:
    """Adds the arguments that make an encoder of a backbone; see `_OF_BACKBONE`."""
    group.add_argument(
        "--image-size",
        metavar="PIXELS",
        type=int,
        help="side of the squares that images become (default: what the weights were "
        "made for)",
    )
    group.add_argument(
        "--resize",
        choices=("crop", "squash"),
        help="how they become square: the centre, or both sides scaled (default: crop)",
    )
    group.add_argument(
        "--binarise",
        choices=BINARISERS,
        help="how features become bits, learnt without labels (default: itq)",
    )
    group.add_argument(
        "--bits",
        metavar="K",
        type=int,
        help="bits of a code (default: 64; of sign, one for each feature)",
    )
    group.add_argument(
        "--fit",
        metavar="N|IMAGES",
        type=as_images,
        help="what --binarise learns from: N of the images, drawn (default: 10000), or "
        "a folder, pattern or @FILE of others",
    )
    group.add_argument(
        "--seed", metavar="N", type=int, help="of what is drawn (default: 0)"
    )


def check_encoder(options: argparse.Namespace) -> None:
    """Check that the arguments of `add_encoder` fit each other.

    Raises:
        ValueError: an option is there that this kind of encoder does not know, or a
            number is out of range.
    """
    backbone = getattr(options, "backbone", None)
    if options.step is not None and options.workdir is None:
        raise ValueError("--step: accepted with --workdir alone")
    for name in _OF_BACKBONE:
        value = getattr(options, name, None)
        if value is not None and backbone is None:
            raise ValueError(
                f"--{name.replace('_', '-')}: accepted with --backbone alone"
            )
    for name, least in (("image_size", 1), ("bits", 1), ("seed", 0)):
        value = getattr(options, name, None)
        if value is not None and value < least:
            raise ValueError(
                f"--{name.replace('_', '-')}: found {value}, accepted is at least "
                f"{least}"
            )


def load_encoder(
    options: argparse.Namespace,
) -> "ssah_jax.run.image_encoder.ImageEncoder":
    """The encoder that options of `add_encoder` name, but for `--backbone`.

    Raises:
        ValueError: there is none, or it cannot be loaded.
    """
    from ssah_jax.run.encoder import Encoder

    if options.workdir is not None:
        return Encoder.from_run(
            options.workdir, step=options.step or "last", weights=options.weights
        )
    path = options.model or model_of(options.like)
    encoder = Encoder.load(path, weights=options.weights)
    if options.like is not None:
        check_like(options.like, encoder.fingerprint)
    return encoder


def model_path(codes: str | os.PathLike[str]) -> Path:
    """Where the model of codes lies: beside them, `codes.model` of `codes.parquet`."""
    return Path(codes).with_suffix(".model")


def model_of(codes: str | os.PathLike[str]) -> Path:
    """The model beside codes.

    Raises:
        ValueError: there is none.
    """
    path = model_path(codes)
    if not path.is_file():
        raise ValueError(
            f"--like: found no {one_line(path)} beside {one_line(codes)}, accepted are "
            "codes that `ssah encode --backbone` wrote; those of a run go by --workdir"
        )
    return path


def fingerprint_of(codes: str | os.PathLike[str]) -> str:
    """The fingerprint of the model of codes.

    Raises:
        ValueError: they are no codes.
    """
    from ssah_jax.retrieval.code_files import read_header

    return str(read_header(find_files(Path(codes))[0])[1])


def check_like(codes: str | os.PathLike[str], fingerprint: str) -> None:
    """Check that codes are of the model beside them.

    Raises:
        ValueError: they are of another, or are no codes.
    """
    found = fingerprint_of(codes)
    if found != fingerprint:
        raise ValueError(
            f"--like: found {one_line(codes)} of model {found}, but beside it "
            f"{one_line(model_path(codes))} is model {fingerprint}, accepted are those "
            "of one"
        )
