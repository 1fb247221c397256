"""The style of the public functions, and who may import what."""

import ast
import inspect
import re
import subprocess
import sys
import types
import typing
from pathlib import Path

import pytest

import ssah_jax
from ssah_jax import losses, pacing, retrieval, similarity, transforms

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ssah_jax"
MODULES = {m.__name__: m for m in (losses, pacing, retrieval, similarity, transforms)}


def public(module: types.ModuleType) -> dict[str, typing.Any]:
    """What `__all__` names; without one, all that is defined here without a `_`."""
    if hasattr(module, "__all__"):
        return {name: getattr(module, name) for name in module.__all__}
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
    }


FUNCTIONS = {
    f"{module}.{name}".removeprefix("ssah_jax."): value
    for module in MODULES
    for name, value in public(MODULES[module]).items()
    if inspect.isfunction(value)
}


def parameters(function):
    return list(inspect.signature(function).parameters.values())


@pytest.mark.parametrize("name", MODULES)
def test_public_names_exist_are_sorted_and_documented(name):
    module = MODULES[name]
    assert module.__doc__
    names = public(module)
    assert len([f for f in FUNCTIONS if f.startswith(name.rpartition(".")[2])]) >= 4
    if hasattr(module, "__all__"):
        assert len(set(module.__all__)) == len(module.__all__)
    for public_name, value in names.items():
        if inspect.isfunction(value) or inspect.isclass(value):
            assert value.__module__.startswith("ssah_jax."), public_name
            assert inspect.getdoc(value), public_name


def test_the_package_shows_its_pure_modules_and_two_classes():
    assert set(ssah_jax.__all__) == {"__version__", "Encoder", "Index"} | {
        name.removeprefix("ssah_jax.") for name in MODULES
    }
    for name in ssah_jax.__all__:
        assert hasattr(ssah_jax, name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_open_with_one_line_that_ends(name):
    first, *rest = inspect.getdoc(FUNCTIONS[name]).split("\n")
    assert first[0].isupper() or first[0] == "`"
    assert first.endswith(".")
    assert not rest or not rest[0]


def definition(function) -> ast.FunctionDef:
    """A function as it is written: the checker of the tests wraps what is run."""
    path = Path(sys.modules[function.__module__].__file__)
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__:
            return node
    raise AssertionError(f"{function.__name__} is not at the top of its file")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_annotations_are_complete(name):
    node = definition(FUNCTIONS[name])
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    arguments += filter(None, (node.args.vararg, node.args.kwarg))
    assert {a.arg for a in arguments} == {p.name for p in parameters(FUNCTIONS[name])}
    for argument in arguments:
        assert argument.annotation is not None, argument.arg
        # Not a string, which jaxtyping could not check.
        assert not isinstance(argument.annotation, ast.Constant), argument.arg
    assert node.returns is not None


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_key_comes_first(name):
    names = [p.name for p in parameters(FUNCTIONS[name])]
    assert "rng" not in names
    assert "seed" not in names
    if "key" in names:
        assert names[0] == "key"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_options_are_keyword_only(name):
    for parameter in parameters(FUNCTIONS[name]):
        assert parameter.kind is not inspect.Parameter.POSITIONAL_ONLY
        # A mask is data that may be left out.
        if parameter.name == "where":
            continue
        if parameter.default is not inspect.Parameter.empty:
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter.name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_docstring_speaks_of_every_option(name):
    text = inspect.getdoc(FUNCTIONS[name])
    if "Args:" in text:
        arguments = text.partition("Args:")[2]
        for parameter in parameters(FUNCTIONS[name]):
            assert re.search(rf"    \*{{0,2}}{parameter.name}: ", arguments)


# Who may import what. Files are read, not run.


def imported(path: Path) -> set[str]:
    """Full dotted names of all that a file imports, wherever it does."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def attributes(path: Path) -> set[str]:
    """Dotted names that a file looks up, such as `jax.pmap`."""
    return {
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
    }


SOURCES = {str(p.relative_to(PACKAGE)): p for p in sorted(PACKAGE.rglob("*.py"))}
SCRIPTS = {p.name: p for p in sorted([ROOT / "train.py", ROOT / "eval.py"])}


def users(library: str) -> set[str]:
    """Files of the package and scripts that import a library or a part of it."""
    return {
        name
        for name, path in (SOURCES | SCRIPTS).items()
        if any(f"{x}.".startswith(f"{library}.") for x in imported(path))
    }


def test_only_networks_import_linen():
    found = users("flax.linen")
    assert found
    assert all(name.startswith("networks/") for name in found), found


def test_only_checkpointing_imports_orbax():
    assert users("orbax") == {"run/checkpointing.py"}


def test_only_the_edge_imports_ml_collections():
    found = users("ml_collections")
    edge = "cli/config_option.py"
    assert found == {"config/convert.py", "config/presets.py", edge}
    for path in sorted((ROOT / "configs").glob("*.py")):
        assert any(x.startswith("ml_collections") for x in imported(path))


def test_only_parallel_knows_pmap():
    found = {
        name
        for name, path in (SOURCES | SCRIPTS).items()
        if "jax.pmap" in attributes(path) | imported(path)
    }
    assert found == {"run/parallel.py"}


@pytest.mark.parametrize("library", ["tensorflow", "torch", "jax.experimental.maps"])
def test_nobody_imports(library):
    assert users(library) == set()


# These read and write files; what they import is still no training code.
FILES = tuple(
    f"retrieval/{name}.py"
    for name in (
        *("binarisers", "code_files", "code_writer", "feature_files", "files"),
        "index",
    )
)
PURE = [
    name
    for name in SOURCES
    if name == "pacing.py"
    or name.partition("/")[0] in ("losses", "retrieval", "similarity", "transforms")
]


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_import_no_network_configuration_or_state(name):
    allowed = ("losses", "pacing", "retrieval", "similarity", "transforms", "types")
    for module in imported(SOURCES[name]):
        if module.startswith("ssah_jax."):
            assert module.split(".")[1] in allowed, module
        assert module.split(".")[0] not in ("absl", "flax", "optax", "time")
        assert name in FILES or module.split(".")[0] != "os"


@pytest.mark.parametrize("name", SOURCES)
def test_modules_with_shapes_do_not_postpone_annotations(name):
    assert "__future__.annotations" not in imported(SOURCES[name])


@pytest.mark.parametrize(
    "name", ["ssah_jax", *(name for name in MODULES if "retrieval" not in name)]
)
def test_importing_pure_functions_loads_jax_numpy_and_jaxtyping(name):
    program = (
        "import sys, jax, jaxtyping, numpy\n"
        "before = set(sys.modules)\n"
        f"import {name}\n"
        "new = {x.partition('.')[0] for x in set(sys.modules) - before}\n"
        "print(*sorted(new - set(sys.stdlib_module_names)))\n"
    )
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    # Of NumPy and JAX parts that the first import left out.
    assert set(found.stdout.split()) <= {"ssah_jax", "jax", "jaxlib", "numpy"}
    assert "ssah_jax" in found.stdout
    assert found.stderr == ""


@pytest.mark.slow
def test_importing_all_of_the_package_needs_no_tensorflow():
    names = [
        "ssah_jax."
        + name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in SOURCES
        if name not in ("__init__.py", "__main__.py")
    ]
    program = (
        "import importlib, sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'tensorflow':\n"
        "            raise SystemExit('tensorflow was imported')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        f"for name in {names}: importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
