"""`ssah prepare`: download a data set and make it ready for training."""

import argparse

from ssah_jax.cli.arguments import as_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ssah prepare`."""
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="a data set of TensorFlow Datasets; without it, known ones are listed",
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        type=as_path,
        default="",
        help="where data sets are kept (default: ~/tensorflow_datasets, or the "
        "environment's TFDS_DATA_DIR)",
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="DIR",
        type=as_path,
        default="",
        help="a directory that holds the original files; nothing is downloaded",
    )
    parser.add_argument(
        "--no-verify",
        action="store_true",
        help="take files whose size or sha256 are not those of the original ones",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="decode every image of the prepared data set once; exit status 1 if any "
        "cannot be decoded",
    )


def run(options: argparse.Namespace) -> int:
    """Runs `ssah prepare`.

    Args:
        options: of the arguments above.

    Returns:
        0, or 1 if `--check` found images that cannot be decoded.

    Raises:
        DataError: as `ssah_jax.data.prepare.prepare` does.
    """
    from ssah_jax.data import prepare as prepare_lib

    if not options.name:
        width = max(map(len, prepare_lib.KNOWN))
        for name, what in prepare_lib.KNOWN.items():
            print(f"{name:{width}}  {what}")
        print("and any other image set of https://www.tensorflow.org/datasets/catalog")
        return 0
    summary = prepare_lib.prepare(
        options.name,
        data_dir=options.data_dir,
        source=options.source,
        verify=not options.no_verify,
    )
    if summary.was_prepared:
        print(f"already prepared: {summary.directory}")
    else:
        splits = ", ".join(f"{split} {n}" for split, n in summary.splits.items())
        print(
            f"prepared {summary.name} {summary.version} ({splits}) in "
            f"{summary.directory}, {summary.seconds:.1f} s"
        )
    if not options.check:
        return 0
    bad = prepare_lib.unreadable_images(options.name, data_dir=options.data_dir)
    for line in bad:
        print(line)
    print(f"checked {sum(summary.splits.values())} images: {len(bad)} unreadable")
    return 1 if bad else 0
