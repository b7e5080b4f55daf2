"""What a run leaves behind: numbers of every step, pictures of some."""

from dataclasses import dataclass, field

import torch

from .referee_can_play import State, Step


@dataclass
class Frame:
    """A picture of the run: image [B, 3, H, W] in [0, 1] before step ``index``, and the gradients on the latent."""

    index: int
    image: torch.Tensor
    referee_gradient: torch.Tensor | None
    sds_gradient: torch.Tensor | None


@dataclass
class History:
    """Curves by name, one value a step and image; None where a step had no such value.

    Attributes:
        every: steps between frames. final: the finished image [B, 3, H, W] in [0, 1].
        best_z: for each image the latent (model scale) with the lowest loss; best_loss: that loss.
        state: where the run ended, to resume it.
    """

    every: int = 10
    steps: int = 0
    curves: dict[str, list[torch.Tensor | None]] = field(default_factory=dict)
    restarts: list[int] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    final: torch.Tensor | None = None
    best_z: torch.Tensor | None = None
    best_loss: torch.Tensor | None = None
    state: State | None = None
    _last: Step | None = None

    def add(self, step: Step, decode) -> None:
        """Take down one step."""
        values = {
            "loss": step.loss,
            **step.terms,
            "referee gradient": step.referee_norm,
            "SDS gradient": step.sds_norm,
            "learning rate": torch.tensor([step.lr]),
            "SDS weight": torch.tensor([step.sds_weight]) if step.sds_norm is not None else None,
        }
        for name, value in values.items():
            curve = self.curves.setdefault(name, [])
            curve += [None] * (step.index - len(curve))  # a resumed run begins later
            curve.append(value if value is None else value.detach().float().cpu())
        for curve in self.curves.values():
            curve += [None] * (step.index + 1 - len(curve))
        self.steps = step.index + 1
        if step.restart:
            self.restarts.append(step.index)
        if step.index % self.every == 0:
            gradients = (
                g if g is None else g.detach().float().cpu() for g in (step.referee_gradient, step.sds_gradient)
            )
            self.frames.append(Frame(step.index, step.picture(decode).float().clamp(0, 1).cpu(), *gradients))
        self.best_z, self.best_loss, self._last = step.best_z, step.best_loss, step

    def finish(self, image: torch.Tensor) -> None:
        """Take down the finished image [B, 3, H, W] and the state the run ended in."""
        if self._last is not None and self._last.capture is not None:
            self.state, self._last = self._last.capture(), None
        self.final = image.detach().float().clamp(0, 1).cpu()
