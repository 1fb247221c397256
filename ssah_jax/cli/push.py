"""`ssah push`: a finished run on the Hugging Face hub."""

import argparse
import re
import shutil
import tempfile
from pathlib import Path

from ssah_jax.cli.arguments import as_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ssah push`."""
    parser.epilog = (
        "The encoder becomes model.safetensors and the card README.md; images, names\n"
        "of files and paths stay here. Others use it by\n"
        "`ssah encode --model hf:OWNER/NAME` and --config.hnet.weights=hf:OWNER/NAME.\n"
        "`hf auth login`, or HF_TOKEN, says who you are."
    )
    parser.add_argument(
        "--workdir",
        metavar="RUN",
        type=as_path,
        required=True,
        help="the directory of a finished run",
    )
    parser.add_argument(
        "--to", metavar="OWNER/NAME", required=True, help="the repository, made if new"
    )
    parser.add_argument(
        "--private", action="store_true", help="make a new repository a private one"
    )


def run(options: argparse.Namespace) -> int:
    """Writes the files of the repository and sends them in one commit.

    Args:
        options: of the arguments above.

    Returns:
        0.

    Raises:
        UserError: the run is not finished, or the hub refuses.
    """
    import huggingface_hub

    from ssah_jax.cli.errors import UserError, setting_up, unbroken
    from ssah_jax.run.encoder import Encoder
    from ssah_jax.run.report.card import write_card
    from ssah_jax.run.workdir import Workdir, WorkdirError

    workdir = Workdir(options.workdir)
    with setting_up(), tempfile.TemporaryDirectory() as folder:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", options.to):
            raise UserError(f"--to: found {options.to!r}, accepted is OWNER/NAME")
        workdir.read_config()
        if not workdir.results.exists():
            raise WorkdirError(
                f"{workdir.path}: no results.json, accepted is a finished run"
            )
        measured = workdir.read_measured()
        encoder = Encoder.from_run(workdir.path, step=str(measured["steps"]))
        root = Path(folder)
        encoder.stored(measured=measured).write(root / "model.safetensors")
        shutil.copy(write_card(workdir), root / "README.md")
        try:
            hub = huggingface_hub.HfApi()
            hub.create_repo(options.to, private=options.private, exist_ok=True)
            hub.upload_folder(
                repo_id=options.to,
                folder_path=root,
                commit_message=f"ssah_jax encoder {encoder.fingerprint}",
            )
        # With the client's own errors come those of the HTTP library below it.
        except Exception as error:
            raise UserError(f"--to {options.to}: {unbroken(error)[:300]}") from error
    print(f"hf:{options.to}: encoder {encoder.fingerprint}, {encoder.bits} bits")
    return 0
