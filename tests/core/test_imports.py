"""Which way imports run, and what stays unloaded until it is needed."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "referee_core").rglob("*.py"))
NODES = sorted((ROOT / "nodes").rglob("*.py"))
SHARED = "nodes.sockets"  # what travels between nodes
HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "server", "execution", "nodes"}
LIGHT = [
    "methods.referee_can_play", "losses", "augment", "averaging", "schedules", "priors.sds", "record", "plots",
    "referees.blip2.weights",
]  # fmt: skip


def imported(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, wherever in the file."""
    package = path.relative_to(ROOT).parent.parts
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base = (*base, *filter(None, (node.module or "").split(".")))
            names |= {".".join((*base, alias.name)) for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_imports_neither_comfyui_nor_the_nodes(path):
    names = imported(path)
    assert not {name for name in names if name.split(".")[0] in HOST}
    own = {name for name in names if (ROOT / name.split(".")[0]).exists()}
    assert all(name.split(".")[0] == "referee_core" for name in own), "imports run one way"


FLOORS = ("nodes", "nodes.runs", "nodes.bridge")
"""Of the nodes: a file imports from its own floor and those below."""


@pytest.mark.parametrize("path", NODES, ids=lambda path: str(path.relative_to(ROOT)))
def test_below_the_nodes_are_the_runs_and_below_them_the_bridge(path):
    own = floor(".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert {name for name in imported(path) if floor(name) < own and not name.startswith(SHARED)} == set()


def test_no_two_files_of_the_nodes_import_each_other():
    """Nor in a longer circle."""
    known = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in NODES}
    needs = {name: {n.rpartition(".")[0] for n in imported(path)} & known.keys() for name, path in known.items()}
    assert list(TopologicalSorter(needs).static_order())


def floor(name: str) -> int:
    return max((i for i, room in enumerate(FLOORS) if name == room or name.startswith(room + ".")), default=len(FLOORS))


def test_the_check_of_imports_sees_through_relative_ones():
    assert "referee_core.referees.pixels.normalise" in imported(
        ROOT / "referee_core" / "referees" / "blip2" / "referee.py"
    )
    assert {n.split(".")[0] for n in imported(ROOT / "nodes" / "bridge" / "models" / "referee_files.py")} & HOST == {
        "comfy",
        "nodes",
    }


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_importing_the_methods_loads_no_heavy_library():
    code = "import sys\n" + "".join(f"import referee_core.{name}\n" for name in LIGHT)
    loaded = run(code + "print(*(n for n in ('transformers', 'diffusers', 'kornia', 'scipy') if n in sys.modules))")
    assert loaded.split() == []
