"""`ssah export`: a trained encoder as a file that runs without this package."""

import argparse
import json
from pathlib import Path

from ssah_jax.cli.arguments import add_overwrite, add_run, as_path

FORMS = ("stablehlo", "onnx", "safetensors")
"""What `--to` accepts."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ssah export`."""
    parser.epilog = (
        "stablehlo and onnx take uint8 images [batch, H, W, ch] of the run's size, in\n"
        "any number, and give real-valued codes and packed bits. safetensors holds\n"
        "the parameters, with configuration and preprocessing in its header; `ssah\n"
        "encode --model FILE` and --config.hnet.weights=FILE read it."
    )
    add_run(parser)
    parser.add_argument("--to", choices=FORMS, required=True, help="the form")
    parser.add_argument(
        "--out", metavar="FILE", type=as_path, required=True, help="the file to write"
    )
    add_overwrite(parser)


def run(options: argparse.Namespace) -> int:
    """Loads the run and writes the file.

    Args:
        options: of the arguments above.

    Returns:
        0.

    Raises:
        UserError: arguments or run do not fit, or the form cannot hold the network.
    """
    from ssah_jax.cli.arguments import check_out
    from ssah_jax.cli.errors import setting_up
    from ssah_jax.retrieval.files import one_line, write_atomically
    from ssah_jax.run import export
    from ssah_jax.run.encoder import Encoder
    from ssah_jax.run.workdir import Workdir, is_pushed

    path = Path(options.out)
    with setting_up():
        check_out(path, overwrite=options.overwrite)
        if options.to == "onnx":
            export.require_onnx()
        encoder = Encoder.from_run(options.workdir, step=options.step)
        about = export.describe(encoder)
        if options.to == "safetensors":
            measured = encoder.measured
            if not is_pushed(options.workdir):
                found = Workdir(options.workdir).read_measured()
                # Of another step they would be another encoder's.
                ours = found.get("steps") == int(encoder.state.step)
                measured = found if ours else {}
            encoder.stored(measured=measured).write(path)
        elif options.to == "onnx":
            write_atomically(path, export.to_onnx_file(encoder))
        else:
            write_atomically(path, export.to_stablehlo(encoder))
            # The other forms have it inside.
            beside = path.with_name(f"{path.name}.json")
            write_atomically(beside, json.dumps(about, indent=2) + "\n")
    inside = {
        "safetensors": "parameters, for --model and config.hnet.weights",
        "onnx": f"{about['input']['images']} to codes and packed bits",
        "stablehlo": f"{about['input']['images']} to codes and packed bits, on "
        f"{', '.join(export.PLATFORMS)}",
    }[options.to]
    size = path.stat().st_size / 1e6
    print(f"{one_line(path)}: {inside}; {encoder.bits} bits, {size:.1f} MB")
    return 0
