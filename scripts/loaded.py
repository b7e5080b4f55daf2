"""ComfyUI on the CPU and the pack as ``pack``, loaded once: ``inside`` runs each program in a fork of this."""

import contextlib
import importlib.util
import json
import os
import runpy
import sys
from pathlib import Path

from .environment import find_comfyui
from .inside import FOUND, OUTPUT
from .server import PACK

COMFYUI = str(find_comfyui())


def enter() -> None:
    """Be where ComfyUI's own process is."""
    os.chdir(COMFYUI)
    sys.path.insert(0, COMFYUI)


def execute(folder: Path, program: str, given: dict) -> None:
    """Run a program of tests/comfyui and write what it leaves in the dictionary ``found`` into the folder."""
    enter()
    sys.path.insert(0, str(PACK / "tests" / "comfyui"))
    with (folder / OUTPUT).open("w", buffering=1) as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            import programs

            programs.given.update(given)
            found = runpy.run_module(f"programs.{program}")["found"]
    (folder / FOUND).write_text(json.dumps(found))


if Path(COMFYUI, "main.py").exists():
    enter()
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    import nodes  # noqa: F401

    spec = importlib.util.spec_from_file_location(
        "pack", str(PACK / "__init__.py"), submodule_search_locations=[str(PACK)]
    )
    sys.modules["pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["pack"])
