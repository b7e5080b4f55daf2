"""Referee Can Play as a ComfyUI sampler: conditioning, latent scale, masks and clean-up come from the guider."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import comfy.samplers
import torch
from comfy.latent_formats import LatentFormat
from comfy.sd import VAE

from ...referee_core.augment import NONE, Augmentation
from ...referee_core.averaging import EMARestart
from ...referee_core.interfaces import Denoiser, Prior
from ...referee_core.methods.referee_can_play import PAPER, LoopSettings, referee_can_play
from ...referee_core.record import State, Step
from ..bridge.gradients.block import differentiable
from ..bridge.gradients.memory import memory_for
from ..bridge.gradients.vae import Decoder
from ..bridge.sampling.denoiser import GuidedDenoiser
from ..bridge.sampling.drive import OnStep, drive
from ..bridge.sampling.latents import check_family
from ..sockets import LoadedLoss


def log(note: str) -> None:
    logging.warning("[Referee] %s", note)


@dataclass(frozen=True)
class Setup:
    """All that a run needs besides the latent and the seed.

    Attributes:
        seeds: one an image; none: the guider's. note: takes what the user should know.
    """

    vae: VAE
    loss: LoadedLoss | None = None
    make_prior: Callable[[Denoiser], Prior] | None = None
    augmentation: Augmentation | None = None
    averaging: EMARestart | None = None
    settings: LoopSettings = PAPER
    seeds: tuple[int, ...] = ()
    resume: State | None = None
    note: Callable[[str], None] = log


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
        seed = extra_args.get("seed") or 0
        seeds = self.setup.seeds or tuple((seed + i) % 2**64 for i in range(len(noise)))
        setup = replace(self.setup, settings=settings, seeds=seeds)
        denoiser = GuidedDenoiser(model_wrap, extra_args, denoise_mask)

        def on_step(step: Step) -> bool | None:
            if callback is not None:
                callback(step.index, step.z, step.z, step.steps)
            return self.on_step(step) if self.on_step is not None else None

        also_load = [model_wrap.model_patcher, *model_wrap.loaded_models]
        return optimise(setup, denoiser, noise, latent_image, latent_format, denoise_mask, also_load, on_step)


def optimise(
    setup: Setup,
    denoiser: Denoiser | None,
    noise: torch.Tensor,
    latent: torch.Tensor | None,
    latent_format: LatentFormat,
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
        setup.note(f"no restart: EMA-Restart begins at step {setup.averaging.start} of {setup.settings.steps}")
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
            start.to(device, torch.float32, copy=True),
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
        return drive(run, on_step).z
