"""`ssah features`: features of a data set by a frozen backbone, computed once."""

import argparse
import dataclasses
import os
import sys
import time
from typing import TYPE_CHECKING

from ssah_jax.cli.arguments import as_path

# As in ssah_jax.cli.encoding.
if TYPE_CHECKING:
    import ssah_jax.config
    import ssah_jax.run.extractor

STORED = ("float16", "float32")
DTYPES = ("float32", "bfloat16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ssah features`."""
    parser.epilog = (
        "Interrupted, the same command goes on where it was. Train on DIR by\n"
        "ssah train --config CONFIG:features --config.data.path=DIR, which takes hard\n"
        "samples from the views; features,supervised does without (as one view asks),\n"
        "features,unsupervised without labels."
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
    parser.add_argument(
        "--views",
        metavar="V",
        type=int,
        default=1,
        help="views of each image: itself, (V + 1) // 2 with those that the "
        "configuration augments weakly, and V // 2 hard samples, of windows and "
        "rotations as its anet group has them (default: 1, the image itself)",
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
    from ssah_jax.data.understanding import understand
    from ssah_jax.retrieval.files import one_line
    from ssah_jax.run.evaluators import versions
    from ssah_jax.run.experiment import load_source
    from ssah_jax.run.features import write_features
    from ssah_jax.run.view_recipe import ViewRecipe

    for name, found, least in (
        ("--batch", options.batch, 1),
        ("--views", options.views, 1),
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
        data = config.data
        extractor = _load_extractor(options, config)
        recipe = ViewRecipe(options.views, config) if options.views > 1 else None
        if recipe is not None:
            recipe.check()
        source = load_source(config)
        understanding = understand(source)
        for line in understanding.lines():
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
        }
        | ({"anet": dataclasses.asdict(config.anet)} if recipe else {}),
        stored=options.stored,
        batch_size=options.batch,
        threads=data.num_threads,
        max_skipped=data.max_skipped if data.on_error == "skip" else None,
        versions=versions(),
        recipe=recipe,
        said={"path": os.path.abspath(data.path) if data.path else ""}
        | understanding.to_json(),
        progress=sys.stderr.isatty(),
    )
    where, seconds = one_line(options.out), time.monotonic() - started
    if not computed:
        print(f"already there: {len(source)} features of {width} numbers in {where}")
        return 0
    views = f" of {options.views} views" if recipe else ""
    before = len(source) - computed
    resumed = f" and {before} before" if before else ""
    print(
        f"computed {computed} features{resumed}{views} of {width} numbers in "
        f"{seconds:.1f} s ({computed / seconds:.0f} a second): {where}"
    )
    return 0


def _load_extractor(
    options: argparse.Namespace, config: "ssah_jax.config.Config"
) -> "ssah_jax.run.extractor.Extractor":
    """The backbone of the options, where they are silent that of the configuration."""
    from ssah_jax.run.extractor import load_extractor

    hnet = config.hnet
    weights = options.weights or hnet.weights or "default"
    return load_extractor(
        options.backbone or hnet.backbone,
        # A run on the features may look for it from elsewhere.
        os.path.abspath(weights) if os.path.exists(weights) else weights,
        image_size=(
            hnet.image_size if options.image_size is None else options.image_size
        ),
        crop_size=config.data.crop_size,
        dtype=options.dtype or hnet.dtype,
    )
