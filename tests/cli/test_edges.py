"""Edges of the command line: terminals, pipes, paths, disks, interruptions."""

import dataclasses
import errno
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import pytest
from commands import ROOT

from ssah_jax import cli
from ssah_jax.cli import arguments, config_option, errors
from ssah_jax.cli import prepare as prepare_command
from ssah_jax.cli.encoders import check_encoder
from ssah_jax.config import Config, ConfigError, from_config_dict
from ssah_jax.config.fields import walk
from ssah_jax.run.checkpoint_digest import CheckpointError
from ssah_jax.run.checkpointing import open_checkpoints
from ssah_jax.run.experiment import load_source
from ssah_jax.run.warm_start import load_backbone
from ssah_jax.run.workdir import WorkdirError, write_atomically


def command(*words: str, code: str = "", **options) -> subprocess.CompletedProcess:
    """`ssah` in a process of its own, after `code`."""
    program = f"import sys\n{code}\nfrom ssah_jax.cli import main\nsys.exit(main())"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *words],
        capture_output=True,
        cwd=ROOT,
        **options,
    )


def replaced(body: str) -> str:
    """Code that gives `ssah prepare` another body."""
    return (
        "from ssah_jax.cli import prepare\n"
        f"def run(options):\n    {body}\n    return 0\n"
        "prepare.run = run"
    )


# Where nothing is wrong.


def test_help_teaches(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    flat = " ".join(text.split())
    for name, about in cli.COMMANDS.items():
        assert f" {name} {about.purpose}" in flat
        assert f"ssah {name} {about.examples[0]}" in text
        assert cli.main([name, "--help"]) == 0
        own = capsys.readouterr().out
        assert f"usage: ssah {name} " in own
        assert all(f"\n  ssah {name} {words}\n" in own for words in about.examples)


def test_every_example_is_one_that_its_command_takes(monkeypatch):
    taken: list = []
    for name, about in cli.COMMANDS.items():
        assert len(about.examples) > 1
        module = importlib.import_module(f"ssah_jax.cli.{name}")
        monkeypatch.setattr(module, "run", lambda options: taken.append(options) or 0)
        for words in about.examples:
            assert cli.main([name, *words.split()]) == 0, words
            options = taken.pop()
            if "workdir" in options and "backbone" in options:
                check_encoder(options)
            if about.takes_config:
                config_option.read_config(options.config, options.fields)


def test_help_describes_every_field(capsys):
    assert cli.main(["train", "--help-config"]) == 0
    text = capsys.readouterr().out
    for field in walk(Config):
        assert f"--config.{field.name}={field.default!r}  (" in text
    assert cli.main(["train", "--config", "digits", "--help-config", "pace."]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("--config.pace.", "    ")) for line in lines)
    assert cli.main(["train", "--help-config=bitz"]) == 2
    assert "'bitz'" in capsys.readouterr().err


def test_python_m_and_the_version():
    done = subprocess.run(
        [sys.executable, "-m", "ssah_jax", "--version"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout.startswith("ssah_jax 0.")


@pytest.mark.parametrize(
    "spec", ["digits:smoke,bits=12", "configs/digits.py:smoke,bits=12"]
)
@pytest.mark.parametrize(
    "fields",
    [
        ["--config.hnet.widths=(8, 12)", "--config.data.flip"],
        [
            *("--config.hnet.widths", "8", "--config.hnet.widths=12"),
            "--config.data.flip=1",
        ],
    ],
)
def test_config_and_its_fields(spec, fields, monkeypatch):
    monkeypatch.chdir(ROOT)
    found, others = config_option.split_fields([*fields, "--check"])
    assert (found, others) == (fields, ["--check"])
    config = config_option.read_config(spec, found)
    assert config.steps == 20 and config.bits == 12
    assert config.hnet.widths == (8, 12) and config.data.flip is True
    where = config_option.default_workdir(spec, config)
    assert where.parent == Path("runs") and where.name.startswith("digits-")
    other = dataclasses.replace(config, bits=24)
    assert config_option.default_workdir(spec, other) != where


@pytest.mark.parametrize("error", [ValueError("x"), PermissionError(13, "no", "f")])
def test_while_setting_up_an_error_of_the_system_is_the_users(error):
    with pytest.raises(errors.UserError), errors.setting_up():
        raise error


def test_shipped_configurations_are_found_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = {path.stem for path in (ROOT / "configs").glob("*.py")}
    assert config_option.shipped().keys() == names
    for name in names:
        assert config_option.read_config(name).steps >= 1
    with pytest.raises(ConfigError) as told:
        config_option.read_config("digit")
    assert all(name in str(told.value) for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["encode", "index", "search"])
def test_help_loads_neither_models_nor_data(command):
    script = (
        "import sys; from ssah_jax.cli import main; status = main(sys.argv[1:]); "
        "heavy = 'faiss', 'pyarrow', 'PIL', 'orbax', 'grain', 'ssah_jax.data'; "
        "print([m for m in heavy if m in sys.modules]); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, command, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    for needed in {
        "encode": "--workdir IMAGES --out",
        "index": "CODES --out --kind",
    }.get(command, "--workdir --index QUERY -k --json --html").split():
        assert needed in done.stdout


def test_ssah_lists_the_commands(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"encode +hash images .*\n +index .*\n +search ", text)


# Mistakes in a file of the user's own.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def get_config(:\n", "own.py, line 1: "),
        ("import no_such_module\n", "own.py, line 1: ModuleNotFoundError: No module"),
        ("def get_config():\n    return 1 / 0\n", "own.py, line 2: ZeroDivisionError"),
        (
            "def get_config():\n    raise ValueError('a\\nb')\n",
            "line 2: ValueError: a b",
        ),
        ("x = 1\n", "own.py: AttributeError: module "),
        ("def get_config():\n    return {}\n", "own.py: found dict from get_config()"),
    ],
)
def test_mistakes_in_a_configuration_file(tmp_path, capsys, content, message):
    (tmp_path / "own.py").write_text(content)
    assert cli.main(["train", "--config", str(tmp_path / "own.py")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--config", "digits", "x"], "found the argument 'x', accepted are"),
        (["train", "--config", "digits", "--wordkir=x"], "did you mean --workdir"),
        (["train", "--config"], "--config: expected one argument"),
        (["train", "--config=digits", "--config.bits"], "config.bits: found no value"),
        (["train", "--config=digits", "--work=x"], "unrecognized arguments: --work=x"),
        (["train"], "--config: found none"),
        (["train", "--config.bits=8"], "--config: found none"),
        (["eval", "--workdir=a", "--checkpoint=b"], "found both"),
        (["eval", "--checkpoint=a/checkpoints/best"], "is DIR/checkpoints/STEP"),
        (["eval", "--checkpoint=a/6"], "accepted is DIR/checkpoints/STEP"),
    ],
)
def test_mistakes_in_arguments(capsys, words, message):
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert message in err


# Paths.

PATHS = {
    "train": ["--workdir", "--data", "--from-run"],
    "eval": [
        *("--workdir", "--checkpoint", "--data", "--queries", "--database"),
        "--out",
    ],
    "prepare": ["--data-dir", "--from"],
    "features": ["--out", "--weights"],
    "encode": [
        "--workdir",
        "--out",
        "IMAGES",
        "--like",
        "--model",
        "--weights",
        "--fit",
        "--labels",
    ],
    "index": ["--out", "CODES", "--add", "--remove"],
    "search": [
        "--workdir",
        "--like",
        "--model",
        "--weights",
        "--index",
        "QUERY",
        "--features",
        "--html",
        "--root",
    ],
    "duplicates": [
        "FILE",
        "--new",
        "--workdir",
        "--like",
        "--model",
        "--weights",
        "--html",
        "--root",
    ],
    "serve": [
        *("--workdir", "--like", "--model", "--weights", "--index", "--features"),
        "--root",
    ],
    "export": ["--workdir", "--out"],
    "compare": ["RUN", "--out"],
    "show": ["--workdir", "--query", "--data", "--out"],
    "push": ["--workdir"],
    "weights": ["--out", "WEIGHTS"],
}


def test_every_path_expands_the_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of mine")
    for name, options in PATHS.items():
        parser = arguments.Parser()
        cli._module(name).add_arguments(parser)
        actions = {
            word: action
            for action in parser._actions
            for word in (action.option_strings or [action.metavar])
        }
        taking = {word for word, action in actions.items() if action.type is not None}
        numbers = {w for w, action in actions.items() if action.type is int}
        assert taking - numbers == set(options), name
        for word in options:
            assert actions[word].type("~/a") == "/home/of mine/a"
    assert arguments.as_images("@~/list") == "@/home/of mine/list"
    assert arguments.as_path("a~/b") == "a~/b"


def test_config_is_found_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.py").write_text((ROOT / "configs/digits.py").read_text())
    assert config_option.read_config("~/own.py:bits=12").bits == 12


def test_no_home_is_no_directory_called_tilde(monkeypatch, capsys):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert cli.main(["eval", "--workdir=~/r"]) == 2
    assert "--workdir: found '~/r' and no home directory" in capsys.readouterr().err


# Terminals and pipes.


@pytest.mark.parametrize("encoding", ["ascii", "latin-1:strict"])
def test_a_terminal_without_the_letters(encoding):
    done = command(
        "prepare",
        code=replaced(r"print('\u65e5.png'); print('\udcff', file=sys.stderr)"),
        env=os.environ | {"PYTHONIOENCODING": encoding, "LC_ALL": "C"},
    )
    assert (done.returncode, done.stdout) == (0, b"\\u65e5.png\n")
    assert done.stderr == b"\\udcff\n"


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_leaves(lines):
    code = replaced(f"import time; time.sleep(.5); print('line\\n' * {lines})")
    program = f"import sys\n{code}\nfrom ssah_jax.cli import main\nsys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, "prepare"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == errors.CLOSED_PIPE


def test_closed_streams_are_no_files(tmp_path):
    """Of a command that was started with `<&- >&- 2>&-`."""
    code = replaced(
        "import os; print('out'); print('err', file=sys.stderr); "
        f"file = open({str(tmp_path / 'file')!r}, 'w'); "
        "print(os.write(1, b'c') + os.write(2, b'c'), file.fileno() > 2, file=file)"
    )
    program = f"import sys\n{code}\nfrom ssah_jax.cli import main\nsys.exit(main())"
    shell = 'exec "$0" "$@" <&- >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", shell, sys.executable, "-c", program, "prepare"],
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "2 True\n"


def test_interrupts_end_every_command(capsys, monkeypatch):
    for name in cli.COMMANDS:
        module = cli._module(name)
        monkeypatch.setattr(module, "add_arguments", lambda parser: None)
        monkeypatch.setattr(
            module, "run", lambda options: signal.raise_signal(signal.SIGINT)
        )
        assert cli.main([name]) == errors.INTERRUPTED
        assert capsys.readouterr().err == "interrupted\n"


# Disks.


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line(capsys, monkeypatch, number):
    def run(options):
        try:
            raise OSError(number, os.strerror(number), "/disk/file")
        except OSError as error:
            raise RuntimeError("of some library") from error

    monkeypatch.setattr(prepare_command, "run", run)
    assert cli.main(["prepare"]) == 2
    said = f"error: /disk/file: cannot be written ({os.strerror(number)})\n"
    assert capsys.readouterr().err == said


def test_errors_made_for_users_are_one_line_wherever_raised(capsys, monkeypatch):
    raised: list[Exception] = []

    def run(options):
        raise raised[-1]

    monkeypatch.setattr(prepare_command, "run", run)
    for kind in (WorkdirError, CheckpointError):
        raised.append(kind("of a\nfile"))
        assert cli.main(["prepare"]) == 2
        assert capsys.readouterr().err == "error: of a file\n"
    raised.append(ValueError("a defect"))
    with pytest.raises(ValueError, match="a defect"):
        cli.main(["prepare"])


@pytest.mark.parametrize("filled", ["before", "meanwhile"])
def test_a_disk_without_room_for_a_checkpoint(tmp_path, monkeypatch, capsys, filled):
    """Where it is known before, Orbax does not begin; else its errors are one."""
    state = {"a": jnp.zeros(1000)}
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, iterators={}, metric=None)
        checkpoints.wait()
        if filled == "before":
            usage = SimpleNamespace(free=1_000_000)
            monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        else:
            said = "RESOURCE_EXHAUSTED: [OS error 28: No space left on device]"

            def save(*args, **options):
                raise ValueError(said)

            monkeypatch.setattr(checkpoints._manager, "save", save)
        with pytest.raises(OSError) as raised:
            checkpoints.save(2, state, iterators={}, metric=None)
    assert raised.value.errno == errno.ENOSPC
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1"]
    told = errors.disk_trouble(raised.value)
    assert told.startswith(f"{tmp_path}: cannot be written (No space left on device")


def test_nothing_is_left_half_written(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_atomically(path, "old")

    def full(self, data):
        self.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError):
        write_atomically(path, "new")
    assert os.listdir(tmp_path) == ["results.json"] and path.read_text() == "old"


@pytest.mark.parametrize(
    "source", ["idx", "folder", "list", "nus_wide", "tfds", "features"]
)
def test_fields_with_paths_expand_the_tilde(source, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    data = {"source": source, "path": "~/none", "name": "cifar10", "flip": False}
    fields = {"data": data}
    if source == "features":
        data["max_shift"] = 0
        fields |= {"hnet": {"backbone": "features"}, "anet": {"kind": "none"}}
    with pytest.raises(ValueError) as told:
        load_source(from_config_dict(fields))
    assert str(tmp_path / "none") in str(told.value) and "~" not in str(told.value)


def test_weights_and_features_expand_the_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = from_config_dict({"hnet": {"weights": "~/none"}})
    with pytest.raises(ValueError) as told:
        load_backbone(config, (8, 8, 1))
    assert str(tmp_path / "none") in str(told.value)
