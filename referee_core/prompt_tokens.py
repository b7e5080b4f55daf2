"""Tokens that are learned around a prompt: the parameters of IPGO (Ye, Wedel, Zhang, arXiv 2503.21812).

Before and after the encoded prompt V0 [L, d] stand m tokens each, T_i = R(phi_i) W x_i: W [d, r] has orthonormal
columns, x_i lies in [-1, 1]^r, and R turns pairs of coordinates by Givens angles phi_i in [-pi, pi]^2.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

PREFIX, SUFFIX = SIDES = ("prefix", "suffix")
ANGLES = 2  # of each token
WORD = 0.62
"""The longest token's share of a word's length: the paper's box, sqrt(300), over the 28 of CLIP-L's tokens. Encoders of
other scales keep this share (ours; the paper knows CLIP-L only)."""


@dataclass(frozen=True)
class Form:
    """What the tokens may be.

    Attributes:
        count: m, tokens on each side. rank: r, at most d. sides: where they stand.
        rotated, bounded, orthonormal: the paper's parts, to be left out only to see what they are worth.
        attending: IPGO+: each token is replaced by what it attends to in the prompt (see ``insert``).
    """

    count: int = 10
    rank: int = 300
    sides: tuple[str, ...] = SIDES
    rotated: bool = True
    bounded: bool = True
    orthonormal: bool = True
    attending: bool = False

    def __post_init__(self) -> None:
        if self.count < 1 or self.rank < 1 or not self.sides or not set(self.sides) <= set(SIDES):
            raise ValueError(f"tokens need a count and a rank of at least 1 and sides among {', '.join(SIDES)}")


@dataclass(frozen=True)
class Inserted:
    """Tokens [m, d] by side, and whether they attend to the prompt. Without any, a prompt stays the same tensor."""

    tokens: dict[str, torch.Tensor]
    attending: bool = False

    def __call__(self, prompt: torch.Tensor) -> torch.Tensor:
        """[prefix; prompt with its own special tokens; suffix] from an encoded prompt [B, L, d].

        An attending token v becomes softmax(v V0^T / sqrt(d)) V0: a mean of the prompt's own tokens. The paper says
        "parameter-free cross-attention"; this formula for it is inferred.
        """
        if not self.tokens:
            return prompt
        parts = {}
        for side, tokens in self.tokens.items():
            tokens = tokens.to(prompt.device, torch.float32).expand(len(prompt), -1, -1)
            if self.attending:
                words = prompt.float()
                tokens = (tokens @ words.mT / math.sqrt(words.shape[-1])).softmax(-1) @ words
            parts[side] = [tokens.to(prompt.dtype)]
        return torch.cat([*parts.get(PREFIX, []), prompt, *parts.get(SUFFIX, [])], dim=1)

    def count(self, side: str) -> int:
        return len(self.tokens.get(side, ()))

    def detach(self) -> "Inserted":
        return Inserted({side: t.detach().float().cpu().clone() for side, t in self.tokens.items()}, self.attending)


NO_TOKENS = Inserted({})


class Side(nn.Module):
    """The tokens of one side, [m, d] of length at most ``scale`` sqrt(r)."""

    def __init__(self, width: int, form: Form, scale: float, generator: torch.Generator):
        super().__init__()
        rank = min(form.rank, width)
        self.form, self.scale = form, scale
        self.basis = nn.Parameter(torch.linalg.qr(torch.randn(width, rank, generator=generator))[0])
        if form.orthonormal:
            orthogonal(self, "basis", orthogonal_map="householder", use_trivialization=False)
        x, phi = (2 * torch.rand(form.count, n, generator=generator) - 1 for n in (rank, ANGLES))
        # tanh instead of the paper's clamp, which has no gradient outside its bounds
        self.coefficients = nn.Parameter(torch.atanh(x.clamp(-0.99, 0.99)) if form.bounded else x)
        self.angles = nn.Parameter(torch.atanh(phi.clamp(-0.99, 0.99)))

    def forward(self) -> torch.Tensor:
        x = self.coefficients.tanh() if self.form.bounded else self.coefficients
        tokens = x @ self.basis.mT
        return self.scale * (rotate(tokens, math.pi * self.angles.tanh()) if self.form.rotated else tokens)


def rotate(tokens: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Token i [m, d] turned by its angles [m, 2]: the k-th turns each pair of coordinates (i + k + 2j, i + k + 2j + 1),
    indices modulo d. Lengths stay."""
    turned = []
    for i, (v, phi) in enumerate(zip(tokens, angles, strict=True)):
        for k in range(ANGLES):
            v = v.roll(-(i + k))
            even, odd, rest = v[: len(v) // 2 * 2 : 2], v[1::2], v[len(v) // 2 * 2 :]
            c, s = phi[k].cos(), phi[k].sin()
            pairs = torch.stack([c * even - s * odd, s * even + c * odd], dim=1).flatten()
            v = torch.cat([pairs, rest]).roll(i + k)
        turned.append(v)
    return torch.stack(turned)


class PromptTokens(nn.Module):
    """IPGO's parameters for prompts like V0 [L, d], drawn from the generator."""

    def __init__(self, prompt: torch.Tensor, form: Form, generator: torch.Generator):
        super().__init__()
        self.form, width = form, prompt.shape[-1]
        scale = WORD * float(prompt.float().norm(dim=-1).mean()) / math.sqrt(min(form.rank, width))
        self.sides = nn.ModuleDict({side: Side(width, form, scale, generator) for side in form.sides})

    def forward(self) -> Inserted:
        return Inserted({name: side() for name, side in self.sides.items()}, self.form.attending)


def conformity(prompt: torch.Tensor, longer: torch.Tensor) -> torch.Tensor:
    """P: how far the mean token [d] moves when tokens are inserted, the mean over its numbers."""
    return (longer.float().mean(dim=(0, 1)) - prompt.float().mean(dim=(0, 1))).abs().mean()
