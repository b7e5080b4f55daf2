"""Algorithm 1 of Gradient Guidance as a SAMPLER that runs another one round after round, under any guider."""

from collections.abc import Callable
from dataclasses import dataclass

import comfy.model_management
import comfy.model_patcher
import comfy.samplers
import torch
from comfy.samplers import CFGGuider, Sampler
from comfy.sd import VAE

from ...referee_core.augment import Augmentation
from ...referee_core.losses import MicroBatch
from ...referee_core.methods.gradient_guidance import GuidanceSettings, Judged
from ...referee_core.methods.iterated_linearisation import Linearised, rounds
from ...referee_core.record import LOSS, Step
from ..bridge.gradients.block import Kept, differentiable
from ..bridge.gradients.memory import memory_for
from ..bridge.gradients.model import DifferentiableModel
from ..bridge.gradients.vae import Decoder
from ..bridge.sampling.latents import check_family
from ..bridge.show.panel import Progress
from ..sockets import LoadedLoss
from .guidance import guide, lies_within, options_before, streams_of

Learn = Callable[[torch.Tensor, CFGGuider, dict], None]


@dataclass(frozen=True)
class Rounds(comfy.samplers.Sampler):
    """Samples from the same noise again and again; each round is guided by the referee's gradient at the last one's
    picture, and each image's best picture comes out.

    Attributes:
        sampler: runs the rounds. count: guided ones. delta: by how much each is to lower the loss.
        stop_at: no further round once every picture matches with this probability; 0: never.
        start, end: shares of the sampling between which predictions are guided.
        begin_progress: rounds in all -> what shows them.
        learn: called between rounds with (latents in the model's scale, the guider, its arguments).
    """

    sampler: Sampler
    vae: VAE
    loss: LoadedLoss
    augmentation: Augmentation
    settings: GuidanceSettings
    count: int
    delta: float
    stop_at: float
    start: float
    end: float
    begin_progress: Callable[[int], Progress]
    learn: Learn | None = None

    def max_denoise(self, model_wrap: CFGGuider, sigmas: torch.Tensor) -> bool:
        return self.sampler.max_denoise(model_wrap, sigmas)

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        check_family(model_wrap.inner_model.latent_format, self.vae, "model")
        run = _Run(self, model_wrap, extra_args, noise.shape, denoise_mask)
        progress, steps, index = self.begin_progress(self.count + 1), len(sigmas) - 1, 0

        def on_step(step: int, x0: torch.Tensor, x: torch.Tensor, total: int) -> None:
            callback(index * steps + step, x0, x, (self.count + 1) * steps)

        def sample(surrogate: Linearised | None) -> torch.Tensor:
            given = extra_args | {"model_options": run.options(surrogate)}
            shown = on_step if callback is not None else None
            return self.sampler.sample(
                model_wrap, sigmas, given, shown, noise.clone(), latent_image, denoise_mask, disable_pbar
            )

        with progress:
            for made in rounds(sample, run.ask, self.count, self.delta):
                index = made.index + 1
                step = Step(made.index, self.count + 1, made.z, lambda: run.judged.picture, match=run.judged.match)
                step.scalars[LOSS] = {"loss": made.loss, **run.judged.terms}
                progress.update(step)
                if index > self.count or (self.stop_at and bool((run.judged.match >= self.stop_at).all())):
                    break
                if self.learn is not None:
                    self.learn(made.z, model_wrap, extra_args)
                run.load_model()
            progress.show(f"{index} rounds, {progress.closing()}")
        return made.best_z


class _Run:
    """One run of the rounds under a guider."""

    def __init__(
        self, setup: Rounds, guider: CFGGuider, extra_args: dict, shape: torch.Size, mask: torch.Tensor | None
    ):
        self.setup, self.guider, self.extra_args, self.shape, self.mask = setup, guider, extra_args, shape, mask
        self.decoder = Decoder(setup.vae)
        self.decoder.check_latent(torch.empty(shape, device="meta"))
        self.streams = streams_of(extra_args.get("seed") or 0, shape[0])
        self.passages: list[DifferentiableModel] = []
        self.kept: Kept = {}
        if setup.settings.gradient == "look-ahead":
            self.passages = [DifferentiableModel(guider.model_patcher)]

    def ask(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The Objective: the referee's loss of the pictures and its gradient; the one time a round that it is on the
        card."""
        setup, model = self.setup, self.guider.inner_model
        views = setup.augmentation.count * self.shape[0]
        with (
            memory_for("judging a round", "Use a smaller picture or batch, or fewer views."),
            differentiable(self.decoder, loss=setup.loss, shape=self.shape, views=views) as block,
        ):

            def decode(z: torch.Tensor) -> torch.Tensor:
                return self.decoder(model.process_latent_out(z))

            self.judged = Judged(setup.loss.loss, decode, setup.augmentation, self.streams, MicroBatch(block.at_once))
            judged = self.judged(z.clone())
        comfy.model_management.throw_exception_if_processing_interrupted()
        return judged

    def load_model(self) -> None:
        """Whatever the referee has pushed off the card."""
        patcher = self.guider.model_patcher
        needed = patcher.memory_required([2 * self.shape[0], *self.shape[1:]])
        comfy.model_management.load_models_gpu([patcher, *self.guider.loaded_models], memory_required=needed)

    def options(self, surrogate: Linearised | None) -> dict:
        """The model's options for a round: ComfyUI's hook moves the predictions."""
        options = self.extra_args["model_options"]
        if surrogate is None:
            return options
        hook = _Hook(self, surrogate).after_cfg
        return comfy.model_patcher.set_model_options_post_cfg_function(dict(options), hook)


@dataclass(frozen=True)
class _Hook:
    run: _Run
    surrogate: Linearised

    def after_cfg(self, args: dict) -> torch.Tensor:
        setup, z = self.run.setup, args["denoised"]
        if not lies_within(args, setup.start, setup.end):
            return z
        options = options_before(args["model_options"], self)
        if not self.run.passages:
            return guide(args, self.surrogate, setup.settings, self.run.mask, options).z
        with (
            memory_for("the diffusion model's backward pass", "Use a smaller picture or batch."),
            differentiable(
                *self.run.passages, also_load=self.run.guider.loaded_models, shape=z.shape, kept=self.run.kept
            ),
        ):
            options = self.run.passages[0].options(options)
            moved = guide(args, self.surrogate, setup.settings, self.run.mask, options).z
        return z + (moved - z).detach()
