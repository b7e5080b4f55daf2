"""The referees that can be read from files. A new kind is a module in this folder and a line in FORMATS."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from ..interfaces import Referee

FORMATS = ("blip2.weights",)
"""Modules, tried in order. Each has ``open_source(path)``, which raises UnknownFile for a file of another kind,
``build(source, precision)`` and ``write(target, source, progress=...)``."""


class UnknownFile(ValueError):
    """A file that holds no referee of this kind, though another kind may know it."""


@dataclass(frozen=True)
class Precision:
    """Number formats of a referee's vision tower and of the rest."""

    tower: torch.dtype = torch.float32
    rest: torch.dtype = torch.float32


FULL = Precision()
PRECISIONS = {
    "fp32": FULL,
    "bf16 tower": Precision(torch.bfloat16),
    "bf16": Precision(torch.bfloat16, torch.bfloat16),
    "fp16 tower": Precision(torch.float16),
}


def find(path: str | Path) -> tuple[ModuleType, Any]:
    """The module that knows a file or folder, and what it found there.

    Raises:
        UnknownFile: no kind of referee knows it. FileNotFoundError, ValueError: as the module's ``open_source``.
    """
    said = []
    for name in FORMATS:
        module = import_module(f".{name}", __name__)
        try:
            return module, module.open_source(Path(path))
        except UnknownFile as error:
            said.append(str(error))
    raise UnknownFile(" ".join(said))


def load(path: str | Path, precision: Precision = FULL) -> Referee:
    """Read a referee of any kind. Raises what ``find`` raises."""
    module, source = find(path)
    return module.build(source, precision)
