"""Networks that write over what their own backward pass needs, as Flux does where it adds to its stream in place.

PyTorch refuses such a backward pass, or, where blocks are computed twice, takes what was written over and is wrong
without a word. PyTorch's own remedy (``allow_mutation_on_saved_tensors``) cannot be nested, and the second computation
of a block lies inside the backward pass of the whole.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

DETACH = torch.ops.aten.detach.default


class CopyBeforeWrite(TorchDispatchMode):
    """Within, what is kept for the backward pass is copied before an operation writes over it.

    Args:
        by_checkpoint: within ``torch.utils.checkpoint``'s second computation, which keeps tensors by itself, as
            detached ones.
    """

    def __init__(self, by_checkpoint: bool = False):
        super().__init__()
        self.kept: dict[int, list[weakref.ref[torch.Tensor]]] = {}  # by storage
        self.by_checkpoint, self.hooks = by_checkpoint, saved_tensors_hooks(self._pack, lambda kept: kept)

    def __enter__(self) -> "CopyBeforeWrite":
        if not self.by_checkpoint:
            self.hooks.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if not self.by_checkpoint:
            self.hooks.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func is DETACH and self.by_checkpoint:
            return self._keep(func(*args, **kwargs))
        for place, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                written = args[place] if place < len(args) else kwargs.get(argument.name)
                for t in written if isinstance(written, (list, tuple)) else [written]:
                    self._copy_what_shares(t)
        return func(*args, **kwargs)

    def _pack(self, t: torch.Tensor) -> torch.Tensor:
        return self._keep(t.detach())

    def _keep(self, t: torch.Tensor) -> torch.Tensor:
        self.kept.setdefault(_storage(t), []).append(weakref.ref(t))
        return t

    def _copy_what_shares(self, t: torch.Tensor | None) -> None:
        for known in self.kept.pop(_storage(t), []) if t is not None else []:
            kept = known()
            if kept is not None:
                kept.data = kept.clone()


def _storage(t: torch.Tensor) -> int:
    return t.untyped_storage()._cdata


def on_copies(forward: Callable) -> Callable:
    """The same function on copies of the tensors that it is given: it may write over them, and they are needed once
    more. One without a gradient may be written over by what has one."""

    def copied(*args: Any, **kwargs: Any) -> Any:
        return forward(*map(_copy, args), **{name: _copy(value) for name, value in kwargs.items()})

    return copied


def _copy(value: Any) -> Any:
    if type(value) in (list, tuple):
        return type(value)(map(_copy, value))
    return value.clone() if isinstance(value, torch.Tensor) else value
