"""Attention with a backward pass, while gradients are asked for.

Sage, flash and other kernels for inference have no backward pass, or a wrong one. ComfyUI's networks find theirs under
a name of their own module; packs put others there, or in the place of PyTorch's own function, for the whole process.
"""

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from comfy.ldm.modules import attention
from comfy.ldm.modules.diffusionmodules import model as autoencoder

NAMES = ("optimized_attention", "optimized_attention_masked")
IN_PYTORCH = tuple(getattr(attention, f"attention_{name}") for name in ("basic", "split", "sub_quad", "pytorch"))
"""Written in PyTorch: these have a backward pass."""
OWN = torch._C._nn.scaled_dot_product_attention


def use_differentiable_attention(undo: ExitStack, models: Iterable[torch.nn.Module] = ()) -> None:
    """PyTorch's attention in place of every kernel that is none, until ``undo`` is closed.

    models: those whose blocks may keep a kernel themselves, as autoencoders do; one that somebody else put there stays.
    """
    if F.scaled_dot_product_attention is not OWN:
        undo.callback(setattr, F, "scaled_dot_product_attention", F.scaled_dot_product_attention)
        F.scaled_dot_product_attention = OWN
    for name, module in list(sys.modules.items()):
        if name.startswith("comfy."):
            for called in NAMES:
                chosen = vars(module).get(called)
                if chosen is not None and chosen not in IN_PYTORCH:
                    undo.callback(setattr, module, called, chosen)
                    setattr(module, called, attention.attention_pytorch)
    for block in (block for model in models for block in model.modules()):
        chosen = vars(block).get(NAMES[0])
        if getattr(chosen, "__module__", None) == autoencoder.__name__:
            undo.callback(setattr, block, NAMES[0], chosen)
            block.optimized_attention = autoencoder.pytorch_attention


def in_pytorch(chosen: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    """ComfyUI's ``optimized_attention_override``: a patch of the MODEL may have chosen another kernel."""
    return attention.attention_pytorch(*args, **kwargs)
