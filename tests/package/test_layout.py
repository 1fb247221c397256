"""Rooms: few names at the root, imports one way, no circles, pure functions light."""

import ast
import graphlib
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "ssah_jax"

ORDER = (
    {"types"},
    {"similarity"},
    {"losses", "transforms", "pacing", "retrieval"},
    {"networks", "data"},
    {"config"},
    {"method"},
    {"run"},
    {"cli"},
    {"__main__"},
)
"""Rooms from the lowest to the highest: none imports a higher one."""

LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imported(path: Path) -> set[str]:
    """The package's modules that a file imports, wherever it does, if it ever runs."""
    found, nodes = set(), [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & MODULES.keys()
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found |= {whole if whole in MODULES else node.module} & MODULES.keys()
        nodes += [] if is_type_checking(node) else ast.iter_child_nodes(node)
    return found


GRAPH = {name: imported(path) for name, path in MODULES.items()}


def room(module: str) -> str:
    return (f"{module}.").split(".")[1]


def test_the_root_has_at_most_a_dozen_names():
    names = {
        path.stem
        for path in PACKAGE.iterdir()
        if not path.name.startswith("_") and (path.is_dir() or path.suffix == ".py")
    }
    assert names == LEVEL.keys() - {"__main__"}
    assert len(names) <= 12


def test_imports_go_one_way_between_rooms():
    up = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in others
        if module != "ssah_jax" and other != "ssah_jax"
        if room(module) != room(other)
        if LEVEL[room(other)] >= LEVEL[room(module)]
    ]
    assert up == []


def test_modules_import_in_no_circle():
    assert len(MODULES) > 100 and sum(map(len, GRAPH.values())) > 300
    # Raises CycleError, which names the circle.
    tuple(graphlib.TopologicalSorter(GRAPH).static_order())


def test_scripts_name_files_that_are_there():
    root = PACKAGE.parent
    for script in (".ci/release", "benchmarks/gpu.sh"):
        text = (root / script).read_text()
        named = re.findall(r"\b(?:tests|benchmarks|configs)/[\w/]+(?:\.\w+)?", text)
        assert len(named) > 2
        missing = [name for name in named if not (root / name).exists()]
        assert not missing, script
