"""`ssah features`: features of a data set by a frozen backbone, computed once."""

import argparse
import dataclasses
import sys
import time

from ssah_jax.cli.arguments import as_path

STORED = ("float16", "float32")
DTYPES = ("float32", "bfloat16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ssah features`."""
    parser.epilog = (
        "Interrupted, the same command goes on where it was. Train on DIR by\n"
        "--config.data.source=features --config.data.path=DIR \\\n"
        "--config.hnet.backbone=features --config.anet.kind=none \\\n"
        "--config.data.max_shift=0 --config.data.flip=False."
    )
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help="whose images: a name or file as of `ssah train --config`, presets after "
        "a colon, such as fashion_mnist:data.path=DATA; --config.FIELD=VALUE sets "
        "fields as well",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=as_path,
        required=True,
        help="the directory to write",
    )
    parser.add_argument(
        "--backbone", metavar="NAME", help="(default: the configuration's)"
    )
    parser.add_argument(
        "--weights",
        metavar="WEIGHTS",
        type=as_path,
        help="a file, hf:OWNER/NAME, torchvision:NAME, or default for the backbone's "
        "own (default: the configuration's, if any, else the backbone's own)",
    )
    parser.add_argument(
        "--image-size",
        metavar="PIXELS",
        type=int,
        help="resize images to so many pixels a side, 0 for not at all (default: the "
        "configuration's hnet.image_size)",
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help="of the computation (default: the configuration's)",
    )
    parser.add_argument(
        "--stored",
        choices=STORED,
        default="float16",
        help="type that features are kept in (default: float16)",
    )
    parser.add_argument(
        "--batch", metavar="N", type=int, default=64, help="images at once (default 64)"
    )


def run(options: argparse.Namespace) -> int:
    """Runs `ssah features`.

    Args:
        options: of the arguments above.

    Returns:
        0.

    Raises:
        UserError: arguments, configuration, images, weights or DIR do not fit.
        DataError: an image cannot be read, or DIR cannot be written.
    """
    from ssah_jax.cli.config_option import read_config
    from ssah_jax.cli.errors import UserError, setting_up
    from ssah_jax.data.images import printable
    from ssah_jax.data.understanding import understand
    from ssah_jax.run.evaluators import versions
    from ssah_jax.run.experiment import load_source
    from ssah_jax.run.features import load_extractor, write_features

    for name, found, least in (
        ("--batch", options.batch, 1),
        ("--image-size", options.image_size, 0),
    ):
        if found is not None and found < least:
            raise UserError(f"{name}: found {found}, accepted is at least {least}")
    started = time.monotonic()
    with setting_up():
        config = read_config(options.config, options.fields)
        if config.data.source == "features":
            raise ValueError(
                "CONFIG: found the source features, accepted is one of images"
            )
        hnet, data = config.hnet, config.data
        extractor = load_extractor(
            options.backbone or hnet.backbone,
            options.weights or hnet.weights or "default",
            image_size=(
                hnet.image_size if options.image_size is None else options.image_size
            ),
            crop_size=data.crop_size,
            dtype=options.dtype or hnet.dtype,
        )
        source = load_source(config)
        for line in understand(source).lines():
            print(line, file=sys.stderr)
        extractor.check_images(source.image_shape)
    computed, width = write_features(
        extractor,
        source,
        options.out,
        # Enough to load the images again; without validation, which is not theirs.
        config={
            "seed": config.seed,
            "data": dataclasses.asdict(data),
            "eval": {"every": 0},
        },
        stored=options.stored,
        batch_size=options.batch,
        threads=data.threads,
        max_skipped=data.max_skipped if data.on_error == "skip" else None,
        versions=versions(),
        progress=sys.stderr.isatty(),
    )
    where, seconds = printable(options.out), time.monotonic() - started
    if not computed:
        print(f"already there: {len(source)} features of {width} numbers in {where}")
        return 0
    before = len(source) - computed
    resumed = f" and {before} before" if before else ""
    print(
        f"computed {computed} features{resumed} of {width} numbers in {seconds:.1f} s "
        f"({computed / seconds:.0f} a second): {where}"
    )
    return 0
