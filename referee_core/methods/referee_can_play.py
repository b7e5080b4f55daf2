"""Referee Can Play: An Alternative Approach to Conditional Generation via Model Inversion (arXiv 2402.16305).

Algorithm 1 as a generator, in the paper's symbols. The latent z of a frozen autoencoder moves down the gradient of a
referee's loss, held near natural images by score distillation, and jumps back to its own average now and then.

Where the printed algorithm and the authors' program differ, the program is followed in two points:
- The referee's norm is tied to that of the weighted score distillation, w2 included; Algorithm 1 prints it without w2.
- Noise (``gradient_noise``) is added to the referee's gradient before Adam. Algorithm 1 has none; without it Adam
  cancels every constant factor, w1 too, and the paper's Table 6 (w1 = 1, 2, 3) would show three equal numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from ..augment import NONE, Augmentation
from ..averaging import EMARestart
from ..interfaces import Prior
from ..losses import MicroBatch, RefereeLoss, loss_gradient
from ..optimisation import Best, EarlyStop, checked_norm, norm, of_length
from ..randomness import generators, randn_like, restore, states
from ..record import LOSS, NORM, SCHEDULE, State, Step, plain_fields
from ..schedules import Schedule

PURPOSES = ("sds", "augmentation", "noise", "gradient noise")


@dataclass(frozen=True)
class LoopSettings(EarlyStop):
    """The loop's numbers; the defaults are the paper's. With ``stop_at`` and ``patience`` the referee rests for good.

    Attributes:
        steps: I, iterations.
        tail: the last iterations in which the referee rests and only score distillation acts (with both at work).
        w1: norm of the referee's gradient relative to that of score distillation.
        lr: learning rate of Adam and, unless ``sds_lr`` is given, of the plain descent on score distillation.
        warmup: the first steps, in which Adam's learning rate rises linearly to ``lr`` (authors' code: 10).
        sds_lr: constant learning rate of the plain descent (authors' code: 1), or None.
        noise: sigma_z, standard deviation of the noise added to z in each step.
        tail_noise: the same in the tail, or None for ``noise`` (authors' code: 0.01).
        gradient_noise: standard deviation of noise on the referee's gradient, where its norm is tied. See above.
        betas, weight_decay: Adam's.
        micro_batch: views that go through the referee at a time; 0: all.
    """

    steps: int = 160
    tail: int = 10
    w1: float = 2.0
    lr: Schedule = Schedule(1.0, 0.5)
    warmup: int = 0
    sds_lr: float | None = None
    noise: float = 0.2
    tail_noise: float | None = None
    gradient_noise: float = 0.2
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    micro_batch: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if min(self.tail, self.noise, self.w1, self.warmup, self.gradient_noise) < 0:
            raise ValueError("tail, noise, w1, warmup and gradient_noise must not be negative")

    def rates(self, place: int) -> tuple[float, float]:
        """Learning rates of Adam and of the plain descent in step ``place``."""
        lr = self.lr.at(place / self.steps)
        warm = min(1.0, (place + 1) / self.warmup) if self.warmup else 1.0
        return lr * warm, lr if self.sds_lr is None else self.sds_lr


PAPER = LoopSettings()
REFERENCE_CODE = replace(PAPER, warmup=10, sds_lr=1.0, tail_noise=0.01, weight_decay=5e-4)
PRESETS = {"paper": PAPER, "reference code": REFERENCE_CODE}


def referee_can_play(
    z: torch.Tensor,
    decode: Callable[[torch.Tensor], torch.Tensor],
    loss: RefereeLoss | None = None,
    prior: Prior | None = None,
    augmentation: Augmentation = NONE,
    averaging: EMARestart | None = None,
    settings: LoopSettings = PAPER,
    seed: int | Sequence[int] = 0,
    mask: torch.Tensor | None = None,
    resume: State | None = None,
) -> Iterator[Step]:
    """Run Algorithm 1, one Step an iteration; the result is DEC(z) of the last one.

    A loss without a prior is inversion alone (the referee's gradient is not tied to any norm); a prior without a loss
    is score distillation alone.

    Args:
        z: the start [B, C, ...] in the diffusion model's latent scale; N(0, I) in the paper.
        decode: differentiable, z -> image [B, 3, H, W], nominally in [0, 1].
        seed: of the first image; the next ones count on. Or one for each.
        mask: broadcasts to z, in [0, 1]: how much of each step's movement an element takes part in. Where it is 0 the
            latent stays what it was, bit for bit.
        resume: a state of an earlier run; ``settings.steps`` counts from that run's beginning. With the settings of
            that run the result is the one it would have had. Only how long it goes on may differ.
    Raises:
        ValueError: neither a loss nor a prior is given, the tail is as long as the run, there is nothing to resume, or
            the run to resume was made with something else.
        RuntimeError: a gradient vanished or is not finite.
    """
    s = settings
    loss, prior, tail = _at_work(loss, prior, s)
    about = _about(loss, prior, augmentation, averaging, s)
    seeds = [seed + k for k in range(len(z))] if isinstance(seed, int) else seed
    streams, micro_batch = generators(seeds, PURPOSES), MicroBatch(s.micro_batch)
    z = z.detach().clone().requires_grad_()
    adam = torch.optim.Adam([z], lr=1.0, betas=s.betas, weight_decay=s.weight_decay)
    z_ema, best = z.detach().clone(), Best(z)
    i, end, ending = 0, s.steps, ""  # the next step, where to end, and why there
    if resume is not None:
        i = _check_resume(resume, z, s.steps, about)
        kept = {name: value.to(z.device, copy=True) for name, value in resume.tensors.items()}
        z.data.copy_(kept["z"])
        z_ema, best.z, best.loss, best.stale = kept["z_ema"], kept["best_z"], kept["best_loss"], resume.stale
        best.match = kept.get("match")
        adam.state[z].update(
            {k: v.clone() if k == "step" else v.to(z.device, copy=True) for k, v in resume.adam.items()}
        )
        restore(streams, resume.streams)
    inside = None if mask is None else (mask > 0).to(z.dtype)

    def capture() -> State:
        tensors = {"z": z, "z_ema": z_ema, "best_z": best.z, "best_loss": best.loss}
        if best.match is not None and not ending:
            tensors["match"] = best.match
        tensors = {name: t.detach().to("cpu", copy=True) for name, t in tensors.items()}
        patient = 0 if ending else best.stale  # a run that has come to its end begins to wait anew
        moments = {name: value.to("cpu", copy=True) for name, value in adam.state[z].items()}
        return State(i, patient, tensors, moments, states(streams), about)

    while i < end:
        in_tail, place = i >= end - tail, i + s.steps - end  # after an early stop the tail keeps its place
        lr, sds_lr = s.rates(place)
        before = z.detach().clone()
        step = Step(i, end, z, partial(decode, before), capture=capture)
        step.add(SCHEDULE, "learning rate", lr)

        g_sds = None
        if prior is not None:
            progress = place / s.steps
            g_sds = prior.gradient(z.detach(), progress, streams["sds"])
            g_sds = g_sds if inside is None else g_sds * inside
            weight = prior.weight.at(progress)
            step.gradients[prior.name] = g_sds
            step.add(NORM, prior.name, checked_norm(g_sds, prior.describe, i, must_move=i == 0 and weight > 0))
            step.add(SCHEDULE, f"{prior.name} weight", weight)

        if loss is not None and not in_tail:
            total, terms, g, x = loss_gradient(decode, z, loss, augmentation, streams["augmentation"], micro_batch)
            step.paint = x.detach
            g = g if inside is None else g * inside
            step.scalars[LOSS] = {"loss": total, **terms}
            step.add(NORM, "referee", checked_norm(g, "the referee", i, must_move=i == 0))
            step.match, step.views_at_once = loss.match(terms), micro_batch.fits(augmentation.count * len(z))
            best.update(z, total, step.match)
            if not ending and (why := s.reached(best)):
                end, ending = min(i + 1 + tail, s.steps), f"{why} in step {i + 1}"
                step.steps = end
            g_ref = s.w1 * g if g_sds is None else of_length(g, s.w1 * norm(g_sds))
            step.gradients = {"referee": g_ref, **step.gradients}
            if s.gradient_noise and g_sds is not None:
                g_ref = g_ref + s.gradient_noise * randn_like(z, streams["gradient noise"])
            adam.param_groups[0]["lr"] = lr
            z.grad = g_ref
            adam.step()

        with torch.no_grad():
            if g_sds is not None:
                z -= sds_lr * g_sds
            sigma_z = s.tail_noise if in_tail and s.tail_noise is not None else s.noise
            if sigma_z:
                z += sigma_z * randn_like(z, streams["noise"])
            if mask is not None:
                z.copy_(torch.lerp(before, z, mask.to(z)))
            if averaging is not None:
                z_ema = averaging.update(z_ema, z)
                last = min(end - tail, end - 1)  # no restart in the tail, and none as the result
                step.marked = i + 1 <= last and averaging.restarts_at(i + 1)
                if step.marked:
                    z.copy_(z_ema if inside is None else torch.where(inside > 0, z_ema, z))
                upcoming = averaging.next_restart(i + 1)
                step.note = f"restart in {upcoming - i - 1}" if upcoming and upcoming <= last else ""
        step.z, step.best_z, step.best_loss, step.ending = z.detach().clone(), best.z, best.loss, ending
        i += 1
        yield step


def _at_work(
    loss: RefereeLoss | None, prior: Prior | None, s: LoopSettings
) -> tuple[RefereeLoss | None, Prior | None, int]:
    """The loss and the prior, each only if its weight is not 0, and the length of the tail."""
    prior = None if prior is None or prior.weight.is_zero else prior
    loss = loss if s.w1 else None
    if loss is None and prior is None:
        raise ValueError("Nothing to optimise: connect a referee loss, an SDS prior, or both, with weights above 0.")
    tail = s.tail if loss is not None and prior is not None else 0
    if tail >= s.steps:
        raise ValueError(
            f"A 'tail' of {tail} leaves none of the {s.steps} steps for the referee: lower it, or add steps."
        )
    if loss is not None:
        loss.check_probability(s.stop_at)
    return loss, prior, tail


def _about(
    loss: RefereeLoss | None,
    prior: Prior | None,
    augmentation: Augmentation,
    averaging: EMARestart | None,
    s: LoopSettings,
) -> dict[str, Any]:
    """What makes a run the run it is, by the names of its inputs; how long it goes on is left out."""
    free = ("steps", "micro_batch", "stop_at", "patience")
    bound = [(type(one.referee).__name__, one.weights) for one in loss.bound] if loss else None
    return {
        "loss": loss and (loss.texts(), bound),
        "prior": prior and (prior.describe, plain_fields(prior)),
        "augmentation": augmentation,
        "averaging": averaging,
        **{name: value for name, value in plain_fields(s).items() if name not in free},
    }


def _check_resume(resume: State, z: torch.Tensor, steps: int, about: dict[str, Any]) -> int:
    """The step to go on with."""
    resume.check(about)
    shape = resume.tensors["z"].shape
    if shape != z.shape or resume.index >= steps:
        raise ValueError(
            f"The run to resume has made {resume.index} steps on a latent of shape {tuple(shape)}: ask for more than "
            f"that many steps (got {steps}) on the same shape (got {tuple(z.shape)})."
        )
    return resume.index
