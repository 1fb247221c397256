"""`ssah encode`: codes of images, by a run or a frozen backbone."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ssah_jax.cli.arguments import add_overwrite, as_images, as_path, check_out
from ssah_jax.cli.encoders import (
    add_encoder,
    check_encoder,
    load_encoder,
    model_path,
)
from ssah_jax.cli.fit import (
    check_model_path,
    learn,
    make_encoder,
)
from ssah_jax.cli.several import add_processes
from ssah_jax.cli.two_stages import check_no_features, features_path
from ssah_jax.cli.update import describe_changes, labels_of
from ssah_jax.retrieval.files import CodeFileError

# `ssah encode --help` should not wait for models and data: they are imported where
# they are used, and named in full in annotations.
if TYPE_CHECKING:
    import ssah_jax.run.frozen_encoder
    import ssah_jax.run.image_encoder

from ssah_jax.cli.encoding import ON_ERROR, encode_images
from ssah_jax.cli.images import find_and_tell, find_names, images_as_in_training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ssah encode`."""
    parser.epilog = (
        "An image is called by its path as given: a relative one stays relative.\n"
        "Interrupted, the same command goes on where it was."
    )
    add_encoder(parser, backbone=True)
    parser.add_argument(
        "images",
        metavar="IMAGES",
        type=as_images,
        nargs="+",
        help="image files, folders (with all below them), quoted patterns such as "
        "'photos/**/*.jpg', or @FILE with a path a line",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=as_path,
        required=True,
        help="the file of codes to write, such as codes.parquet",
    )
    parser.add_argument(
        "--on-error",
        choices=ON_ERROR,
        default="skip",
        help="images that cannot be read: leave them out and list them at the end "
        "(default), or stop",
    )
    parser.add_argument(
        "--keep",
        choices=("float16", "int8"),
        help="also keep the backbone's features, in a file beside FILE, for --rerank; "
        "--update keeps those that are there up to date without being told",
    )
    parser.add_argument(
        "--labels",
        metavar="folders|TABLE",
        type=as_path,
        help="keep what images show: the names of class folders, or a table with the "
        "columns path and labels (.csv, .tsv, .parquet)",
    )
    there = parser.add_mutually_exclusive_group()
    there.add_argument(
        "--update",
        action="store_true",
        help="if FILE is there, encode only what is new or changed since, drop what "
        "is gone, and keep the rest",
    )
    add_overwrite(there)
    add_processes(parser)


def run(options: argparse.Namespace) -> int:
    """Runs `ssah encode`.

    Args:
        options: of the arguments above.

    Returns:
        0.

    Raises:
        UserError: arguments, run, images or file of codes do not fit; or there is no
            readable image.
        DataError: an image cannot be read, with `--on-error raise`.
    """
    import numpy as np

    from ssah_jax.cli.errors import UserError, setting_up
    from ssah_jax.retrieval.files import one_line
    from ssah_jax.run import processes

    with setting_up():
        check_encoder(options)
        # All that can be told before the seconds that loading a model takes.
        repeated: list[str] = []
        names = find_and_tell(options.images, repeated)
        check_out(Path(options.out), overwrite=options.overwrite, update=options.update)
        labels = None
        if options.labels:
            labels = labels_of(names, options.labels, arguments=options.images)
        if options.keep:
            check_out(
                features_path(options.out),
                overwrite=options.overwrite,
                update=options.update,
            )
        elif not options.update:
            check_no_features(options.out)
        encoder, sample = _encoder(options, names)
        images_as_in_training(encoder, names)
        if processes.several():
            listed = np.frombuffer(os.fsencode("\0".join(names)), np.uint8)
            found = f"{len(names):,} ({processes.digest(listed)})"
            processes.check_same({"images": found, "encoder": encoder.fingerprint})
    if sample:
        learn(
            cast("ssah_jax.run.frozen_encoder.FrozenEncoder", encoder),
            sample,
            out=options.out,
            seed=options.seed or 0,
            skip=options.on_error == "skip",
        )
        print(
            f"learnt {options.binarise or 'itq'} of {encoder.bits} bits from "
            f"{len(sample)} images: {one_line(str(model_path(options.out)))}"
        )
    try:
        summary = encode_images(
            encoder,
            names,
            options.out,
            on_error=options.on_error,
            overwrite=options.overwrite,
            update=options.update,
            labels=labels,
            keep=options.keep,
            progress=sys.stderr.isatty(),
        )
    except CodeFileError as error:
        raise UserError(str(error)) from error
    for line in [*repeated, *summary.unreadable]:
        print(line, file=sys.stderr)
    count, left_out = summary.num_encoded, len(summary.unreadable)
    resumed = f" and {summary.num_resumed} before" if summary.num_resumed else ""
    rate = f" ({count / summary.seconds:.0f} a second)" if count else ""
    unread = f", {left_out} unreadable" if left_out else ""
    print(
        f"encoded {count} images{resumed} in {summary.seconds:.1f} s{rate}{unread}: "
        f"{one_line(str(summary.path))}"
    )
    if summary.changes is not None:
        print(describe_changes(summary.changes))
    return 0


def _encoder(
    options: argparse.Namespace, names: Sequence[str]
) -> tuple["ssah_jax.run.image_encoder.ImageEncoder", list[str]]:
    """The encoder that options ask for, and images that it has yet to learn from."""
    from ssah_jax.run.frozen_encoder import FrozenEncoder

    if options.backbone is None:
        encoder = load_encoder(options)
        if isinstance(encoder, FrozenEncoder):
            check_model_path(
                options.out,
                fingerprint=encoder.fingerprint,
                overwrite=options.overwrite,
            )
        return encoder, []
    sample = None
    if options.fit is not None and not options.fit.isdecimal():
        sample = find_names([as_images(options.fit)])
    return make_encoder(options, names, sample)
