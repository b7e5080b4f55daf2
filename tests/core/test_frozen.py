"""Frozen layers: the same results and gradients, from less that is kept."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from referee_core.demo.models import build_vae
from referee_core.frozen import Frozen


class Residual(nn.Module):
    """A block of a diffusion model's autoencoder, with ComfyUI's SiLU in place or diffusers' own."""

    def __init__(self, inplace: bool = False):
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(2, 6) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(2))
        self.silu = nn.SiLU(inplace)

    def forward(self, x):
        h = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            h = convolution(self.silu(norm(h)))
        return x + h


def kept(compute, module: nn.Module) -> int:
    """Bytes that a computation keeps for its backward pass, beside a module's weights."""
    found = {}

    def pack(t):
        found[t.untyped_storage().data_ptr()] = t.untyped_storage()
        return t

    with saved_tensors_hooks(pack, lambda t: t):
        output = compute()
    assert output.requires_grad
    weights = {p.data_ptr() for p in module.parameters()}
    return sum(storage.nbytes() for place, storage in found.items() if place not in weights)


def frozen(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with Frozen():
        return module(x)


def slope(output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(output.sin().sum(), x)[0]


@pytest.fixture
def x():
    return torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize(
    "layer",
    [
        Residual(),
        Residual(inplace=True),
        nn.Conv2d(6, 4, 3, stride=2, padding=(1, 0), dilation=(1, 2), groups=2),
        nn.Conv2d(6, 4, 3, padding="same", bias=False),
        nn.Sequential(nn.GroupNorm(3, 6, affine=False), nn.SiLU()),
    ],
    ids=["block", "block in place", "convolution", "same padding", "without weights"],
)
def test_results_and_gradients_stay_the_same(layer, x):
    layer = layer.double().requires_grad_(False)
    torch.testing.assert_close(frozen(layer, x), layer(x), rtol=0, atol=1e-13)
    torch.testing.assert_close(slope(frozen(layer, x), x), slope(layer(x), x), rtol=0, atol=1e-13)


def test_a_third_is_kept():
    """Of a block's six pictures the two inputs of its normalisations, whose statistics are small."""
    block = Residual().requires_grad_(False)
    x = torch.randn(1, 6, 64, 64).requires_grad_()
    assert kept(lambda: block(x), block) == pytest.approx(6 * x.nbytes, rel=0.01)
    assert kept(lambda: frozen(block, x), block) == pytest.approx(2 * x.nbytes, rel=0.01)


def test_the_demos_autoencoder_keeps_less_than_40_percent():
    vae = build_vae().eval().requires_grad_(False)
    z = torch.randn(1, 4, 8, 8).requires_grad_()

    def decode():
        return vae.decode(z).sample

    with Frozen():
        output = decode()
        less = kept(decode, vae)
    torch.testing.assert_close(slope(output, z), slope(decode(), z), rtol=1e-5, atol=1e-6)
    assert less < 0.4 * kept(decode, vae)


def test_weights_that_learn_keep_their_gradients(x):
    block = Residual().double()
    plain, ours = (torch.autograd.grad(f.square().sum(), [*block.parameters()]) for f in (block(x), frozen(block, x)))
    for a, b in zip(plain, ours, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_a_normalised_picture_that_changed_before_silu_is_taken_as_it_is(x):
    def changed():
        y = F.group_norm(x, 2)
        y *= 3
        return F.silu(y)

    with Frozen():
        ours = changed()
    torch.testing.assert_close(slope(ours, x), slope(changed(), x), rtol=0, atol=1e-13)


def test_a_change_of_what_is_needed_again_is_an_error_as_everywhere_in_pytorch():
    x = torch.randn(1, 6, 4, 4, requires_grad=True)
    h = x * 1
    with Frozen():
        y = F.silu(F.group_norm(h, 2))
    with torch.no_grad():
        h.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
