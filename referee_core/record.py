"""What one step and one run leave behind, whatever the method."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any

import torch

from .schedules import Schedule

LOSS, NORM, SCHEDULE = "loss", "gradient norm", "schedule"
"""Groups of scalars: a loss and its terms (the total under "loss" too), lengths of gradients, values that follow a
plan."""

MOST_BYTES = 2**30
"""Of the pictures that a run keeps."""


@dataclass
class State:
    """All that a run needs to go on after step ``index - 1``, on the CPU.

    Attributes:
        tensors: the variable that is moved and what is kept beside it, by name. stale: steps without a better loss.
        adam: Adam's own state. streams: of the random generators, by purpose and image.
        about: what the run was made with, by name, for ``check``.
    """

    index: int
    stale: int
    tensors: dict[str, torch.Tensor]
    adam: dict[str, torch.Tensor]
    streams: dict[str, list[torch.Tensor]]
    about: dict[str, Any] = field(default_factory=dict)

    def check(self, about: dict[str, Any]) -> None:
        """Raises ValueError, naming it, if a run with this in its place would not go on but be another one."""
        for name, now in about.items():
            was = self.about.get(name, now)
            if was != now:
                plain = all(isinstance(value, int | float | str | None) for value in (was, now))
                numbers = f" ({was}, and now {now})" if plain else ""
                raise ValueError(
                    f"The run to resume was made with another '{name}'{numbers}. Put it back as it was, or start a new "
                    "run from the latent."
                )


@dataclass
class Step:
    """One step of a method. Values per image are [B].

    Attributes:
        index: counted from 0. steps: in all, fewer than asked for once the run has been stopped early.
        z: what is optimised, after the step: a latent, or what else the method moves.
        paint: makes the image before the step [B, 3, H, W], not clamped; of a step that needed none it decodes it now.
        scalars: values per image by group and name; absent where the step had none.
        gradients: what pulled on z, by name, each of z's shape.
        match: probability that each image matches its text over the views judged (see RefereeLoss.match), or None.
        marked: something happened that a plot marks, such as a restart. note: a word for the status line.
        ending: why the run ends before the last step that was asked for, e.g. "matched in step 75"; "" if it does not.
        views_at_once: views that went through a referee together, fewer than asked for after memory ran out; 0: none.
        best_z, best_loss: for each image the z with the lowest loss so far, and that loss.
        capture: gives the run's state, after this step until the next one.
    """

    index: int
    steps: int
    z: torch.Tensor
    paint: Callable[[], torch.Tensor]
    scalars: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    gradients: dict[str, torch.Tensor] = field(default_factory=dict)
    match: torch.Tensor | None = None
    marked: bool = False
    note: str = ""
    ending: str = ""
    views_at_once: int = 0
    best_z: torch.Tensor | None = None
    best_loss: torch.Tensor | None = None
    capture: Callable[[], State] | None = None

    def add(self, group: str, name: str, value: torch.Tensor | float) -> None:
        """Take down a scalar: [B], or one number for all images."""
        value = value if isinstance(value, torch.Tensor) else torch.tensor([value])
        self.scalars.setdefault(group, {})[name] = value

    @torch.no_grad()
    def picture(self) -> torch.Tensor:
        """The image before the step [B, 3, H, W], not clamped."""
        return self.paint().detach()


class Frame:
    """A picture of the run, kept in 8 bits.

    Args:
        index: of the step it was taken before. image: [B, 3, H, W] in [0, 1]. gradients: by name.
    """

    def __init__(self, index: int, image: torch.Tensor, gradients: dict[str, torch.Tensor]):
        self.index, self.gradients = index, gradients
        self._levels = (image.clamp(0, 1) * 255).round().byte()

    @property
    def image(self) -> torch.Tensor:
        return self._levels.float() / 255

    @property
    def bytes(self) -> int:
        return sum(t.nbytes for t in (self._levels, *self.gradients.values()))


@dataclass
class History:
    """Curves by group and name, one value a step; None where a step had no such value. All of it lies on the CPU.

    Attributes:
        every: steps between frames; doubled, and every second frame given up, when they take more than MOST_BYTES.
        marks: indices of marked steps. final: the finished image [B, 3, H, W] in [0, 1].
        best_z: for each image the z (a latent: in the model's scale) with the lowest loss; best_loss: that loss.
        state: where the run ended, to resume it.
    """

    every: int = 10
    steps: int = 0
    curves: dict[str, dict[str, list[torch.Tensor | None]]] = field(default_factory=dict)
    marks: list[int] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    final: torch.Tensor | None = None
    best_z: torch.Tensor | None = None
    best_loss: torch.Tensor | None = None
    state: State | None = None
    _last: Step | None = None

    @classmethod
    def after(cls, earlier: "History", every: int) -> "History":
        """The history of a run that goes on where an earlier one ended: it begins with that one's curves and frames."""
        curves = {g: {name: list(c) for name, c in members.items()} for g, members in earlier.curves.items()}
        return cls(every, earlier.steps, curves, list(earlier.marks), list(earlier.frames))

    def add(self, step: Step) -> None:
        """Take down one step."""
        for group, values in step.scalars.items():
            for name, value in values.items():
                curve = self.curves.setdefault(group, {}).setdefault(name, [])
                curve += [None] * (step.index - len(curve))
                curve.append(_kept(value))
        self.steps = step.index + 1
        for curve in (c for members in self.curves.values() for c in members.values()):
            curve += [None] * (self.steps - len(curve))
        if step.marked:
            self.marks.append(step.index)
        if step.index % self.every == 0:
            gradients = {name: _kept(g) for name, g in step.gradients.items()}
            self.frames.append(Frame(step.index, _kept(step.picture()), gradients))
            self._thin()
        self.best_z, self.best_loss, self._last = step.best_z, step.best_loss, step

    def _thin(self) -> None:
        while len(self.frames) > 1 and len(self.frames) * self.frames[-1].bytes > MOST_BYTES:
            self.every *= 2
            self.frames = [frame for frame in self.frames if frame.index % self.every == 0]

    def finish(self, image: torch.Tensor) -> None:
        """Take down the finished image [B, 3, H, W] and the state the run ended in."""
        if self._last is not None and self._last.capture is not None:
            self.state = self._last.capture()
            self.best_z, self.best_loss = (None if t is None else _kept(t) for t in (self.best_z, self.best_loss))
        self._last = None
        self.final = _kept(image).clamp(0, 1)


def plain_fields(thing: Any) -> dict[str, Any]:
    """The numbers and words of a dataclass by name, without the networks and tensors it may hold."""
    plain = (int, float, str, tuple, Schedule, NoneType)
    return {f.name: value for f in fields(thing) if isinstance(value := getattr(thing, f.name), plain)}


def _kept(value: torch.Tensor) -> torch.Tensor:
    return value.detach().float().cpu()
