"""P2L as a ComfyUI sampler: prompt, latent scale and clean-up come from the guider."""

from collections.abc import Callable
from dataclasses import dataclass

import comfy.samplers
import comfy.utils
import torch
from comfy.samplers import CFGGuider
from comfy.sd import VAE

from ...referee_core.measurements import Measurement
from ...referee_core.methods.p2l import RESIDUAL, P2LSettings, Prompts, Restoration, p2l
from ...referee_core.randomness import generators
from ...referee_core.record import Step
from ...referee_core.sampling import Predict
from ..bridge.gradients.block import Passage, differentiable
from ..bridge.gradients.memory import memory_for
from ..bridge.gradients.model import DifferentiableModel
from ..bridge.gradients.vae import Autoencoder
from ..bridge.sampling.conditioning import Conditioned, conditioning_of, copied
from ..bridge.sampling.denoiser import GuidedDenoiser, noise_level
from ..bridge.sampling.drive import drive
from ..bridge.sampling.latents import check_family
from ..bridge.show.panel import Progress
from ..sockets import LoadedMeasurement

PURPOSES = ("fresh noise",)
SMALLER = "Use a smaller picture, or a preset without a gradient through the model."


@dataclass(frozen=True)
class Setup:
    """What is restored, and how.

    Attributes:
        measured: [B, h, w, C]. begin_progress: steps of the sampler -> what shows the run.
    """

    measurement: LoadedMeasurement
    measured: torch.Tensor
    vae: VAE
    settings: P2LSettings
    begin_progress: Callable[[int], Progress]

    def y(self) -> torch.Tensor:
        return self.measured[..., :3].movedim(-1, 1).float()

    def size(self) -> tuple[int, int]:
        """Of the whole picture, in pixels. Raises ValueError where the VAE cannot make it."""
        height, width = (side * self.measurement.factor for side in self.measured.shape[1:3])
        unit = self.vae.spacial_compression_decode()
        if height % unit or width % unit:
            step = unit // self.measurement.factor or 1
            fit = " x ".join(str(side - side % step) for side in (self.measured.shape[2], self.measured.shape[1]))
            raise ValueError(
                f"The input 'measured' stands for a picture of {width} x {height}, and the VAE makes multiples of "
                f"{unit}: crop 'measured' to {fit}."
            )
        return height, width

    def operator(self) -> Measurement:
        return self.measurement.make(*self.size())

    def first_latent(self) -> dict:
        """A LATENT of the picture that can be made without a model: where a sampler with denoise below 1 begins."""
        guess = self.operator().first_guess(self.y())
        return {"samples": self.vae.encode(guess.clamp(0, 1).movedim(1, -1))}


class InverseSampler(comfy.samplers.Sampler):
    """Restores under a guider, with its steps and from its latent."""

    def __init__(self, setup: Setup):
        self.setup = setup

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        setup, model, settings = self.setup, model_wrap.inner_model, self.setup.settings
        self._check(model_wrap, sigmas, noise, denoise_mask)
        vae = Autoencoder(setup.vae)
        vae.check_latent(noise)
        passages: list[Passage] = [vae]
        also_load = list(model_wrap.loaded_models)
        if settings.prompt_steps or settings.through_model:
            through = DifferentiableModel(model_wrap.model_patcher)
            passages.append(through)
        else:
            also_load.append(model_wrap.model_patcher)
        with (
            memory_for("restoring", SMALLER),
            differentiable(*passages, also_load=also_load, shape=noise.shape),
            setup.begin_progress(len(sigmas) - 1) as progress,
        ):
            levels = [noise_level(model.model_sampling, sigma.float().view(1)) for sigma in sigmas[:-1].clone()]
            x = model.model_sampling.noise_scaling(
                sigmas[0].clone(), noise.clone(), latent_image.clone(), self.max_denoise(model_wrap, sigmas)
            )
            if settings.prompt_steps or settings.through_model:
                prompts, condition = self._tunable(model_wrap, through.options(extra_args["model_options"]), noise)
            else:
                prompts, denoiser = [], GuidedDenoiser(model_wrap, extra_args)

                def condition(prompts: Prompts) -> Predict:
                    return denoiser

            y = comfy.utils.repeat_to_batch_size(setup.y(), len(noise)).to(noise, copy=True)
            task = Restoration(
                setup.operator(),
                y,
                condition,
                lambda z: vae(model.process_latent_out(z)),
                lambda picture: model.process_latent_in(vae.encode(picture)),
                levels,
            )
            seed = extra_args.get("seed") or 0
            streams = generators([(seed + i) % 2**64 for i in range(len(noise))], PURPOSES)["fresh noise"]

            def on_step(step: Step) -> None:
                if callback is not None:
                    callback(step.index, step.z, step.z, step.steps)
                progress.update(step)

            last = drive(p2l(task, x.float(), prompts, settings, streams), on_step)
            progress.show(f"{progress.closing()} · {describe(last)}")
        return last.z

    def _check(self, guider: CFGGuider, sigmas: torch.Tensor, noise: torch.Tensor, mask: torch.Tensor | None) -> None:
        if len(sigmas) < 2 or sigmas[-1] > 0:
            raise ValueError("The input 'sigmas' must end at 0 and hold a step: connect a scheduler, not a part of it.")
        if mask is not None:
            raise ValueError(
                "The input 'latent_image' has a mask, which Inverse Sampler does not read: remove it, and give the "
                "mask to Measurement (inpainting)."
            )
        check_family(guider.inner_model.latent_format, self.setup.vae)
        unit = self.setup.vae.spacial_compression_decode()
        here, wanted = tuple(side * unit for side in noise.shape[-2:]), self.setup.size()
        if here != wanted:
            raise ValueError(
                f"The input 'latent_image' is for a picture of {here[1]} x {here[0]}, and 'measured' stands for one of "
                f"{wanted[1]} x {wanted[0]}: connect the output 'latent' of Inverse Sampler."
            )
        if len(self.setup.measured) not in (1, len(noise)):
            raise ValueError(
                f"The input 'latent_image' holds {len(noise)} images and 'measured' {len(self.setup.measured)}: "
                "connect the output 'latent' of Inverse Sampler."
            )
        self.setup.measurement.check_count(len(noise))

    def _tunable(
        self, guider: CFGGuider, options: dict, noise: torch.Tensor
    ) -> tuple[Prompts, Callable[[Prompts], Predict]]:
        """The prompts of each image, and the model under changed ones."""
        positive = conditioning_of(guider, "positive")
        if not positive or any(prompt is None for prompt, _ in positive):
            raise ValueError(
                "The guider holds no encoded prompt to begin with: use CFGGuider or BasicGuider, with CLIP Text Encode "
                "of an empty text."
            )
        prompts = [comfy.utils.repeat_to_batch_size(prompt, len(noise)).to(noise, copy=True) for prompt, _ in positive]
        conditioned = Conditioned(guider, options, noise.clone(), copied(conditioning_of(guider, "negative")))

        def condition(changed: Prompts) -> Predict:
            return conditioned([[prompt, about] for prompt, (_, about) in zip(changed, positive, strict=True)])

        return prompts, condition


def describe(step: Step) -> str:
    """As "residual 0.0052 (noise 0.0050)", the mean of the batch."""
    residual, noise = (float(step.scalars[RESIDUAL][name].mean()) for name in ("residual", "noise"))
    return f"residual {residual:.4f} (noise {noise:.4f})"
