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
RESERVE = 256 * 2**20  # bytes left free, at least
SHORT = "Memory ran out in"
ROOM = "Choose a smaller precision in Load Referee, or close what else uses the card."
REMEDY = "Use a smaller picture or batch, lower views_at_once, or choose a smaller precision in Load Referee."


def plan(views: int, plain: int, checkpointed: int, free: float) -> tuple[int, bool]:
    """Views at a time and whether to checkpoint, for ``views`` in all that keep so many bytes each (0: not known), in
    ``free`` bytes."""
    if not plain:
        return views, False
    if plain * min(views, ENOUGH_VIEWS) <= free:
        return min(views, int(free // plain)), False
    return max(1, min(views, int(free // checkpointed))), True


def smallest(loss: RefereeLoss | None) -> int:
    """Bytes without which the referee cannot play at all."""
    return max((part.referee.activation_bytes(True) for part in loss.parts), default=0) if loss else 0


def load_whole(patchers: list, others: list, memory_required: float) -> None:
    """Load models through which gradients pass, each of them whole, beside others of which parts may stay behind.

    Raises RuntimeError if one of them does not fit.
    """
    load = comfy.model_management.load_models_gpu
    load(patchers, memory_required=memory_required)  # where memory is short the others go,
    if others:  # and come back into what is left
        load([*others, *patchers], memory_required=memory_required)
    for patcher in patchers:
        if not _is_whole(patcher):  # where memory is short ComfyUI loads as much as fits
            with memory_for(f"loading {type(patcher.model).__name__}", ROOM):
                patcher.load(patcher.load_device, full_load=True)
        if not _is_whole(patcher):
            raise RuntimeError(f"{type(patcher.model).__name__} does not fit into memory as a whole. {ROOM}")


def _is_whole(patcher: Any) -> bool:
    return all(p.device.type == torch.device(patcher.load_device).type for p in patcher.model.parameters())


@contextmanager
def fitted(
    decoder: Any, loss: RefereeLoss | None, device: torch.device, shape: torch.Size, views: int, asked: int
) -> Iterator[int]:
    """For the time of a run, choose the number of views at a time and turn checkpointing on where memory asks for it.

    Args:
        device: where the referee plays. shape: of the latent. views: in all. asked: the user's number of views at a time, 0 to choose.
    Yields: views at a time.
    """
    on_cpu = comfy.model_management.is_device_cpu(device)
    with ExitStack() as undo:
        size = asked or (VIEWS_ON_CPU if on_cpu else views)
        if not on_cpu:
            reserve = max(RESERVE, comfy.model_management.extra_reserved_memory())
            free = comfy.model_management.get_free_memory(device) - reserve
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
def memory_for(what: str, remedy: str = REMEDY) -> Iterator[None]:
    """Say where memory ran out. The error stays of the kind on which ComfyUI unloads its models."""
    try:
        yield
    except OUT_OF_MEMORY as error:
        if SHORT in str(error):  # an inner stage has said it
            raise
        raise OUT_OF_MEMORY(f"{SHORT} {what}. {remedy}") from error


def _checkpoint(module: torch.nn.Module, undo: ExitStack) -> None:
    """Compute the autoencoder's blocks twice; its largest inner pictures are not kept."""
    for block in module.modules():
        if type(block).__name__ in CHECKPOINTED:
            forward, own = block.forward, block.__dict__.get("forward")
            block.forward = lambda *a, forward=forward, **k: checkpoint(forward, *a, use_reentrant=False, **k)
            undo.callback(
                block.__dict__.pop if own is None else block.__dict__.__setitem__, "forward", *([own] if own else [])
            )
