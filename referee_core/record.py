"""What one step and one run leave behind."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch


@dataclass
class State:
    """All that a run needs to go on after step ``index - 1``, on the CPU."""

    index: int
    stale: int
    z: torch.Tensor
    average: torch.Tensor
    best_z: torch.Tensor
    best_loss: torch.Tensor
    adam: dict[str, torch.Tensor]
    streams: dict[str, list[torch.Tensor]]


@dataclass
class Step:
    """One iteration's record. Values per image are [B].

    Attributes:
        index: counted from 0. steps: in all, fewer than asked for once the run has been stopped early.
        loss: L~(x) before the step (None while the referee rests). terms: its unweighted parts.
        match: probability that each image matches its text over the augmented views [B] (see RefereeLoss.match), or None.
        referee_norm: ||grad_z L~||. sds_norm: ||g_sds||. lr, sds_weight: this step's values.
        restart: whether z jumped to its average. restart_in: steps until it does so next, None if it will not any more.
        before, z: the latent before and after the step.
        x: the decoded image before the step [B, 3, H, W], not clamped, or None when the step needed none.
        referee_gradient, sds_gradient: the gradients on z, or None.
        micro_batch: views that went through the referee together, fewer than asked for after memory ran out.
        best_z: for each image the latent with the lowest L~ so far. best_loss: that value.
        capture: gives the run's state, after this step until the next one.
    """

    index: int
    steps: int
    before: torch.Tensor
    z: torch.Tensor
    lr: float
    sds_weight: float = 0.0
    restart: bool = False
    restart_in: int | None = None
    loss: torch.Tensor | None = None
    terms: dict[str, torch.Tensor] = field(default_factory=dict)
    match: torch.Tensor | None = None
    referee_norm: torch.Tensor | None = None
    sds_norm: torch.Tensor | None = None
    x: torch.Tensor | None = None
    referee_gradient: torch.Tensor | None = None
    sds_gradient: torch.Tensor | None = None
    micro_batch: int = 0
    best_z: torch.Tensor | None = None
    best_loss: torch.Tensor | None = None
    capture: Callable[[], State] | None = None

    @property
    def scalars(self) -> dict[str, dict[str, torch.Tensor]]:
        """Values per image, by group and name."""
        groups = {
            "loss": {"loss": self.loss, **self.terms},
            "gradient norm": {"referee": self.referee_norm, "SDS": self.sds_norm},
            "schedule": {"learning rate": torch.tensor([self.lr])},
        }
        present = {g: {n: v for n, v in values.items() if v is not None} for g, values in groups.items()}
        return {group: values for group, values in present.items() if values}

    @property
    def marked(self) -> bool:
        return self.restart

    @property
    def note(self) -> str:
        return "" if self.restart_in is None else f"restart in {self.restart_in}"

    @property
    def views_at_once(self) -> int:
        return self.micro_batch

    @torch.no_grad()
    def picture(self, decode: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """The image before the step [B, 3, H, W], not clamped; decoded only if the step itself needed none."""
        return (decode(self.before) if self.x is None else self.x).detach()


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
