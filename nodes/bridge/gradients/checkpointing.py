"""Modules of a user's model that are computed twice instead of keeping what the backward pass needs."""

from collections.abc import Iterable
from contextlib import ExitStack, nullcontext

import torch
from torch.utils.checkpoint import checkpoint

from ....referee_core.frozen import Frozen
from .stand_ins import OrdinaryTensors


def checkpoint_blocks(blocks: Iterable[torch.nn.Module], undo: ExitStack) -> None:
    """Compute these modules twice, until ``undo`` is closed; what they keep for the backward pass is not kept."""

    def twice(plain):
        def forward(*a, **k):
            with Frozen():
                return plain(*a, **k)

        context = lambda: (nullcontext(), OrdinaryTensors())  # noqa: E731  (the backward pass lies outside the block's own)
        return lambda *a, **k: checkpoint(forward, *a, use_reentrant=False, context_fn=context, **k)

    for block in blocks:
        forward, own = block.forward, block.__dict__.get("forward")
        block.forward = twice(forward)
        undo.callback(
            block.__dict__.pop if own is None else block.__dict__.__setitem__, "forward", *([own] if own else [])
        )
