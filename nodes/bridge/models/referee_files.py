"""Referees under ComfyUI's memory manager."""

import logging
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch

from ....referee_core.referees import PRECISIONS, Precision, find, load
from ...sockets import LoadedReferee

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


def convert_referee(source: str, folders: Sequence[str], filename: str, node_id: str | None) -> str:
    """Write a published referee as one file into the first of these folders that can be written; the new file's name.

    Raises ValueError if the name is no plain file name, the file exists, or nothing can be written. Of a run that ends
    early nothing is left.
    """
    name = file_name(filename)
    target = writable(folders) / name
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


def writable(folders: Sequence[str]) -> Path:
    """The first folder in which a file can be made; it is made itself where it does not exist. Raises ValueError."""
    problems = []
    for folder in folders:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return Path(folder)
        except OSError as error:
            problems.append(f"{folder} ({error.strerror or error})")
    raise ValueError(
        f"No folder for referees can be written: {', '.join(problems)}. Make one of them writable, or give another one "
        "in extra_model_paths.yaml under 'referee'."
    )
