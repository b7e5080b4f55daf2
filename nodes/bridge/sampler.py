"""Referee Can Play as a ComfyUI sampler: conditioning, latent scale, masks and clean-up come from the guider."""

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.sampler_helpers
import comfy.samplers
import torch

from ...referee_core.augment import NONE, Augmentation
from ...referee_core.averaging import EMARestart
from ...referee_core.interfaces import Denoiser
from ...referee_core.interfaces import Prior as CorePrior
from ...referee_core.methods.referee_can_play import PAPER, Settings, referee_can_play
from ...referee_core.record import History, State, Step
from ..sockets import LoadedLoss, Prior
from .denoiser import GuidedDenoiser
from .differentiable import differentiable
from .inputs import check_finite
from .latents import check_family, choose_latent_format
from .memory import memory_for
from .vae import Decoder

OnStep = Callable[[Step, Callable], None]


@dataclass(frozen=True)
class Setup:
    """All that a run needs besides the latent and the seed.

    Attributes:
        seeds: one an image, instead of the guider's. notes: for the user, once the run has ended.
    """

    vae: Any
    loss: LoadedLoss | None = None
    make_prior: Callable[[Denoiser], CorePrior] | None = None
    augmentation: Augmentation | None = None
    averaging: EMARestart | None = None
    settings: Settings = PAPER
    seeds: tuple[int, ...] | None = None
    resume: State | None = None
    notes: list[str] = field(default_factory=list)


class RefereeCanPlay(comfy.samplers.Sampler):
    """Algorithm 1 under a guider. The number of sigmas sets the number of steps; their values are not used, because
    score distillation draws its own noise levels."""

    def __init__(self, setup: Setup, on_step: OnStep | None = None, model_input: str = "model"):
        self.setup, self.on_step, self.model_input = setup, on_step, model_input

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        if len(sigmas) < 2:
            raise ValueError("The input 'sigmas' holds no step. It needs one value more than there are steps.")
        latent_format = model_wrap.inner_model.latent_format
        check_family(latent_format, self.setup.vae, self.model_input)
        settings = replace(self.setup.settings, steps=len(sigmas) - 1)
        setup = replace(self.setup, settings=settings, seeds=self.setup.seeds or extra_args.get("seed") or 0)
        denoiser = GuidedDenoiser(model_wrap, extra_args, denoise_mask)

        def on_step(step: Step, decode: Callable) -> None:
            if callback is not None:
                callback(step.index, step.z, step.z, step.steps)
            if self.on_step is not None:
                self.on_step(step, decode)

        also_load = [model_wrap.model_patcher, *model_wrap.loaded_models]
        return optimise(setup, denoiser, noise, latent_image, latent_format, denoise_mask, also_load, on_step)


def optimise(
    setup: Setup,
    denoiser: Denoiser | None,
    noise: torch.Tensor,
    latent: torch.Tensor | None,
    latent_format: Any,
    mask: torch.Tensor | None,
    also_load: list,
    on_step: OnStep,
) -> torch.Tensor:
    """Run the loop on loaded models and return the last latent, in the model's scale.

    Args:
        noise, latent: [B, C, ...] in the model's scale. An all-zero latent starts from the noise, as published; any
            other latent is where the run starts.
    """
    decoder = Decoder(setup.vae)
    decoder.check_latent(noise)
    if setup.averaging is not None and (setup.averaging.next_restart(0) or 0) >= setup.settings.steps:
        _note(setup, f"no restart: EMA-Restart begins at step {setup.averaging.start} of {setup.settings.steps}")
    device = setup.loss.patchers[-1].load_device if setup.loss else noise.device
    augmentation = setup.augmentation or NONE
    start = noise if latent is None or torch.count_nonzero(latent) == 0 else latent
    views = augmentation.count * len(noise)
    asked = setup.settings.micro_batch
    with differentiable(
        decoder, loss=setup.loss, also_load=also_load, shape=noise.shape, views=views, asked=asked
    ) as block:

        def decode(z: torch.Tensor) -> torch.Tensor:
            with memory_for("the VAE"):
                return decoder(latent_format.process_out(z))

        run = referee_can_play(
            z := start.to(device, torch.float32, copy=True),
            decode,
            setup.loss and setup.loss.loss,
            setup.make_prior(denoiser) if setup.make_prior and denoiser else None,
            augmentation,
            setup.averaging,
            replace(setup.settings, micro_batch=block.at_once),
            setup.seeds,
            None if mask is None else mask.to(device, torch.float32, copy=True),
            setup.resume,
        )
        with closing(run), memory_for("the referee or the backward pass through the VAE"):
            for step in run:
                z = step.z
                on_step(step, decode)
                comfy.model_management.throw_exception_if_processing_interrupted()
        return z


def run(
    setup: Setup,
    prior: Prior | None,
    latent: dict,
    seed: int,
    on_step: OnStep,
    best: bool,
    history: History,
    model: Any = None,
) -> tuple[dict, torch.Tensor]:
    """Run to the end and decode: (LATENT, IMAGE). ``best`` returns the step with the lowest referee loss.

    Image i of a batch goes the way it would go alone with the seed ``seed + i``.

    Args:
        model: only for the scale of its latents, where there is no prior.
    """
    check_finite("latent_image", latent["samples"])
    numbers = latent.get("batch_index") or []
    if len(numbers) != len(latent["samples"]):
        if numbers:
            _note(setup, "the latent's 'batch_index' does not fit its batch and was left out")
        numbers = range(len(latent["samples"]))
    setup = replace(setup, seeds=tuple((seed + i) % 2**64 for i in numbers))
    if prior is not None:
        latent_format = prior.model.get_model_object("latent_format")
        samples = _run_with_prior(setup, prior, latent, on_step)
    else:
        latent_format, note = choose_latent_format(setup.vae, model)
        if note:
            _note(setup, note)
        samples = _run_without_prior(setup, latent, latent_format, on_step)
    if best and history.best_loss is not None and history.best_loss.isfinite().all():
        samples = latent_format.process_out(history.best_z)
    samples = _restore_outside(samples.to(comfy.model_management.intermediate_device()), latent)
    image = setup.vae.decode(samples)
    image = image.reshape(-1, *image.shape[-3:])  # of a video VAE [B, 1, H, W, C]
    with torch.inference_mode(False):  # the state may be resumed, in which Adam writes to it
        history.finish(image.movedim(-1, 1))
    out = {k: v for k, v in latent.items() if not k.startswith("downscale_ratio")}
    return out | {"samples": samples}, image


def _note(setup: Setup, text: str) -> None:
    """For the user: on the node where there is one, and in ComfyUI's log."""
    setup.notes.append(text)
    logging.warning("[Referee] %s", text)


def _restore_outside(samples: torch.Tensor, latent: dict) -> torch.Tensor:
    """Where the mask is 0, what came in, bit for bit: scaling into the model's range and back has rounded it."""
    mask = latent.get("noise_mask")
    if mask is None or samples.shape != latent["samples"].shape:
        return samples
    mask = comfy.sampler_helpers.prepare_mask(mask, samples.shape, samples.device)
    return torch.where(mask > 0, samples, latent["samples"].to(samples))


def _noise(samples: torch.Tensor, seeds: tuple[int, ...]) -> torch.Tensor:
    """ComfyUI's noise of each seed."""
    return torch.cat([comfy.sample.prepare_noise(row, seed) for row, seed in zip(samples.split(1), seeds, strict=True)])


def _run_with_prior(setup: Setup, prior: Prior, latent: dict, on_step: OnStep) -> torch.Tensor:
    """The sampler under a CFGGuider of the prior's model, exactly as SamplerCustomAdvanced would drive it."""
    sampler = RefereeCanPlay(replace(setup, make_prior=prior.make), on_step, model_input="prior")
    check_family(prior.model.get_model_object("latent_format"), setup.vae, "prior")
    guider = comfy.samplers.CFGGuider(prior.model)
    guider.set_conds(prior.positive, prior.negative)
    guider.set_cfg(prior.cfg)
    samples = comfy.sample.fix_empty_latent_channels(
        prior.model, latent["samples"], latent.get("downscale_ratio_spacial")
    )
    noise = _noise(samples, setup.seeds)
    sigmas = torch.linspace(1, 0, setup.settings.steps + 1)
    return guider.sample(noise, samples, sampler, sigmas, denoise_mask=latent.get("noise_mask"), seed=setup.seeds[0])


def _run_without_prior(setup: Setup, latent: dict, latent_format: Any, on_step: OnStep) -> torch.Tensor:
    """The loop with no diffusion model at all: only the VAE and the referee are loaded."""
    decoder, samples, mask = Decoder(setup.vae), latent["samples"], latent.get("noise_mask")
    decoder.check_latent(samples)
    noise = _noise(samples, setup.seeds)
    if torch.count_nonzero(samples):
        samples = latent_format.process_in(samples)
    if mask is not None:
        mask = comfy.sampler_helpers.prepare_mask(mask, samples.shape, decoder.patcher.load_device)
    z = optimise(setup, None, noise, samples, latent_format, mask, [], on_step)
    return latent_format.process_out(z)
