"""Gradient Guidance as a patch of a MODEL: whatever sampler asks it, the prediction it gets has been moved towards what
the referee wants to see."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar
from uuid import uuid4

import comfy.model_management
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from comfy.samplers import CFGGuider
from comfy.sd import VAE

from ...referee_core.augment import PAPER, Augmentation
from ...referee_core.losses import MicroBatch
from ...referee_core.methods.gradient_guidance import GuidanceSettings, Guided, Judged, Objective, guided
from ...referee_core.optimisation import checked_norm
from ...referee_core.randomness import generators
from ...referee_core.record import LOSS, NORM, Step
from ..bridge.gradients.block import Kept, Passage, differentiable
from ..bridge.gradients.memory import memory_for
from ..bridge.gradients.model import DifferentiableModel
from ..bridge.gradients.vae import Decoder
from ..bridge.sampling.denoiser import noise_level
from ..bridge.sampling.latents import check_family
from ..bridge.show.panel import Progress
from ..sockets import LoadedLoss

VIEWS = replace(PAPER, count=2, rotation=15.0, perspective=0.2, colour=0.05, erasing=0.1)
"""Views for guiding: gentle enough that a blurred prediction is still read."""
PURPOSES = ("guidance",)
NEXT_TO_NOTHING = 1e-3  # in place of alpha = 0, where a flow model's picture is pure noise


@dataclass
class Run:
    """One run of a sampler.

    Attributes:
        seed: of the first image. sigmas: the sampler's levels.
        latent: in the model's scale, what stays where the mask is 0.
        loaded: what ComfyUI has loaded for the run.
        calls: guided ones so far. at_once: views at a time, 0: to be chosen. streams: of each image, once known.
        kept: what the steps share (see block.py).
    """

    seed: int
    sigmas: torch.Tensor
    latent: torch.Tensor | None
    mask: torch.Tensor | None
    loaded: Sequence[ModelPatcher]
    progress: Progress
    calls: int = 0
    at_once: int = 0
    streams: list[torch.Generator] = field(default_factory=list)
    kept: Kept = field(default_factory=dict)

    def streams_of(self, x: torch.Tensor) -> list[torch.Generator]:
        """Each image's own randomness: image i goes the way it would go alone with the seed ``seed + i``."""
        if len(self.streams) != len(x):
            self.streams = streams_of(self.seed, len(x))
        return self.streams

    def own(self, patcher: ModelPatcher) -> ModelPatcher:
        """The patcher under which a model was loaded: ComfyUI gives a MODEL's companions in clones."""
        return next((other for other in self.loaded if other.model is patcher.model), patcher)


@dataclass
class Guidance:
    """What one Referee Guidance does to a MODEL.

    Attributes:
        start, end: shares of the sampling between which predictions are guided.
        begin_progress: steps of the sampler -> what shows the run.
    """

    referee_rows_alone: ClassVar[bool] = True  # see batches.py
    referee_keeps_state: ClassVar[bool] = True  # see stateful.py

    vae: VAE
    loss: LoadedLoss
    augmentation: Augmentation
    settings: GuidanceSettings
    start: float
    end: float
    begin_progress: Callable[[int], Progress]
    run: Run | None = None

    def attach(self, model: ModelPatcher) -> ModelPatcher:
        """The patched MODEL; VAE and referee ride along."""
        check_family(model.get_model_object("latent_format"), self.vae, "model")
        Decoder(self.vae)
        if self.settings.gradient == "look-ahead":
            DifferentiableModel(model)
        patched, key = model.clone(), f"referee guidance {uuid4().hex}"
        patched.set_additional_models(key, [self.vae.patcher, *self.loss.patchers])
        patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, key, self.around)
        patched.set_model_sampler_post_cfg_function(self.after_cfg)
        return patched

    def around(
        self,
        executor: WrapperExecutor,
        guider: CFGGuider,
        sigmas: torch.Tensor,
        extra_args: dict,
        callback: Callable | None,
        noise: torch.Tensor,
        latent_image: torch.Tensor | None = None,
        denoise_mask: torch.Tensor | None = None,
        *rest: Any,
    ) -> torch.Tensor:
        """ComfyUI's call of the sampler: the beginning and the end of a run."""
        before, loaded = self.run, [guider.model_patcher, *guider.loaded_models]
        with self.begin_progress(len(sigmas) - 1) as progress:
            self.run = Run(extra_args.get("seed") or 0, sigmas.cpu(), latent_image, denoise_mask, loaded, progress)
            try:
                made = executor(guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask, *rest)
                progress.show(f"guided {self.run.calls} times, {progress.closing()}")
                return made
            finally:
                self.run = before

    def after_cfg(self, args: dict) -> torch.Tensor:
        """ComfyUI's hook: what the model predicts, moved."""
        z = args["denoised"]
        if self.run is None:
            raise RuntimeError(
                "Referee Guidance works inside ComfyUI's samplers, and here something else asks the model. Connect the "
                "unguided MODEL to that node."
            )
        if not lies_within(args, self.start, self.end):
            return z
        with memory_for("guiding a step", "Use a smaller picture or batch, or fewer views."):
            moved = self._move(args, self.run)
        comfy.model_management.throw_exception_if_processing_interrupted()
        return z + (moved - z).detach()

    def _move(self, args: dict, run: Run) -> torch.Tensor:
        model, options = args["model"], options_before(args["model_options"], self)
        decoder = Decoder(self.vae)
        decoder.check_latent(args["input"])
        decoder.patcher = run.own(decoder.patcher)
        loss = replace(self.loss, patchers=tuple(map(run.own, self.loss.patchers)))
        network, *others = run.loaded
        passages: list[Passage] = [decoder]
        if self.settings.gradient == "look-ahead":
            through = DifferentiableModel(network)
            passages.append(through)
            options = through.options(options)
        else:
            others.append(network)
        with differentiable(
            *passages,
            loss=loss,
            also_load=[other for other in others if other not in (decoder.patcher, *loss.patchers)],
            shape=args["input"].shape,
            views=self.augmentation.count * len(args["input"]),
            asked=run.at_once,
            kept=run.kept,
        ) as block:

            def decode(latent: torch.Tensor) -> torch.Tensor:
                if run.mask is not None and run.latent is not None:
                    latent = torch.lerp(run.latent.to(latent), latent, run.mask.to(latent))
                return decoder(model.process_latent_out(latent))

            streams = run.streams_of(args["input"])
            judged = Judged(loss.loss, decode, self.augmentation, streams, MicroBatch(block.at_once))
            found = guide(args, judged, self.settings, run.mask, options)
        run.at_once = judged.micro_batch.size
        self._take_down(run, float(args["sigma"][0]), judged, found)
        return found.z

    def _take_down(self, run: Run, level: float, judged: Judged, found: Guided) -> None:
        """For the chart, the status line and the preview."""
        place = max(0, int((run.sigmas >= level).sum()) - 1)
        step = Step(place, len(run.sigmas) - 1, found.z, lambda: judged.picture, match=judged.match)
        step.scalars[LOSS] = {"loss": found.loss, **judged.terms}
        norms = checked_norm(found.gradient, "the referee", place, must_move=run.calls == 0)
        step.add(NORM, "referee", norms)
        run.calls += 1
        run.progress.update(step)


def streams_of(seed: int, count: int) -> list[torch.Generator]:
    """Of the images of a batch, each as alone with its own seed."""
    return generators([(seed + i) % 2**64 for i in range(count)], PURPOSES)["guidance"]


def lies_within(args: dict, start: float, end: float) -> bool:
    """Whether a call of ComfyUI's hook lies between these shares of the sampling."""
    sampling = args["model"].model_sampling
    first, last = (float(sampling.percent_to_sigma(share)) for share in (start, end))
    return last < float(args["sigma"][0]) <= first


def guide(
    args: dict, objective: Objective, settings: GuidanceSettings, mask: torch.Tensor | None, options: dict
) -> Guided:
    """The prediction that ComfyUI's hook is given, moved. options: the model's, without this guidance."""
    model = args["model"]
    z, x, level = (args[name].clone() for name in ("denoised", "input", "sigma"))
    alpha, sigma, _ = noise_level(model.model_sampling, level)
    alpha = alpha.clamp_min(NEXT_TO_NOTHING)
    wide = alpha.view(-1, *[1] * (x.ndim - 1)).to(x)

    def predict(x: torch.Tensor) -> torch.Tensor:
        conds, scale = (args["uncond"], args["cond"]), args["cond_scale"]
        return comfy.samplers.sampling_function(model, x * wide, level, *conds, scale, options)

    return guided(z, x / wide, sigma / alpha, objective, settings, predict, mask)


def options_before(options: dict, guidance: object) -> dict:
    """The model's options as they were before this guidance: what was patched earlier stays."""
    hooks = options["sampler_post_cfg_function"]
    earlier = hooks[: next(i for i, hook in enumerate(hooks) if getattr(hook, "__self__", None) is guidance)]
    return {**options, "sampler_post_cfg_function": earlier}
