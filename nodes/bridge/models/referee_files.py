"""Referees under ComfyUI's memory manager."""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch

from ....referee_core.referees import PRECISIONS, Precision, find, load
from ...sockets import LoadedReferee
from .own_files import file_name, writable


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


def convert_referee(source: str, folders: Sequence[str], filename: str, node_id: str | None) -> str:
    """Write a published referee as one file into the first of these folders that can be written; the new file's name.

    Raises ValueError if the name is no plain file name, the file exists, or nothing can be written. Of a run that ends
    early nothing is left.
    """
    name = file_name(filename)
    target = writable(folders, "referee") / name
    if target.exists():
        raise ValueError(f"The input 'filename': {name} exists already in models/referee. Choose another name.")
    module, found = find(source)
    for unknown in found.unknown:
        logging.info("[Referee] not used: %s", unknown)
    bar = comfy.utils.ProgressBar(1, node_id=node_id)

    def progress(done: int, total: int) -> None:
        bar.update_absolute(done, total)
        comfy.model_management.throw_exception_if_processing_interrupted()

    try:
        module.write(target, found, progress=progress)
    except OSError as error:  # a full disk, a share that is gone
        raise ValueError(
            f"Writing {target} ended: {error.strerror or error}. It needs 2.7 GB. Make room or bring the folder back "
            "and run again."
        ) from error
    _written[name] = target
    return name


_written: dict[str, Path] = {}  # by name
_deleted: Counter[str] = Counter()  # how often a file was found deleted that had been written


def times_deleted(filename: str) -> int:
    """How often a converted file has gone since: each time there is something to do again."""
    name = re.sub(r"(\.safetensors)?$", ".safetensors", filename, flags=re.IGNORECASE, count=1)
    if name in _written and not _written[name].exists():
        del _written[name]
        _deleted[name] += 1
    return _deleted[name]
