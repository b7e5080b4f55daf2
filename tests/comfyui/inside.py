"""Run a piece of code inside ComfyUI's own Python world, without a server: the pack is imported as ``pack``."""

import json
import subprocess
import sys
from pathlib import Path

from scripts.server import PACK

HEADER = """
import importlib.util, json, sys
sys.path.insert(0, {comfyui!r})
import comfy.cli_args
comfy.cli_args.args.cpu = True
import nodes
spec = importlib.util.spec_from_file_location("pack", {pack!r} + "/__init__.py", submodule_search_locations=[{pack!r}])
sys.modules["pack"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["pack"])
found = {{}}
"""


def run(comfyui: Path, code: str):
    """What the code leaves in the dictionary ``found``. Raises if the code fails."""
    program = HEADER.format(comfyui=str(comfyui), pack=str(PACK)) + code + "\nprint(json.dumps(found))"
    done = subprocess.run([sys.executable, "-c", program], cwd=comfyui, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
