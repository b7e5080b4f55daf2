"""What every optimisation of a latent needs: lengths of gradients, the best so far, a reason to stop."""

import re
from dataclasses import dataclass

import torch

NO_GRADIENT = re.compile("does not require grad|not have been used in the graph|no autograd formula|is not implemented")
TINY = torch.finfo(torch.float32).tiny
NEWS = 0.1  # what a step's match counts for in the running average: it looks back over about ten steps


def norm(g: torch.Tensor) -> torch.Tensor:
    """Euclidean length of each image's gradient, [B, ...] -> [B, 1, ...]."""
    return g.flatten(1).norm(dim=1).view(-1, *[1] * (g.ndim - 1))


def of_length(g: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """Each image's gradient stretched to a length [B, 1, ...]; a gradient of 0 stays 0."""
    return length * (g / norm(g).clamp_min(TINY))


def checked_norm(g: torch.Tensor, term: str, step: int, must_move: bool) -> torch.Tensor:
    """Length of each image's gradient [B] on the CPU.

    Raises RuntimeError, naming the term, where a gradient is not finite, or 0 although it ``must_move``.
    """
    norms = norm(g).detach().flatten().cpu()
    if not torch.isfinite(norms).all():
        raise RuntimeError(
            f"The gradient of {term} is not finite in step {step + 1}. Lower the learning rate or the weights, or run "
            f"the VAE and the referee in fp32 or bf16 instead of fp16."
        )
    if must_move and (norms == 0).any():
        raise RuntimeError(
            f"The gradient of {term} is zero in the first step. An attention kernel without a backward pass does that: "
            "start ComfyUI with --use-pytorch-cross-attention; or the mask is empty, or the image already is what is "
            "asked."
        )
    return norms


def gradient(y: torch.Tensor, x: torch.Tensor, dy: torch.Tensor | None = None, *, through: str) -> torch.Tensor:
    """dL/dx from dL/dy, or that of y itself where it is one number.

    Raises RuntimeError, naming what gradients were to pass ``through``, where they do not.
    """
    try:
        return torch.autograd.grad(y, x, dy)[0]
    except RuntimeError as error:
        if not NO_GRADIENT.search(str(error)):
            raise
        raise RuntimeError(
            f"No gradient passes through {through}: something in it has no backward pass, mostly attention that "
            "another pack or an option of ComfyUI has put there (SageAttention, FlashAttention). Take it out, or start "
            "ComfyUI with --use-pytorch-cross-attention."
        ) from error


class Best:
    """For each image the latent with the lowest loss so far.

    Attributes:
        z: [B, ...]. loss: [B], infinite before the first update. stale: updates since any image's loss improved.
        match: running average of the probability of a match [B], from 0 on; None without such a term.
    """

    def __init__(self, z: torch.Tensor):
        self.z = z.detach().clone()
        self.loss = z.new_full((len(z),), float("inf")).detach()
        self.stale = 0
        self.match: torch.Tensor | None = None

    def update(self, z: torch.Tensor, loss: torch.Tensor, match: torch.Tensor | None = None) -> None:
        improved = loss < self.loss
        self.loss = torch.where(improved, loss, self.loss)
        self.z = torch.where(improved.view(-1, *[1] * (z.ndim - 1)), z.detach(), self.z)
        self.stale = 0 if improved.any() else self.stale + 1
        if match is not None:
            self.match = torch.lerp(torch.zeros_like(match) if self.match is None else self.match, match, NEWS)


@dataclass(frozen=True)
class EarlyStop:
    """When a run has reached what it can.

    Attributes:
        stop_at: once every image matches with this probability in the mean of about ten steps, so that neither a lucky
            view nor a picture that is only about to be right is the end; 0: never.
        patience: once no image's loss has improved for so many steps; 0: never.
    """

    stop_at: float = 0.0
    patience: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.stop_at <= 1 or self.patience < 0:
            raise ValueError("stop_at must lie between 0 and 1, and patience must not be negative")

    def reached(self, best: Best) -> str:
        """Why the run has reached what it can, in a word; "" if it has not."""
        if self.stop_at > 0 and best.match is not None and bool((best.match >= self.stop_at).all()):
            return "matched"
        return f"no better loss for {best.stale} steps" if 0 < self.patience <= best.stale else ""
