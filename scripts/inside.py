"""Programs inside ComfyUI's own Python world, without a server. Standard library only."""

import json
import multiprocessing
import os
import sys
import tempfile
from functools import cache
from multiprocessing.context import BaseContext
from pathlib import Path

FOUND, OUTPUT = "found.json", "output.txt"  # in a run's folder


@cache
def _forks() -> BaseContext:
    """Processes forked from one in which ComfyUI is loaded, which is begun on first use."""
    if os.name == "nt":  # which knows no forks: each loads its own
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["scripts.loaded"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # before Python 3.13 it does not look where this one looks
    forkserver.ensure_running()
    os.environ.pop("PYTHONPATH")
    os.environ.update({} if before is None else {"PYTHONPATH": before})
    return context


def run(program: str, **given):
    """What a program in tests/comfyui/programs leaves in its dictionary ``found``; it reads what it is given in
    ``programs.given``. Each run has a process of its own. Raises if the program fails."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = _forks().Process(target=_execute, args=(folder, program, given))
        process.start()
        process.join()
        assert process.exitcode == 0, (folder / OUTPUT).read_text()[-3000:]
        return json.loads((folder / FOUND).read_text())


def _execute(folder: Path, program: str, given: dict) -> None:
    from .loaded import execute

    execute(folder, program, given)
