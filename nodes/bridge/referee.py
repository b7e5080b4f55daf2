"""Referees under ComfyUI's memory manager."""

from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import torch

from ...referee_core.blip2.weights import load
from ..sockets import LoadedReferee


def load_referee(path: str | Path) -> LoadedReferee:
    """Read a referee file and hand its network to ComfyUI."""
    with torch.inference_mode(False):
        referee = load(path)
    patcher = comfy.model_patcher.ModelPatcher(
        referee.network,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
    return LoadedReferee(referee, patcher)
