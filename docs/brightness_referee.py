"""The example of docs/referees.md: a referee that knows how bright a picture should be."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from referee_core.referees import FULL, Precision, UnknownFile
from referee_core.referees.base import RefereeBase

WORDS = {"dark": 0.0, "grey": 0.5, "bright": 1.0}


class Brightness(RefereeBase):
    """P(match) = exp(-sharpness (mean brightness - what the text asks for)^2)."""

    terms, probability = ("brightness",), "brightness"

    def __init__(self, sharpness: torch.Tensor):
        self.network = torch.nn.ParameterDict({"sharpness": torch.nn.Parameter(sharpness, requires_grad=False)})

    def encode(self, text: str) -> float:
        wanted = [value for word, value in WORDS.items() if word in text.lower()]
        if not wanted:
            raise ValueError(f"The text for the referee names no brightness: write one of {', '.join(WORDS)}.")
        return wanted[0]

    def losses(self, seen: torch.Tensor, text: float, terms: Sequence[str]) -> dict[str, torch.Tensor]:
        return {"brightness": self.network["sharpness"] * (seen.mean((1, 2, 3)) - text) ** 2}


def open_source(path: Path) -> dict[str, torch.Tensor]:
    tensors = load_file(path) if path.suffix == ".safetensors" else {}
    if "sharpness" not in tensors:
        raise UnknownFile(f"{path.name} holds no brightness referee.")
    return tensors


def build(source: dict[str, torch.Tensor], precision: Precision = FULL) -> Brightness:
    return Brightness(source["sharpness"].to(precision.rest))


def write(target: Path, source: dict[str, torch.Tensor], **_: object) -> None:
    save_file(source, target)
