"""`ssah prepare` as a command: names, mistakes, `--check`."""

import contextlib
import subprocess
import sys

import pytest
import tree_tfds

from ssah_jax import cli as commands
from ssah_jax.data.prepare import KNOWN, unreadable_images
from ssah_jax.data.source import DataError
from ssah_jax.data.tfds import find_builder, open_images

# The command.


def test_names_are_listed(capsys):
    assert commands.main(["prepare"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == list(KNOWN)
    for name in KNOWN:
        find_builder(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "cifar11"], "cifar11: found no data set"),
        (["prepare", "cifar10", "--form", "x"], "unrecognized arguments: --form"),
        (["prepear"], "invalid choice: 'prepear'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, message):
    assert commands.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    assert message in err


def test_help_loads_no_data_code():
    script = (
        "import sys; from ssah_jax.cli import main; status = main(['--help']); "
        "print([m for m in sys.modules if m.startswith('tensorflow') or "
        "m.startswith('ssah_jax.data')]); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "prepare" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_check_lists_what_cannot_be_decoded(tmp_path, capsys, monkeypatch):
    whole = tree_tfds._jpeg
    count = iter(range(10**6))

    def jpeg(image):
        content = whole(image)
        return content[:300] if next(count) in (3, 200) else content

    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(monkeypatch.context())
        patch.setattr(tree_tfds, "_jpeg", jpeg)
        tree_tfds.stanford_dogs(tmp_path, train_per_class=1, test_per_class=1)
    arguments = ["prepare", "stanford_dogs", "--from", str(tmp_path), "--no-verify"]
    arguments += ["--data-dir", str(tmp_path / "data"), "--check"]
    assert commands.main(arguments) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("prepared stanford_dogs 0.2.0 (train 120, test 120)")
    assert len(lines) == 4
    assert lines[1].startswith("stanford_dogs/train/0000")
    assert lines[2].startswith("stanford_dogs/test/000")
    assert lines[3] == "checked 240 images: 2 unreadable"
    builder = find_builder("stanford_dogs", data_dir=str(tmp_path / "data"))
    images = open_images(builder, name="stanford_dogs", size=8)
    with pytest.raises(DataError):
        images[int(lines[1].split("/")[2][:6])]


def test_check_of_sound_images(tmp_path):
    with pytest.raises(DataError, match="found no prepared data"):
        unreadable_images("cifar10", data_dir=str(tmp_path))
    tree_tfds.cifar10(tmp_path, num_train=10, num_test=10)
    arguments = ["prepare", "cifar10", "--from", str(tmp_path), "--no-verify"]
    arguments += ["--data-dir", str(tmp_path), "--check"]
    assert commands.main(arguments) == 0
    assert unreadable_images("cifar10", data_dir=str(tmp_path)) == []
