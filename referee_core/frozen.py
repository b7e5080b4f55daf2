"""Convolutional networks with frozen weights keep less for their backward pass; results and gradients stay the same.

PyTorch keeps every convolution's input, which only the gradient of its weight asks for; and of a group normalisation
followed by SiLU, as in the decoders of diffusion models, both inputs and the output. Here the normalisation's input
alone is kept, and normalised once more on the way back: a third of the memory, at hardly any cost.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.modules.utils import _pair
from torch.overrides import TorchFunctionMode


class _Convolution(torch.autograd.Function):
    """F.conv2d of which only the input has a gradient; nothing but the weight is kept, which is there anyway."""

    @staticmethod
    def forward(ctx, x, weight, bias, *geometry):
        ctx.shape, ctx.weight, ctx.geometry = x.shape, weight, geometry
        return F.conv2d(x, weight, bias, *geometry)

    @staticmethod
    def backward(ctx, gradient):
        stride, padding, dilation, groups = ctx.geometry
        shaped = gradient.new_empty(ctx.shape)  # nothing is read from it
        settings = (*map(_pair, (stride, padding, dilation)), False, [0, 0], groups, [True, False, False])
        found, _, _ = torch.ops.aten.convolution_backward(gradient, shaped, ctx.weight, None, *settings)
        return found, *[None] * 6


class _SiLU(torch.autograd.Function):
    """F.silu of y = group_norm(x), which is computed again from x where the gradient asks for it."""

    @staticmethod
    def forward(ctx, y, x, how, inplace):
        ctx.save_for_backward(x)
        ctx.how = how
        if inplace:
            ctx.mark_dirty(y)
        return F.silu(y, inplace)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        y = F.group_norm(x, *ctx.how)
        return torch.ops.aten.silu_backward(gradient, y), None, None, None


class Frozen(TorchFunctionMode):
    """While it is on, layers with frozen weights are computed so. What a checkpoint computes again needs it on, too."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        layer = {F.conv2d: _conv2d, F.group_norm: _group_norm, F.silu: _silu}.get(func)
        if layer is None or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return func(*args, **kwargs)
        return layer(*args, **kwargs)


def _frozen(x: torch.Tensor, *weights: torch.Tensor | None) -> bool:
    """Whether a gradient goes to x alone, in the number format of all."""
    plain = not torch.is_autocast_enabled(x.device.type)
    return plain and x.requires_grad and not any(w is not None and w.requires_grad for w in weights)


def _conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    if isinstance(padding, str) or input.ndim != 4 or not _frozen(input, weight, bias):
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    return _Convolution.apply(input, weight, bias, stride, padding, dilation, groups)


def _group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    y = F.group_norm(input, num_groups, weight, bias, eps)
    if _frozen(input, weight, bias):
        y.normalised = (input, (num_groups, weight, bias, eps), y._version)
    return y


def _silu(input: Any, inplace: bool = False):
    x, how, version = getattr(input, "normalised", (None, None, None))
    if x is None or version != input._version:  # something else, or changed since
        return F.silu(input, inplace)
    if inplace:
        del input.normalised
    return _SiLU.apply(input, x.detach(), how, inplace)
