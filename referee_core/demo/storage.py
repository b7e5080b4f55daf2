"""The files of the demo's networks: half-precision safetensors beside this module."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

FOLDER = Path(__file__).parent / "weights"


def path(name: str) -> Path:
    """The file of 'vae', 'unet', 'text_encoder' or 'referee'.

    Raises FileNotFoundError when the pack lacks it.
    """
    file = FOLDER / f"{name}.safetensors"
    if not file.exists():
        raise FileNotFoundError(
            f"The demo's weights {file.name} are missing from {FOLDER}: reinstall the pack, or train them with "
            "'python -m training'."
        )
    return file


def save(name: str, state: dict[str, torch.Tensor]) -> None:
    FOLDER.mkdir(exist_ok=True)
    save_file({k: v.detach().cpu().half().contiguous() for k, v in state.items()}, FOLDER / f"{name}.safetensors")


def load(name: str) -> dict[str, torch.Tensor]:
    """Single-precision weights of 'vae', 'unet' or 'text_encoder'."""
    return {k: v.float() for k, v in load_file(path(name)).items()}
