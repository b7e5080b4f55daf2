"""Referee Can Play: An Alternative Approach to Conditional Generation via Model Inversion (ICML 2024, arXiv 2402.16305).

Algorithm 1 as a generator. The latent z of a frozen autoencoder moves down the gradient of a referee's loss, held near
natural images by score distillation, and jumps back to its own average now and then. Symbols are the paper's.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from ..augment import NONE, Augmentation
from ..averaging import EMARestart
from ..losses import MicroBatch, RefereeLoss, expected_loss
from ..priors.sds import SDS
from ..record import State, Step
from ..schedules import Schedule


@dataclass(frozen=True)
class Settings:
    """The loop's numbers; the defaults are the paper's.

    Attributes:
        steps: I, iterations.
        tail: the last iterations in which the referee rests and only score distillation acts (with both at work).
        w1: norm of the referee's gradient relative to that of score distillation.
        lr: learning rate of Adam and, unless ``sds_lr`` is given, of the plain descent on score distillation.
        sds_lr: constant learning rate of the plain descent (authors' code), or None.
        noise: sigma_z, standard deviation of the noise added to z in each step.
        tail_noise: the same in the tail, or None for ``noise``.
        gradient_noise: standard deviation of noise added to the referee's gradient before Adam (authors' code).
        betas, weight_decay: Adam's.
        micro_batch: views that go through the referee at a time; 0: all.
        stop_at: the referee rests for good once every image matches with this probability (see Step.match); 0: never.
        patience: the same once no image's loss has improved for so many steps; 0: never. The tail follows in both cases.
    """

    steps: int = 160
    tail: int = 10
    w1: float = 2.0
    lr: Schedule = Schedule(1.0, 0.5)
    sds_lr: float | None = None
    noise: float = 0.2
    tail_noise: float | None = None
    gradient_noise: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    micro_batch: int = 0
    stop_at: float = 0.0
    patience: int = 0

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.tail < 0 or self.noise < 0 or self.w1 < 0:
            raise ValueError("tail, noise and w1 must not be negative")
        if not 0 <= self.stop_at <= 1 or self.patience < 0:
            raise ValueError("stop_at must lie between 0 and 1, and patience must not be negative")


PAPER = Settings()
REFERENCE_CODE = replace(
    PAPER, lr=Schedule(1.0, 0.5, warmup=10), sds_lr=1.0, gradient_noise=0.2, tail_noise=0.01, weight_decay=5e-4
)
PRESETS = {"paper": PAPER, "reference code": REFERENCE_CODE}


TINY = torch.finfo(torch.float32).tiny
STREAMS = ("sds", "augmentation", "noise", "gradient noise")


def generators(seeds: Sequence[int]) -> dict[str, list[torch.Generator]]:
    """One CPU generator for each purpose and image: leaving a part out changes nothing in the others' randomness, and each
    image of a batch goes the way it would go alone."""

    def one(seed: int, purpose: int) -> torch.Generator:
        spread = 0x9E3779B97F4A7C15 * (1 + purpose)  # the golden ratio of 64 bits
        return torch.Generator().manual_seed((seed + spread) % 2**63)

    return {name: [one(seed, k) for seed in seeds] for k, name in enumerate(STREAMS)}


def norm(g: torch.Tensor) -> torch.Tensor:
    """Euclidean norm of each image's gradient, [B, ...] -> [B, 1, 1, 1]."""
    return g.flatten(1).norm(dim=1).view(-1, *[1] * (g.ndim - 1))


def randn_like(z: torch.Tensor, streams: Sequence[torch.Generator]) -> torch.Tensor:
    return torch.stack([torch.randn(z.shape[1:], generator=g) for g in streams]).to(z)


def referee_can_play(
    z: torch.Tensor,
    decode: Callable[[torch.Tensor], torch.Tensor],
    loss: RefereeLoss | None = None,
    prior: SDS | None = None,
    augmentation: Augmentation = NONE,
    averaging: EMARestart | None = None,
    settings: Settings = PAPER,
    seed: int | Sequence[int] = 0,
    mask: torch.Tensor | None = None,
    resume: State | None = None,
) -> Iterator[Step]:
    """Run Algorithm 1, one Step an iteration; the result is DEC(z) of the last one.

    A loss without a prior is inversion alone (the referee's gradient is not tied to any norm); a prior without a loss is
    score distillation alone.

    Args:
        z: the start [B, C, h, w] in the diffusion model's latent scale; N(0, I) in the paper.
        decode: differentiable, z -> image [B, 3, H, W], nominally in [0, 1].
        seed: of the first image; the next ones count on. Or one for each.
        mask: [B or 1, 1, h, w] in [0, 1]; where it is 0 the latent stays what it was, bit for bit.
        resume: a state of an earlier run; ``settings.steps`` counts from that run's beginning. With the settings of that run the
            result is the one it would have had.
    Raises:
        ValueError: neither a loss nor a prior is given, the tail is as long as the run, or there is nothing to resume.
        RuntimeError: a gradient vanished or is not finite.
    """
    s = settings
    if prior is not None and prior.weight.is_zero:
        prior = None
    if loss is not None and not s.w1:
        loss = None
    if loss is None and prior is None:
        raise ValueError("Nothing to optimise: connect a referee loss, an SDS prior, or both, with weights above 0.")
    tail = s.tail if loss is not None and prior is not None else 0
    if tail >= s.steps:
        raise ValueError(f"A tail of {tail} leaves none of the {s.steps} steps for the referee: lower it or add steps.")
    if s.stop_at and loss is not None and not loss.matching():
        raise ValueError("stop_at needs the matching loss: give itm_weight a value above 0, or set stop_at to 0.")
    seeds = [seed + i for i in range(len(z))] if isinstance(seed, int) else seed
    start, z = z, z.detach().clone().requires_grad_()
    streams, micro_batch = generators(seeds), MicroBatch(s.micro_batch)
    adam = torch.optim.Adam([z], lr=1.0, betas=s.betas, weight_decay=s.weight_decay)
    average = z.detach().clone()
    best_z, best_loss = z.detach().clone(), z.new_full((len(z),), float("inf")).detach()
    i, end, stale = 0, s.steps, 0  # the next step, where to end, steps without a better loss
    if resume is not None:
        if resume.z.shape != z.shape or resume.index >= s.steps:
            raise ValueError(
                f"The run to resume has made {resume.index} steps on a latent of shape {tuple(resume.z.shape)}: ask for more than "
                f"that many steps (got {s.steps}) on the same shape (got {tuple(z.shape)})."
            )
        i, stale = resume.index, resume.stale
        z.data.copy_(resume.z)
        average, best_z, best_loss = (
            t.to(z.device, copy=True) for t in (resume.average, resume.best_z, resume.best_loss)
        )
        for name, value in resume.adam.items():
            adam.state[z][name] = value.clone() if name == "step" else value.to(z.device, copy=True)
        for name, generator_states in resume.streams.items():
            for generator, state in zip(streams[name], generator_states, strict=True):
                generator.set_state(state)

    def capture() -> State:
        tensors = (t.detach().to("cpu", copy=True) for t in (z, average, best_z, best_loss))
        moments = {name: value.to("cpu", copy=True) for name, value in adam.state[z].items()}
        states = {name: [g.get_state() for g in own] for name, own in streams.items()}
        patient = 0 if end < s.steps else stale  # a run that gave up begins to wait anew
        return State(i, patient, *tensors, moments, states)

    while i < end:
        in_tail = i >= end - tail
        place = i + s.steps - end  # after an early stop the tail keeps its place in the schedules
        lr = s.lr.at(place, s.steps)
        record = Step(i, end, before=z.detach().clone(), z=z, lr=lr, capture=capture)

        g_sds = None
        if prior is not None:
            record.sds_weight = prior.weight.at(place, s.steps)
            g_sds = prior.gradient(z.detach(), record.sds_weight, streams["sds"])
            g_sds = g_sds if mask is None else g_sds * mask
            first = i == 0 and record.sds_weight > 0
            record.sds_gradient, record.sds_norm = g_sds, _checked(norm(g_sds), "score distillation", i, first)

        if loss is not None and not in_tail:
            x = decode(z)
            record.x = leaf = x.detach().requires_grad_()
            record.loss, record.terms = expected_loss(loss, leaf, augmentation, streams["augmentation"], micro_batch)
            record.match = loss.match(record.terms)
            record.micro_batch = micro_batch.fits(augmentation.count * len(z))
            (g,) = torch.autograd.grad(x, z, leaf.grad)
            g = g if mask is None else g * mask
            record.referee_norm = _checked(norm(g), "the referee", i, i == 0)
            improved = record.loss < best_loss
            best_loss = torch.where(improved, record.loss, best_loss)
            best_z[improved] = z.detach()[improved]
            stale = 0 if improved.any() else stale + 1
            obeys = s.stop_at and bool((record.match >= s.stop_at).all())
            if end == s.steps and (obeys or 0 < s.patience <= stale):
                end = record.steps = min(i + 1 + tail, s.steps)
            g_ref = s.w1 * g if g_sds is None else s.w1 * norm(g_sds) * (g / norm(g).clamp_min(TINY))
            record.referee_gradient = g_ref
            if s.gradient_noise:
                g_ref = g_ref + s.gradient_noise * randn_like(z, streams["gradient noise"])
            adam.param_groups[0]["lr"] = lr
            z.grad = g_ref
            adam.step()

        with torch.no_grad():
            if g_sds is not None:
                z -= (lr if s.sds_lr is None else s.sds_lr) * g_sds
            noise = s.tail_noise if in_tail and s.tail_noise is not None else s.noise
            if noise:
                z += noise * randn_like(z, streams["noise"])
            if mask is not None:
                z.copy_(z * mask + start * (1 - mask))
            if averaging is not None:
                average = averaging.update(average, z)
                last_restart = min(end - tail, end - 1)  # not in the tail, and not as the result
                if i + 1 <= last_restart and averaging.restarts_at(i + 1):
                    z.copy_(average if mask is None else torch.where(mask > 0, average, start))
                    record.restart = True
                upcoming = averaging.next_restart(i + 1)
                record.restart_in = upcoming - i - 1 if upcoming and upcoming <= last_restart else None
        record.z, record.best_z, record.best_loss = z.detach().clone(), best_z.clone(), best_loss
        i += 1
        yield record


def _checked(norms: torch.Tensor, term: str, step: int, must_move: bool) -> torch.Tensor:
    """Gradient norms [B] on the CPU, or an error that names the term."""
    norms = norms.detach().flatten().cpu()
    if not torch.isfinite(norms).all():
        raise RuntimeError(
            f"The gradient of {term} is not finite in step {step + 1}. Lower the learning rate or the weights, or run the "
            "VAE and the referee in fp32 or bf16 instead of fp16."
        )
    if must_move and (norms == 0).any():
        raise RuntimeError(
            f"The gradient of {term} is zero in the first step. An attention kernel without a backward pass does that: start "
            "ComfyUI with --use-pytorch-cross-attention; or the mask is empty, or the image already is what is asked."
        )
    return norms
