"""`ssah show`: what a finished run finds, a map of its codes, and what bits look at."""

import argparse
from pathlib import Path

from ssah_jax.cli.arguments import add_overwrite, add_run, as_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ssah show`."""
    parser.epilog = (
        "One page, complete in itself: the nearest images of some queries, a map of\n"
        "the codes, and which bits change when A-Net's windows hide a place of a\n"
        "query. Without --query, the last two go into the run's report.html as well."
    )
    add_run(parser, local=True)
    parser.add_argument(
        "--query",
        metavar="IMAGE",
        type=as_path,
        nargs="+",
        help="image files; without, the best, the typical and the worst test query",
    )
    parser.add_argument(
        "--data",
        metavar="PATH",
        type=as_path,
        help="where the run's data lie now, if they were moved",
    )
    parser.add_argument(
        "--sample",
        metavar="N",
        type=int,
        default=2_000,
        help="encode so many images of the database, drawn at random (default 2000)",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=as_path,
        default="show.html",
        help="the page to write (default show.html)",
    )
    add_overwrite(parser)


def run(options: argparse.Namespace) -> int:
    """Encodes and writes the page.

    Args:
        options: of the arguments above.

    Returns:
        0.

    Raises:
        UserError: no finished run, or the page cannot be written.
        DataError: an image cannot be read.
    """
    from ssah_jax.cli.arguments import check_out
    from ssah_jax.cli.errors import UserError, setting_up
    from ssah_jax.retrieval.files import one_line, write_atomically
    from ssah_jax.run import show
    from ssah_jax.run.experiment import prepare
    from ssah_jax.run.other_sets import find_data
    from ssah_jax.run.report.looks import write_looks
    from ssah_jax.run.report.run_page import write_report
    from ssah_jax.run.report.show_page import describe, show_page
    from ssah_jax.run.run_encoder import load_encoder
    from ssah_jax.run.workdir import Workdir

    path = Path(options.out)
    with setting_up():
        if options.sample < 1:
            raise UserError(f"--sample: found {options.sample}, accepted is at least 1")
        check_out(path, overwrite=options.overwrite)
        workdir = Workdir(options.workdir)
        show.check_finished(workdir)
        finished_at = workdir.read_measured().get("steps")
        encoder = load_encoder(workdir, options.step)
        # Before the data: a mistake in a name is told at once.
        given = show.given_queries(encoder, options.query) if options.query else None
        config = encoder.config
        experiment = prepare(config, path=find_data(config, workdir, options.data))
        workdir.check_same_data(experiment.info)
        queries = given or show.queries_of_run(experiment, workdir)
    source = experiment.source
    shown = show.look(encoder, experiment, queries, sample=options.sample)
    looks = describe(
        shown,
        class_names=source.class_names,
        multi_label=source.multi_label,
        step=int(encoder.state.step),
    )
    text = show_page(
        shown,
        looks,
        title=f"What {one_line(workdir.path.name)} finds",
        about=f"{one_line(source.name)} · {config.bits} bits · step {looks['step']:,}",
        scales=config.anet.scales,
    )
    with setting_up():
        write_atomically(path, text.encode(errors="backslashreplace"))
        if given is None and finished_at == looks["step"]:
            write_looks(workdir.path / "looks", looks)
            write_report(workdir.path)
    print(path)
    return 0
