"""Run a program of ``programs/`` in ComfyUI's own Python world, without a server: the pack is imported as ``pack``."""

import re
from pathlib import Path

import pytest
from torch.utils import backend_registration

from scripts.environment import find_comfyui
from scripts.inside import run as run


def version(comfyui: Path | None) -> tuple[int, ...]:
    found = comfyui and re.search(r'"([\d.]+)"', (comfyui / "comfyui_version.py").read_text())
    return tuple(map(int, found[1].split("."))) if found else ()


NEEDS_CARD = pytest.mark.skipif(
    version(find_comfyui()) < (0, 30) or not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="the card made of main memory fits ComfyUI 0.30 and PyTorch 2.11 or newer",
)

ROUNDING = 1e-3
"""Of values near 1 after some steps in single precision, whatever the processor and its threads: 1.6e-4 was the most
ever seen. A wrong noise, prompt, weight or mask moves them by more than ten times as much."""
