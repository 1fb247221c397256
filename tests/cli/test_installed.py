"""A wheel, installed where there is no source tree: trains, evaluates, searches."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from commands import ROOT, SMALL, environment
from PIL import Image
from sklearn.datasets import load_digits

FILES = (
    "MANIFEST.in",
    "setup.py",
    "setup.cfg",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)
FOLDERS = ("ssah_jax", "configs")

OWN_CONFIG = """
from ssah_jax import config as config_lib

def get_config():
    config = config_lib.default()
    config.data.source = "digits"
    config.data.num_queries = config.data.num_validation = 50
    return config
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    """Those of an environment with the wheel, and with the libraries of this one."""
    root = tmp_path_factory.mktemp("wheel")
    tree, home = root / "tree", root / "environment"
    tree.mkdir()
    # A copy: what was built in the tree before may hold modules of yesterday.
    for name in FILES:
        shutil.copy(ROOT / name, tree)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tree / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", root, tree], check=True)
    shutil.rmtree(tree)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    (wheel,) = root.glob("*.whl")
    install = [
        "--python",
        home / "bin" / "python",
        "install",
        "--no-deps",
        "--force-reinstall",
        wheel,
    ]
    subprocess.run([*pip, *install], check=True)
    # The .pth files of a folder that a .pth file names are not read: no editable
    # install of the source tree comes along.
    (site,) = home.glob("lib/python*/site-packages")
    libraries = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (site / "libraries.pth").write_text("".join(f"{path}\n" for path in libraries))
    return home / "bin"


@pytest.mark.slow
def test_an_installed_wheel_does_all_that_the_tree_does(programs, tmp_path):
    without = ("PYTHONPATH", "VIRTUAL_ENV", "HOME")
    env = {k: v for k, v in environment().items() if k not in without}
    env |= {"HOME": str(tmp_path / "home"), "PATH": f"{programs}:{os.environ['PATH']}"}
    (tmp_path / "home").mkdir()
    here = tmp_path / "here"
    here.mkdir()

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=here, env=env, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert str(ROOT) not in run("python", "-c", "import sys; print(sys.path)")
    where = run("python", "-c", "import ssah_jax; print(ssah_jax.__file__)")
    assert Path(where).is_relative_to(programs.parent)
    assert run("ssah", "--version") == run("python", "-m", "ssah_jax", "--version")
    smaller = [x for x in SMALL if "steps" not in x and "eval.every" not in x]
    out = run(
        *("ssah", "train", "--config", "digits:smoke,steps=2,eval.every=0"),
        *(*smaller, "--workdir=~/run"),
    )
    run_dir = tmp_path / "home" / "run"
    results = json.loads((run_dir / "results.json").read_text())
    assert f"{results['map']:.6f}" in out and (run_dir / "report.html").is_file()
    assert os.listdir(here) == []
    assert f"{results['map']:.6f}" in run("ssah", "eval", "--workdir", run_dir)
    (here / "own.py").write_text(OWN_CONFIG)
    out = run("ssah", "train", "--config", "own.py", "--config.bits=64", "--check")
    assert out
    (here / "photos").mkdir()
    for index, image in enumerate(load_digits().images[:20]):
        pixels = Image.fromarray((image * 15).astype("uint8"))
        pixels.save(here / "photos" / f"{index:02}.png")
    run("ssah", "encode", "--workdir", "~/run", "photos", "--out", "codes.parquet")
    run("ssah", "index", "codes.parquet", "--out", "photos.index")
    found = json.loads(
        run(
            *("ssah", "search", "--workdir", "~/run", "--index", "photos.index"),
            *("photos/03.png", "-k", "3", "--json", "--html", "found.html"),
        )
    )
    assert found["results"][0]["distance"] == 0 and len(found["results"]) == 3
    assert (here / "found.html").is_file()
