"""`ssah weights`: what a file holds, copied, mistakes."""

import warnings

import safetensors.numpy
from torch_writers import (
    legacy_bytes,
    zip_bytes,
)
from weight_files import (
    EVIL,
    FLOATS,
    LITE0,
    ONE,
    RAW,
    assert_equal,
    one_tensor,
    with_mark,
    written,
)

from ssah_jax import cli as commands
from ssah_jax.cli.weights import fetch_weights
from ssah_jax.networks.pretrained import (
    digest,
    read_tensors,
)

# The command.


def test_the_command_tells_what_a_file_holds_and_copies_it(tmp_path, capsys):
    out = tmp_path / "lite0.safetensors"
    assert commands.main(["weights", str(LITE0), "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        f"file        {LITE0}",
        f"sha256      {digest(LITE0)}",
        "tensors     296 (247 float32, 49 int64)",
        "parameters  4,652,008 (and 42,065 statistics)",
        f"written     {out}",
        f"its sha256  {digest(out)}",
    ]
    ours, theirs = read_tensors(out), read_tensors(LITE0)
    assert_equal({name: ours[name] for name in theirs}, theirs)
    with safetensors.safe_open(out, "numpy") as file:
        assert file.metadata() == {"source": str(LITE0), "sha256": digest(LITE0)}
    summary, copied = fetch_weights(str(out))
    assert (summary.parameters, summary.statistics) == (4_652_008, 42_065)
    assert copied is None


def test_the_command_chooses_an_entry_and_overwrites_when_told(tmp_path, capsys):
    two = {"model": ONE, "ema": {"y": one_tensor(shape=(6,))}}
    path, out = written(tmp_path, zip_bytes(two, RAW)), tmp_path / "out"
    arguments = ["weights", str(path), "--out", str(out)]
    assert commands.main(arguments) == 2
    assert "choose entry 'model', 'ema'" in capsys.readouterr().err
    assert not out.exists()
    assert commands.main([*arguments, "--entry", "ema"]) == 0
    assert "parameters  6\n" in capsys.readouterr().out
    assert_equal(read_tensors(out), {"y": FLOATS})
    assert commands.main([*arguments, "--entry", "model"]) == 2
    assert "is there already; replace it with --overwrite" in capsys.readouterr().err
    assert commands.main([*arguments, "--entry", "model", "--overwrite"]) == 0
    assert_equal(read_tensors(out), {"x": FLOATS[:2]})


def test_the_commands_mistakes_are_one_line(tmp_path, capsys):
    evil = {"y": with_mark(EVIL["os.system"], tmp_path / "mark")}
    cases = {
        str(written(tmp_path, legacy_bytes(evil, {}))): "uses 'os.system'",
        str(tmp_path): "cannot be read (Is a directory), accepted is a file",
        "torchvision:no": "found no such weights",
        "nowhere.pth": "found no such file",
    }
    for spec, told in cases.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert commands.main(["weights", spec]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1
        assert captured.err.startswith("error: ") and told in captured.err
    assert not (tmp_path / "mark").exists()
