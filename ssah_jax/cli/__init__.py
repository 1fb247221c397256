"""The command line: `ssah COMMAND`, `python -m ssah_jax`, train.py and eval.py.

One module a subcommand, imported when it is asked for. `ssah_jax.cli.NAME` has
`add_arguments(parser)` and `run(options) -> int`; mistakes are raised, and told here.
"""

import argparse
import contextlib
import importlib
import io
import os
import signal
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, NoReturn

import ssah_jax
from ssah_jax.cli.arguments import Parser
from ssah_jax.cli.errors import (
    CLOSED_PIPE,
    INTERRUPTED,
    USER_ERROR,
    setting_up,
    told,
)
from ssah_jax.cli.several import among_processes


class Command(NamedTuple):
    """What `ssah --help` says of a subcommand.

    Attributes:
        purpose: what it does, in a line.
        examples: arguments that a reader can begin with, the plainest first.
        takes_config: whether `--config.FIELD=VALUE` may be among its arguments.
        compiles: whether it computes anything that takes long to compile.
    """

    purpose: str
    examples: tuple[str, ...]
    takes_config: bool = False
    compiles: bool = False


COMMANDS = {
    "train": Command(
        "train a hashing network, or resume an interrupted run",
        (
            "--config digits --config.bits=64 --workdir RUN",
            "--config folder --config.data.path=photos --check",
            "--config digits:smoke,bits=16 --log tensorboard",
        ),
        takes_config=True,
        compiles=True,
    ),
    "eval": Command(
        "evaluate a run's retrieval again, from one of its checkpoints",
        (
            "--workdir RUN --step best",
            "--workdir RUN --queries holiday --database photos",
        ),
        compiles=True,
    ),
    "prepare": Command(
        "download a data set and make it ready for training",
        ("cifar10", "stanford_dogs --from downloads --check"),
    ),
    "features": Command(
        "compute features by a frozen backbone, once, to train on",
        (
            "cifar10 --backbone resnet50 --image-size 224 --out features",
            "folder --config.data.path=photos --backbone vit_s14 --out features",
        ),
        takes_config=True,
        compiles=True,
    ),
    "encode": Command(
        "hash images into binary codes, by a trained run",
        (
            "--workdir RUN photos --out codes.parquet",
            "--model small photos --labels folders --out codes.parquet",
            "--backbone vit_s14 --bits 128 photos --out codes.parquet",
            "--workdir RUN photos --out codes.parquet --update",
        ),
        compiles=True,
    ),
    "index": Command(
        "make codes searchable",
        (
            "codes.parquet --kind flat --out photos.index",
            "--add more.parquet --out photos.index",
            "--remove photos/blurred.jpg --out photos.index",
        ),
    ),
    "search": Command(
        "find the indexed images nearest to a query image",
        (
            "--workdir RUN --index photos.index query.jpg -k 10 --html found.html",
            "--model small --index photos.index query.jpg --label beach --json",
        ),
        compiles=True,
    ),
    "export": Command(
        "write a trained encoder as StableHLO, ONNX or safetensors",
        (
            "--workdir RUN --to onnx --out encoder.onnx",
            "--workdir RUN --step best --to safetensors --out encoder.safetensors",
        ),
        compiles=True,
    ),
    "duplicates": Command(
        "find groups of images with like codes",
        (
            "photos.index --distance 2 --html duplicates.html",
            "codes.parquet --distance 0 --json",
        ),
    ),
    "serve": Command(
        "search an index by a page on this computer, or by JSON over HTTP",
        (
            "--workdir RUN --index photos.index",
            "--model small --index photos.index --root photos --port 8000",
        ),
        compiles=True,
    ),
    "compare": Command(
        "write a page with several runs beside each other",
        (
            "RUN OTHER --out compare.html",
            "RUN OTHER THIRD --out compare.html --overwrite",
        ),
    ),
    "show": Command(
        "write a page of what a run finds and what its bits look at",
        (
            "--workdir RUN --query cat.jpg --out show.html",
            "--workdir RUN --step best --sample 500 --out best.html",
        ),
        compiles=True,
    ),
    "push": Command(
        "send a finished run's encoder and its card to the Hugging Face hub",
        ("--workdir RUN --to OWNER/NAME", "--workdir RUN --to OWNER/NAME --private"),
        compiles=True,
    ),
    "weights": Command(
        "download weights that others trained, and verify them",
        (
            "hf:timm/resnet50.a1_in1k --out resnet50.safetensors",
            "alexnet.pth --entry state_dict --out alexnet.safetensors",
        ),
    ),
}

_ALL = "*"
_INSISTENCE = 2.0
_MOMENT = 0.05


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand.

    Args:
        argv: arguments without the program's name; None takes those of the process.

    Returns:
        The exit status: 0 for success, 1 for a check that found something or training
        that diverged, `USER_ERROR` for a mistake of the user's or a full disk, told in
        one line on standard error, `INTERRUPTED` for Ctrl-C, and `CLOSED_PIPE` where
        nobody reads what is printed.
    """
    _print_anything()
    try:
        with _insistent_interrupts():
            status = _run(list(sys.argv[1:] if argv is None else argv))
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # What is still in the buffer would be tried again at exit.
        with contextlib.suppress(OSError, io.UnsupportedOperation):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except Exception as error:
        line = told(error)
        if not line:
            raise
        print(f"error: {line}", file=sys.stderr)
        return USER_ERROR


def _run(arguments: list[str]) -> int:
    name = arguments[0] if arguments else ""
    parser = _parser(name)
    fields: list[str] = []
    asks = {"-h", "--help", "--help-config"} & set(arguments)
    if name in COMMANDS and COMMANDS[name].takes_config and not asks:
        # Not at the top: it loads models and data, which --help does without.
        from ssah_jax.cli.config_option import split_fields

        with setting_up():
            fields, arguments = split_fields(arguments)
    try:
        options, unknown = parser.parse_known_args(arguments)
    except SystemExit:  # --help or --version
        return 0
    command = options.subparsers.choices[options.command]
    if unknown:
        command.refuse(unknown)
    options.fields = fields
    run = _module(options.command).run
    if COMMANDS[options.command].compiles:
        from ssah_jax.run.compilation import keep_compiled

        keep_compiled()
    if "processes" not in options:
        return int(run(options))
    with among_processes(options):
        return int(run(options))


def _parser(name: str) -> Parser:
    """The parser of all commands, with the arguments of the named one, or of `_ALL`."""
    examples = [f"  ssah {each} {c.examples[0]}" for each, c in COMMANDS.items()]
    parser = Parser(
        prog="ssah",
        description="Semi-supervised hashing for image retrieval: short binary codes "
        "from few labelled\nand many unlabelled images.",
        epilog="\n".join(
            ["examples:", *examples, "", "ssah COMMAND --help describes its options."]
        ),
    )
    parser.add_argument(
        "--version", action="version", version=f"ssah_jax {ssah_jax.__version__}"
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    parser.set_defaults(subparsers=subparsers)
    parser.add_argument(
        "--print-completion",
        choices=("bash", "zsh", "fish"),
        action=_PrintCompletion,
        help="print a script that completes these words, and exit; in bash: "
        'eval "$(ssah --print-completion bash)"',
    )
    for each, command in COMMANDS.items():
        subparser = subparsers.add_parser(
            each,
            help=command.purpose,
            description="\n".join(
                [
                    f"{command.purpose[0].upper()}{command.purpose[1:]}.",
                    "",
                    "examples:",
                    *(f"  ssah {each} {words}" for words in command.examples),
                ]
            ),
        )
        if name in (each, _ALL):
            _module(each).add_arguments(subparser)
    return parser


class _PrintCompletion(argparse.Action):
    """Prints the script of a shell, and exits."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option: str | None = None,
    ) -> NoReturn:
        from ssah_jax.cli.completion import completion

        whole = _parser(_ALL)
        commands = whole.get_default("subparsers").choices
        print(completion(whole, commands, str(values)))
        parser.exit()


def _module(name: str) -> types.ModuleType:
    return importlib.import_module(f"{__name__}.{name}")


def _print_anything() -> None:
    """Let no command end because of where it prints.

    The terminal's encoding may lack a letter; or a stream was closed by whoever started
    it (`>&-`), so that a file opened later would take its number, and what libraries
    print.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _insistent_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt again, two seconds after Ctrl-C, until it is heard.

    Python drops one that is raised in a callback of the garbage collector, with a
    traceback; JAX has such a callback, which is waited for.
    """

    def interrupt(number: int, frame: types.FrameType | None) -> None:
        if frame is not None and frame.f_code.co_name == "_xla_gc_callback":
            signal.setitimer(signal.ITIMER_REAL, _MOMENT)
            return
        signal.setitimer(signal.ITIMER_REAL, _INSISTENCE)
        raise KeyboardInterrupt

    try:
        before = [
            (number, signal.signal(number, interrupt))
            for number in (signal.SIGINT, signal.SIGALRM)
        ]
    except ValueError:  # Not in the main thread, where signals do not arrive.
        before = []
    try:
        yield
    finally:
        if before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before:
            signal.signal(number, handler)
