"""Referees under ComfyUI's memory manager."""

import logging
import re
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch

from ...referee_core.referees import FULL, Precision, find, load
from ..sockets import LoadedReferee

PRECISIONS = {
    "fp32": FULL,
    "bf16 tower": Precision(torch.bfloat16),
    "bf16": Precision(torch.bfloat16, torch.bfloat16),
    "fp16 tower": Precision(torch.float16),
}
RESERVED = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])\s*(\..*)?", re.IGNORECASE)
LONGEST_NAME = 200  # bytes; file systems end at 255, and .safetensors.part comes after it


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


def file_name(filename: str) -> str:
    """The name of the file to write. Raises ValueError unless every system takes it."""
    name = re.sub(r"\.safetensors$", "", filename, flags=re.IGNORECASE)
    if name in ("", ".", "..") or re.search(r"[/\\]", name):
        problem = "must be a name without folders"
    elif re.search(r'[<>:"|?*]', name) or not name.isprintable():
        problem = 'must not hold any of < > : " | ? * or invisible characters'
    elif name != name.strip(" ."):
        problem = "must not begin or end with a space or a dot"
    elif RESERVED.fullmatch(name):
        problem = "is a name that Windows keeps for itself"
    elif len(name.encode()) > LONGEST_NAME:
        problem = f"is too long (at most {LONGEST_NAME} letters)"
    else:
        return name + ".safetensors"
    raise ValueError(f"The input 'filename' {problem}, got {filename[:80]!r}. Write for example blip2_referee.")


def convert_referee(source: str, folder: str, filename: str, node_id: str | None) -> str:
    """Write a published referee as one file into a folder; the new file's name.

    Raises ValueError if the name is no plain file name or the file exists. Interrupting keeps what was written,
    and the next run continues it.
    """
    name = file_name(filename)
    target = Path(folder) / name
    if target.exists():
        raise ValueError(f"The input 'filename': {name} exists already in models/referee. Choose another name.")
    module, found = find(source)
    for unknown in found.unknown:
        logging.info("[Referee] not used: %s", unknown)
    bar = comfy.utils.ProgressBar(1, node_id=node_id)

    def progress(done: int, total: int) -> None:
        bar.update_absolute(done, total)
        comfy.model_management.throw_exception_if_processing_interrupted()

    module.write(target, found, progress=progress)
    return name
