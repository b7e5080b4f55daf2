"""What fits on the card: how many views at a time, and where to compute twice instead of keeping."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher

from ....referee_core.losses import RefereeLoss
from ....referee_core.out_of_memory import OUT_OF_MEMORY, is_out_of_memory

ENOUGH_VIEWS = 8
"""Views at a time that keep a card busy. Checkpointing costs a third of the referee's time, smaller batches nearly
nothing: it is used only where fewer than this would fit otherwise."""
VIEWS_ON_CPU = 10
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


def count_least_bytes(loss: RefereeLoss | None) -> int:
    """Bytes without which the referee cannot play at all."""
    return max((r.activation_bytes(True, len(texts)) for r, texts in loss.by_referee()), default=0) if loss else 0


def load_whole(patchers: list, others: list, memory_required: float) -> None:
    """Load models through which gradients pass, each of them whole, beside others of which parts may stay behind.

    Raises RuntimeError if one of them does not fit.
    """
    load = comfy.model_management.load_models_gpu
    load(patchers, memory_required=memory_required)  # where memory is short the others go,
    if others:  # and come back into what is left
        load([*others, *patchers], memory_required=memory_required)
    for patcher in patchers:
        if not is_whole(patcher):  # where memory is short ComfyUI loads as much as fits
            with memory_for(f"loading {type(patcher.model).__name__}", ROOM):
                patcher.load(patcher.load_device, full_load=True)
        if not is_whole(patcher):
            raise RuntimeError(f"{type(patcher.model).__name__} does not fit into memory as a whole. {ROOM}")


def is_whole(patcher: ModelPatcher) -> bool:
    """Whether all of a model is where it is to be loaded; a card without a number is the current one."""
    return {_numbered(p.device) for p in patcher.model.parameters()} <= {_numbered(torch.device(patcher.load_device))}


def _numbered(device: torch.device) -> torch.device:
    if device.index is not None or device.type == "cpu":
        return torch.device(device.type) if device.type == "cpu" else device
    known = getattr(torch, device.type, None)
    return torch.device(device.type, known.current_device() if hasattr(known, "current_device") else 0)


@contextmanager
def fit_to_memory(
    passages: Sequence[Any], loss: RefereeLoss | None, device: torch.device, shape: torch.Size, views: int, asked: int
) -> Iterator[int]:
    """For the time of a run, choose the number of views at a time and turn checkpointing on where memory asks for it.

    Args:
        passages: what gradients pass through behind the referees (see block.py).
        device: where the referee plays. shape: of the latent. views: in all.
        asked: the user's number of views at a time, 0 to choose.
    Yields: views at a time.
    """
    on_cpu = comfy.model_management.is_device_cpu(device)
    with ExitStack() as undo:
        size = asked or (VIEWS_ON_CPU if on_cpu else views)
        if not on_cpu:
            reserve = max(RESERVE, comfy.model_management.extra_reserved_memory())
            free = comfy.model_management.get_free_memory(device) - reserve
            for passage in passages:
                short = passage.memory_required(shape, checkpointing=False) > free / 2
                if short:
                    passage.checkpoint(undo)
                free -= passage.memory_required(shape, checkpointing=short)
            for referee, texts in loss.by_referee() if loss else ():
                plain, checkpointed = (referee.activation_bytes(on, len(texts)) for on in (False, True))
                fits, on = plan(size, plain, checkpointed, free)
                undo.callback(setattr, referee, "checkpointing", referee.checkpointing)
                referee.checkpointing = on
                size = min(size, fits)
        yield size


@contextmanager
def memory_for(what: str, remedy: str = REMEDY) -> Iterator[None]:
    """Say where memory ran out. The error stays of the kind on which ComfyUI unloads its models."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error) or SHORT in str(error):  # an inner stage has said it
            raise
        if hasattr(comfy.model_management, "is_oom"):
            comfy.model_management.is_oom(error)  # forgets CUDA's pending error
        raise OUT_OF_MEMORY(f"{SHORT} {what}. {remedy}") from error
