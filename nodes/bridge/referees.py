"""Referees under ComfyUI's memory manager."""

import logging
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch

from ...referee_core.referees.blip2.weights import FULL, Precision, load, open_source, write
from ..sockets import LoadedReferee

PRECISIONS = {
    "fp32": FULL,
    "bf16 tower": Precision(torch.bfloat16),
    "bf16": Precision(torch.bfloat16, torch.bfloat16),
    "fp16 tower": Precision(torch.float16),
}


def choose_precision(name: str, device: torch.device) -> Precision:
    """What the user asked for; for "auto" a bf16 tower where the device computes in it, otherwise single precision."""
    if name == "auto":
        name = "bf16 tower" if comfy.model_management.should_use_bf16(device) else "fp32"
    return PRECISIONS[name]


def load_referee(path: str | Path, precision: str = "auto") -> LoadedReferee:
    """Read a referee file and hand its network to ComfyUI."""
    device = comfy.model_management.get_torch_device()
    with torch.inference_mode(False):
        referee = load(path, choose_precision(precision, device))
    patcher = comfy.model_patcher.ModelPatcher(
        referee.network, load_device=device, offload_device=comfy.model_management.unet_offload_device()
    )
    return LoadedReferee(referee, patcher)


def convert_referee(source: str, folder: str, filename: str, node_id: str) -> str:
    """Write a published referee as one file into a folder; the new file's name.

    Raises ValueError if the name is no plain file name or the file exists. Interrupting keeps what was written, and the next
    run continues it.
    """
    name = filename.strip().removesuffix(".safetensors") + ".safetensors"
    if name == ".safetensors" or Path(name).name != name:
        raise ValueError(f"The input 'filename' must be a name without folders, got {filename!r}.")
    target = Path(folder) / name
    if target.exists():
        raise ValueError(f"The input 'filename': {name} exists already in models/referee. Choose another name.")
    found = open_source(Path(source))
    for unknown in found.unknown:
        logging.info("[Referee] not used by BLIP-2: %s", unknown)
    bar = comfy.utils.ProgressBar(1, node_id=node_id)

    def progress(done: int, total: int) -> None:
        bar.update_absolute(done, total)
        comfy.model_management.throw_exception_if_processing_interrupted()

    write(target, found, progress=progress)
    return name
