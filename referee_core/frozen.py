"""Convolutional networks with frozen weights keep less for their backward pass; results and gradients stay the same.

PyTorch keeps every convolution's input, which only the gradient of its weight asks for; and of a group normalisation
followed by SiLU, as in the decoders of diffusion models, both inputs and the output. Here the normalisation's input
alone is kept, and normalised once more on the way back: a third of the memory, at hardly any cost.
"""

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch.nn.modules.utils import _pair
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

Function = Callable[..., Any]
Pair = int | tuple[int, int]
How = tuple[int, torch.Tensor | None, torch.Tensor | None, float]
"""The arguments of a group normalisation after its input."""


class _Normalised(NamedTuple):
    """What made a tensor, as long as the tensor is of this version."""

    x: torch.Tensor
    how: How
    version: int


_NORMALISED: MutableMapping[torch.Tensor, _Normalised] = WeakTensorKeyDictionary()
"""By what has come out of a group normalisation, for as long as that is there."""


class _Convolution(torch.autograd.Function):
    """F.conv2d of which only the input has a gradient; nothing but the weight is kept, which is there anyway."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *geometry: Any
    ) -> torch.Tensor:
        ctx.shape, ctx.weight, ctx.geometry = x.shape, weight, geometry
        return F.conv2d(x, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        stride, padding, dilation, groups = ctx.geometry
        shaped = gradient.new_empty(ctx.shape)  # nothing is read from it
        settings = (*map(_pair, (stride, padding, dilation)), False, [0, 0], groups, [True, False, False])
        found, _, _ = torch.ops.aten.convolution_backward(gradient, shaped, ctx.weight, None, *settings)
        return found, *[None] * 6


class _SiLU(torch.autograd.Function):
    """F.silu of y = group_norm(x), which is computed again from x where the gradient asks for it."""

    @staticmethod
    def forward(ctx: Any, y: torch.Tensor, x: torch.Tensor, how: How, inplace: bool) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.how = how
        if inplace:
            ctx.mark_dirty(y)
        return F.silu(y, inplace)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        y = F.group_norm(x, *ctx.how)
        return torch.ops.aten.silu_backward(gradient, y), None, None, None


class Frozen(TorchFunctionMode):
    """While it is on, layers with frozen weights are computed so. What a checkpoint computes again needs it on, too."""

    def __torch_function__(
        self,
        func: Function,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        layers: dict[Function, Function] = {F.conv2d: _conv2d, F.group_norm: _group_norm, F.silu: _silu}
        layer = layers.get(func)
        if layer is None or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return func(*args, **kwargs)
        return layer(*args, **kwargs)


def _frozen(x: torch.Tensor, *weights: torch.Tensor | None) -> bool:
    """Whether a gradient goes to x alone, in the number format of all."""
    plain = not torch.is_autocast_enabled(x.device.type)
    return plain and x.requires_grad and not any(w is not None and w.requires_grad for w in weights)


def _conv2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> torch.Tensor:
    if isinstance(padding, str) or input.ndim != 4 or not _frozen(input, weight, bias):
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    return _Convolution.apply(input, weight, bias, stride, padding, dilation, groups)


def _group_norm(
    input: torch.Tensor,
    num_groups: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    y = F.group_norm(input, num_groups, weight, bias, eps)
    if _frozen(input, weight, bias):
        _NORMALISED[y] = _Normalised(input, (num_groups, weight, bias, eps), y._version)
    return y


def _silu(input: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    made = _NORMALISED.get(input)
    if made is None or made.version != input._version:  # something else, or changed since
        return F.silu(input, inplace)
    if inplace:
        del _NORMALISED[input]
    return _SiLU.apply(input, made.x.detach(), made.how, inplace)
