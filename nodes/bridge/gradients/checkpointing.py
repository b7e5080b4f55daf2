"""Modules of a user's model that are computed twice instead of keeping what the backward pass needs."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from ....referee_core.frozen import Frozen
from .in_place import CopyBeforeWrite, on_copies
from .stand_ins import OrdinaryTensors


def checkpoint_blocks(blocks: Iterable[torch.nn.Module], undo: ExitStack) -> None:
    """Compute these modules twice, until ``undo`` is closed; what they keep for the backward pass is not kept."""

    def twice(plain: Callable) -> Callable:
        def forward(*a: Any, **k: Any) -> Any:
            with Frozen():
                return plain(*a, **k)

        forward = on_copies(forward)
        return lambda *a, **k: checkpoint(forward, *a, use_reentrant=False, context_fn=_contexts, **k)

    for block in blocks:
        forward, own = block.forward, block.__dict__.get("forward")
        block.forward = twice(forward)
        undo.callback(
            block.__dict__.pop if own is None else block.__dict__.__setitem__, "forward", *([own] if own else [])
        )


def _contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
    """Of the first computation and of the second, which a card makes in another thread than the block's own."""
    return nullcontext(), _again()


@contextmanager
def _again() -> Iterator[None]:
    with OrdinaryTensors(), CopyBeforeWrite(by_checkpoint=True):
        yield
