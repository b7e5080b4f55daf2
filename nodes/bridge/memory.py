"""What fits on the card: how many views at a time, and what is computed twice instead of being kept."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import comfy.model_management
import torch
from torch.utils.checkpoint import checkpoint

from ...referee_core.losses import OUT_OF_MEMORY, RefereeLoss

ENOUGH_VIEWS = 8
"""Views at a time that keep a card busy. Checkpointing costs a third of the referee's time, smaller batches nearly nothing:
it is used only where fewer than this would fit otherwise."""
VIEWS_ON_CPU = 10
CHECKPOINTED = ("ResnetBlock", "AttnBlock", "Upsample")  # in ComfyUI's autoencoders
RESERVE = 256 * 2**20  # bytes left free


def plan(views: int, plain: int, checkpointed: int, free: float) -> tuple[int, bool]:
    """Views at a time and whether to checkpoint, for ``views`` in all that keep so many bytes each, in ``free`` bytes."""
    if plain * min(views, ENOUGH_VIEWS) <= free:
        return min(views, int(free // plain)), False
    return max(1, min(views, int(free // checkpointed))), True


def smallest(loss: RefereeLoss | None) -> int:
    """Bytes without which the referee cannot play at all."""
    return max((part.referee.activation_bytes(True) for part in loss.parts), default=0) if loss else 0


@contextmanager
def fitted(decoder: Any, loss: RefereeLoss | None, shape: torch.Size, views: int, asked: int) -> Iterator[int]:
    """For the time of a run, choose the number of views at a time and turn checkpointing on where memory asks for it.

    Args:
        shape: of the latent. views: in all. asked: the user's number of views at a time, 0 to choose.
    Yields: views at a time.
    """
    device = decoder.patcher.load_device
    on_cpu = comfy.model_management.is_device_cpu(device)
    with ExitStack() as undo:
        size = asked or (VIEWS_ON_CPU if on_cpu else views)
        if not on_cpu:
            free = comfy.model_management.get_free_memory(device) - RESERVE
            if decoder.memory_required(shape, checkpointing=False) > free / 2:
                _checkpoint(decoder.module, undo)
                free -= decoder.memory_required(shape, checkpointing=True)
            else:
                free -= decoder.memory_required(shape, checkpointing=False)
            for referee in {id(p.referee): p.referee for p in loss.parts}.values() if loss else ():
                costs = (referee.activation_bytes(on) for on in (False, True))
                fits, on = plan(size, *costs, free)
                undo.callback(setattr, referee, "checkpointing", referee.checkpointing)
                referee.checkpointing = on
                size = min(size, fits)
        yield size


@contextmanager
def memory_for(what: str) -> Iterator[None]:
    """Say where memory ran out. The error stays of the kind on which ComfyUI unloads its models."""
    try:
        yield
    except OUT_OF_MEMORY as error:
        raise OUT_OF_MEMORY(
            f"Memory ran out in {what}. Use a smaller picture or batch, a VAE and a model in bf16, or start ComfyUI with --lowvram."
        ) from error


def _checkpoint(module: torch.nn.Module, undo: ExitStack) -> None:
    """Compute the autoencoder's blocks twice; its largest inner pictures are not kept."""
    for block in module.decoder.modules():
        if type(block).__name__ in CHECKPOINTED:
            forward = block.forward
            block.forward = lambda *a, forward=forward, **k: checkpoint(forward, *a, use_reentrant=False, **k)
            undo.callback(block.__dict__.pop, "forward")
