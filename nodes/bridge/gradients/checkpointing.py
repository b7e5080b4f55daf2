"""Modules of a user's model that are computed twice instead of keeping what the backward pass needs."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from ....referee_core.frozen import Frozen
from .in_place import CopyBeforeWrite, on_copies
from .stand_ins import OrdinaryTensors


def checkpoint_blocks(blocks: Iterable[torch.nn.Module], undo: ExitStack, in_place: bool = False) -> None:
    """Compute these modules twice, until ``undo`` is closed; what they keep for the backward pass is not kept.

    in_place: whether they may write over what they are given, or over what their backward pass needs.
    """

    def twice(plain: Callable) -> Callable:
        def forward(*a: Any, **k: Any) -> Any:
            with Frozen():
                return plain(*a, **k)

        again = on_copies(forward) if in_place else forward
        contexts = partial(_contexts, in_place)
        return lambda *a, **k: checkpoint(again, *a, use_reentrant=False, context_fn=contexts, **k)

    for block in blocks:
        forward, own = block.forward, block.__dict__.get("forward")
        block.forward = twice(forward)
        undo.callback(
            block.__dict__.pop if own is None else block.__dict__.__setitem__, "forward", *([own] if own else [])
        )


def _contexts(in_place: bool) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Of the first computation and of the second, which a card makes in another thread than the block's own."""
    return nullcontext(), _again(in_place)


@contextmanager
def _again(in_place: bool) -> Iterator[None]:
    with OrdinaryTensors(), CopyBeforeWrite(by_checkpoint=True) if in_place else nullcontext():
        yield
