"""Gradients inside ComfyUI, whose nodes run in inference mode and whose weights are inference tensors.

Autograd refuses inference tensors even outside inference mode. For the time of a block, each such weight is replaced by
an ordinary tensor over the same storage: no memory is spent, and everything is put back however the block ends. It is
done anew for each run, because another node may have reloaded the weights in between.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


def ordinary(t: torch.Tensor) -> torch.Tensor:
    """An ordinary tensor over an inference tensor's storage."""
    alias = torch.empty(0, dtype=t.dtype, device=t.device)
    return alias.set_(t.untyped_storage(), t.storage_offset(), t.size(), t.stride())


@contextmanager
def gradients_through(*modules: torch.nn.Module) -> Iterator[None]:
    """Leave inference mode; gradients pass through the modules, none are computed for their weights.

    Restores every parameter, buffer, flag and attention function in the end.
    """
    with ExitStack() as undo, torch.inference_mode(False), torch.enable_grad():
        aliases: dict[int, torch.Tensor] = {}
        for module in modules:
            for part in module.modules():
                _freeze(part, aliases, undo)
                _use_differentiable_attention(part, undo)
        yield


def _freeze(part: torch.nn.Module, aliases: dict, undo: ExitStack) -> None:
    for name, p in part._parameters.items():
        if p is None:
            continue
        if p.is_inference():
            if id(p) not in aliases:  # tied weights stay tied
                aliases[id(p)] = torch.nn.Parameter(ordinary(p), requires_grad=False)
            part._parameters[name] = aliases[id(p)]
            undo.callback(part._parameters.__setitem__, name, p)
        elif p.requires_grad:
            p.requires_grad_(False)
            undo.callback(p.requires_grad_, True)
    for name, b in part._buffers.items():
        if b is not None and b.is_inference():
            part._buffers[name] = ordinary(b)
            undo.callback(part._buffers.__setitem__, name, b)


def _use_differentiable_attention(part: torch.nn.Module, undo: ExitStack) -> None:
    """PyTorch's own attention in the VAE: other kernels may have no backward pass, or a silently wrong one."""
    chosen = part.__dict__.get("optimized_attention")
    if chosen is not None:
        from comfy.ldm.modules.diffusionmodules.model import pytorch_attention

        part.optimized_attention = pytorch_attention
        undo.callback(setattr, part, "optimized_attention", chosen)
