"""What the layers of a language model see, where ComfyUI's masks are not those on which the weights were trained."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def masks_changed(layers: Iterable[torch.nn.Module], change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """For the time of a call, layers get a changed copy of their mask [..., n, n], which is added to the scores: 0
    where a token (row) sees another (column)."""

    def hook(layer: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return args, kwargs | {"attention_mask": change(kwargs["attention_mask"].clone())}

    hooks = [layer.register_forward_pre_hook(hook, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()
