"""Referee Can Play as a ComfyUI sampler: conditioning, latent scale, masks and clean-up come from the guider."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.sampler_helpers
import comfy.samplers
import torch

from ...referee_core.augment import NONE, Augmentation
from ...referee_core.averaging import EMARestart
from ...referee_core.methods.referee_can_play import PAPER, Settings, referee_can_play
from ...referee_core.priors.sds import SDS
from ...referee_core.record import History, State, Step
from ...referee_core.schedules import Schedule
from ..sockets import LoadedLoss, Prior
from .differentiable import as_comfyui_does, differentiable
from .latents import check_family, choose_latent_format
from .memory import memory_for
from .vae import Decoder


class GuidedDenoiser:
    """A guider as the core's Denoiser: any MODEL with its conditioning, LoRA and ControlNet, run in inference mode."""

    def __init__(self, guider: Any, extra_args: dict):
        self.guider, self.extra_args = guider, extra_args
        self.sampling = guider.inner_model.model_sampling

    def noise_levels(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # ComfyUI reads the two ends as no noise and infinite noise
        percent = (1 - t.double() / 999).clamp(0.001, 0.999)
        sigma = torch.tensor([float(self.sampling.percent_to_sigma(float(p))) for p in percent])
        one, zero = torch.ones_like(sigma), torch.zeros_like(sigma)
        return self.sampling.noise_scaling(sigma, zero, one), self.sampling.noise_scaling(sigma, one, zero)

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        with as_comfyui_does(), memory_for("the diffusion model of 'model'"):
            denoised = self.guider(x, sigma, **self.extra_args)
        return denoised.clone()


@dataclass(frozen=True)
class Game:
    """All that a run needs besides the latent and the seed."""

    vae: Any
    loss: LoadedLoss | None = None
    sds_weight: Schedule = Schedule(800.0, 400.0)
    t_min: int = 50
    t_max: int = 949
    augmentation: Augmentation | None = None
    averaging: EMARestart | None = None
    settings: Settings = PAPER
    seeds: tuple[int, ...] | None = None  # one an image, instead of the guider's
    resume: State | None = None


class RefereeCanPlay(comfy.samplers.Sampler):
    """Algorithm 1 under a guider. The number of sigmas sets the number of steps; their values are not used, because
    score distillation draws its own noise levels."""

    def __init__(self, game: Game, on_step: Callable[[Step, Callable], None] | None = None):
        self.game, self.on_step = game, on_step

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        decoder = Decoder(self.game.vae)
        check_family(model_wrap.inner_model.latent_format, self.game.vae)
        decoder.check_latent(noise)
        game = replace(self.game, settings=replace(self.game.settings, steps=len(sigmas) - 1))
        prior = SDS(GuidedDenoiser(model_wrap, extra_args), game.sds_weight, game.t_min, game.t_max)
        report = None
        if callback is not None:
            report = lambda step: callback(step.index, step.z, step.z, step.steps)  # noqa: E731
        return play(
            game, decoder, prior, noise, latent_image, model_wrap.inner_model.latent_format, denoise_mask,
            seed=game.seeds or extra_args.get("seed") or 0, also_load=[model_wrap.model_patcher, *model_wrap.loaded_models],
            report=report, on_step=self.on_step,
        )  # fmt: skip


def play(
    game: Game,
    decoder: Decoder,
    prior: SDS | None,
    noise: torch.Tensor,
    latent: torch.Tensor | None,
    latent_format: Any,
    mask: torch.Tensor | None,
    seed: int | tuple[int, ...],
    also_load: list,
    report: Callable[[Step], None] | None,
    on_step: Callable[[Step, Callable], None] | None,
) -> torch.Tensor:
    """Run the loop on loaded models and return the last latent, in the model's scale.

    Args:
        noise, latent: [B, C, h, w] in the model's scale. An all-zero latent starts from the noise, as published; any
            other latent is where the run starts.
    """
    loss = game.loss.loss if game.loss else None
    device = game.loss.patchers[-1].load_device if game.loss else noise.device
    empty = latent is None or torch.count_nonzero(latent) == 0
    augmentation = game.augmentation or NONE
    with differentiable(
        decoder, loss=game.loss, also_load=also_load, shape=noise.shape,
        views=augmentation.count * len(noise), asked=game.settings.micro_batch,
    ) as block:  # fmt: skip
        z = (noise if empty else latent).to(device, torch.float32).clone()

        def decode(z: torch.Tensor) -> torch.Tensor:
            with memory_for("the VAE"):
                return decoder(latent_format.process_out(z))

        run = referee_can_play(
            z,
            decode,
            loss,
            prior,
            augmentation,
            game.averaging,
            replace(game.settings, micro_batch=block.at_once),
            seed,
            mask.to(device, copy=True) if mask is not None else None,
            game.resume,
        )
        with closing(run), memory_for("the referee or the backward pass through the VAE"):
            for step in run:
                z = step.z
                if report is not None:
                    report(step)
                if on_step is not None:
                    on_step(step, decode)
                comfy.model_management.throw_exception_if_processing_interrupted()
        return z


def run(
    game: Game,
    prior: Prior | None,
    latent: dict,
    seed: int,
    on_step: Callable[[Step, Callable], None],
    best: bool,
    history: History,
) -> tuple[dict, torch.Tensor]:
    """Run to the end and decode: (LATENT, IMAGE). ``best`` returns the step with the lowest referee loss.

    Image i of a batch goes the way it would go alone with the seed ``seed + i``.
    """
    numbers = latent.get("batch_index") or range(len(latent["samples"]))
    game = replace(game, seeds=tuple((seed + i) % 2**64 for i in numbers))
    if prior is not None:
        latent_format, _ = choose_latent_format(game.vae, prior.model, "prior")
        samples = _run_with_prior(game, prior, latent, on_step)
    else:
        latent_format, _ = choose_latent_format(game.vae)
        samples = _run_without_prior(game, latent, latent_format, on_step)
    if best and history.best_loss.isfinite().all():
        samples = latent_format.process_out(history.best_z)
    samples = _restore_outside(samples.to(comfy.model_management.intermediate_device()), latent)
    image = game.vae.decode(samples)
    image = image.reshape(-1, *image.shape[-3:])  # of a video VAE [B, 1, H, W, C]
    with torch.inference_mode(False):  # the state may be resumed, in which Adam writes to it
        history.finish(image.movedim(-1, 1))
    out = {k: v for k, v in latent.items() if not k.startswith("downscale_ratio")}
    return out | {"samples": samples}, image


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


def _run_with_prior(game: Game, prior: Prior, latent: dict, on_step) -> torch.Tensor:
    """The sampler under a CFGGuider of the prior's model, exactly as SamplerCustomAdvanced would drive it."""
    sampler = RefereeCanPlay(replace(game, sds_weight=prior.weight, t_min=prior.t_min, t_max=prior.t_max), on_step)
    guider = comfy.samplers.CFGGuider(prior.model)
    guider.set_conds(prior.positive, prior.negative)
    guider.set_cfg(prior.cfg)
    samples = comfy.sample.fix_empty_latent_channels(
        prior.model, latent["samples"], latent.get("downscale_ratio_spacial")
    )
    Decoder(game.vae).check_latent(samples)
    noise = _noise(samples, game.seeds)
    sigmas = torch.linspace(1, 0, game.settings.steps + 1)
    return guider.sample(noise, samples, sampler, sigmas, denoise_mask=latent.get("noise_mask"), seed=game.seeds[0])


def _run_without_prior(game: Game, latent: dict, latent_format: Any, on_step) -> torch.Tensor:
    """The loop with no diffusion model at all: only the VAE and the referee are loaded."""
    decoder, samples, mask = Decoder(game.vae), latent["samples"], latent.get("noise_mask")
    decoder.check_latent(samples)
    noise = _noise(samples, game.seeds)
    if torch.count_nonzero(samples):
        samples = latent_format.process_in(samples)
    if mask is not None:
        mask = comfy.sampler_helpers.prepare_mask(mask, samples.shape, decoder.patcher.load_device).float()
    z = play(game, decoder, None, noise, samples, latent_format, mask, game.seeds, [], None, on_step)
    return latent_format.process_out(z)
