"""Search under ComfyUI: a guider and a sampler make the attempts, the VAE decodes them, the referee judges them."""

import logging
from collections.abc import Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import comfy.model_management
import comfy.sample
import comfy.sampler_helpers
import comfy.utils
import torch
from comfy.samplers import CFGGuider, Sampler
from comfy.sd import VAE

from ...referee_core.methods.search import Attempt, GoesOn
from ...referee_core.out_of_memory import OUT_OF_MEMORY
from ...referee_core.variation import UNTIL
from ..bridge.gradients.block import as_comfyui_does
from ..bridge.gradients.memory import memory_for
from ..bridge.gradients.vae import Decoder, decode_pictures
from ..bridge.inputs import check_finite
from ..bridge.judging.judge import Picture
from ..bridge.judging.scores import format_numbers, number_texts
from ..bridge.sampling.batches import most_at_once, noise_of_each, rows_go_alone, step_of, telling_levels
from ..bridge.sampling.latents import check_family, rows_that_fit, samples_for
from ..bridge.sampling.variation import can_vary, varied
from .search_panel import SearchProgress, name_seed


class GivenUp(Exception):
    """Ends a sampler from its callback."""


@dataclass
class Attempts:
    """The core's Sample: a guider and a sampler from seed after seed, as SamplerCustomAdvanced would drive them.

    Attributes:
        latent: LATENT of one image. at_once: seeds in a batch; 0: as many as fit, but with ``stops`` no more than were
            tried before, so that at most half of the work can turn out to be in vain.
        looks_after: steps after which the predicted picture is judged; 0: never.
        variation: of the prompt, from each attempt's own seed (see the core's variation.py).
        notes: for the user, once the search has ended.
        steps: how many each attempt took, in the order tried; fewer than planned where a sampler ended early.
    """

    guider: CFGGuider
    sampler: Sampler
    sigmas: torch.Tensor
    latent: dict
    vae: VAE
    at_once: int
    stops: bool
    looks_after: int
    progress: SearchProgress
    variation: float = 0.0
    notes: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    def __post_init__(self):
        samples = self.latent["samples"]
        if len(self.sigmas) < 2:
            raise ValueError("The input 'sigmas' holds no step. It needs one value more than there are steps.")
        if getattr(samples, "is_nested", False):
            raise ValueError("The input 'latent_image' holds more than a picture (video with sound): connect an image.")
        if len(samples) != 1:
            raise ValueError(
                f"The input 'latent_image' holds {len(samples)} images, and the search is for one: set the batch size "
                "to 1 and choose the number of seeds with 'attempts', or pick an image with Latent From Batch."
            )
        check_finite("latent_image", samples)
        self.latent, misfit = rows_that_fit(self.latent)
        if misfit:
            self._note(misfit)
        patcher = self.guider.model_patcher
        check_family(patcher.get_model_object("latent_format"), self.vae, "guider")
        self.samples = samples_for(patcher, self.latent)
        Decoder(self.vae).check_latent(self.samples)
        self.mask = self.latent.get("noise_mask")
        self.apart = rows_go_alone(self.sampler, self.guider, self.mask is not None) and not self.variation
        if self.variation and not can_vary(self.guider):
            raise ValueError(
                "The input 'variation' changes the positive prompt, and this 'guider' has none: set it to 0, or "
                "connect CFGGuider or BasicGuider."
            )
        self.most = None  # after memory ran out
        if self.at_once > 1 and self.looks_after:
            self._note("one at a time: with prune_at each can be given up on its own")
        elif self.at_once > 1 and self.variation:
            self._note("one at a time: with variation each reads a prompt of its own")
        elif self.at_once > 1 and not self.apart:
            self._note(
                "one at a time: with this sampler, conditioning or patches of the model a batch could change "
                "each attempt"
            )

    def __call__(self, seeds: Sequence[int], goes_on: GoesOn | None) -> Generator[Picture | None, None, None]:
        done = 0
        while done < len(seeds):
            group = seeds[done : done + self._size(done, len(seeds) - done)]
            try:
                with memory_for("sampling", "Use a smaller picture, or lower at_once."):
                    samples: Sequence[torch.Tensor | None] = self._sample(group, goes_on)
            except OUT_OF_MEMORY:
                if len(group) == 1:
                    raise
                self.most = len(group) // 2
                self._note(f"memory ran out, {self.most} at a time")
                continue
            except GivenUp:
                samples = [None] * len(group)
            done += len(group)
            self.progress.sampled(done)
            for row in samples:
                yield None if row is None else self._picture(row)

    def latent_of(self, pictures: Sequence[Picture]) -> dict:
        """A LATENT of these pictures, with all that came in beside the samples."""
        kept = {k: v for k, v in self.latent.items() if not k.startswith("downscale_ratio") and k != "batch_index"}
        return kept | {"samples": torch.cat([picture.latent for picture in pictures])}

    def _size(self, done: int, left: int) -> int:
        if not self.apart or self.looks_after:
            return 1
        fits = self.at_once or most_at_once(self.guider.model_patcher, self.samples.shape)
        if not self.at_once and self.stops:
            fits = min(fits, max(1, done))
        return min(fits, left, self.most or left)

    def _sample(self, group: Sequence[int], goes_on: GoesOn | None) -> Sequence[torch.Tensor]:
        count, guider, steps, made, level = len(group), self.guider, len(self.sigmas) - 1, 0, None
        noise = torch.cat([comfy.sample.prepare_noise(self.samples, s, self.latent.get("batch_index")) for s in group])

        def heard(sigma: torch.Tensor | None) -> None:
            nonlocal level
            level = sigma

        def callback(step: int, x0: torch.Tensor, x: torch.Tensor, total: int) -> None:
            nonlocal made, goes_on
            # by the noise level, where it is known: some samplers report fewer steps than there are levels
            share = (step + 1) / total if level is None else step_of(self.sigmas, level) / steps
            made = step + 1 if level is None else round(share * steps)
            self.progress.step(count, min(1.0, share))
            if self.progress.finish_asked and self.progress.best is not None:
                raise GivenUp
            if goes_on and share >= self.looks_after / steps:
                ask, goes_on = goes_on, None
                if not self._goes_on(ask, x0):
                    raise GivenUp

        try:
            each = noise_of_each(group) if count > 1 else nullcontext()
            with each, varied(guider, group[0], self.variation, UNTIL) if self.variation else nullcontext():
                samples = guider.sample(
                    noise,
                    self.samples.repeat(count, *[1] * (self.samples.ndim - 1)),
                    telling_levels(self.sampler, heard),
                    self.sigmas,
                    denoise_mask=self.mask,
                    callback=callback,
                    seed=group[0],
                    disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
                )
        except GivenUp:  # as ComfyUI's guiders do at the end of a run
            comfy.sampler_helpers.cleanup_models(getattr(guider, "conds", {}), getattr(guider, "loaded_models", []))
            self.steps += [made] * count
            raise
        if goes_on:
            self._note("prune_at did nothing: this sampler does not tell how far it is")
        # ComfyUI's own samplers go to the end, however they count
        self.steps += [steps if isinstance(self.sampler, comfy.samplers.KSAMPLER) else made] * count
        return samples.to(comfy.model_management.intermediate_device()).split(1)

    def _goes_on(self, goes_on: GoesOn, x0: torch.Tensor) -> bool:
        """Judge what the sampler predicts [1, C, ...] (model's scale), and leave its model loaded."""
        patcher = self.guider.model_patcher
        with as_comfyui_does():
            worth = goes_on(self._picture(patcher.model.process_latent_out(x0.detach().float())))
            models = [patcher, *getattr(self.guider, "loaded_models", [])]
            needed = patcher.memory_required([2, *x0.shape[1:]])
            comfy.model_management.load_models_gpu(models, memory_required=needed)
        return worth

    def _picture(self, latent: torch.Tensor) -> Picture:
        latent = latent.to(comfy.model_management.intermediate_device())
        return Picture(latent, decode_pictures(self.vae, latent))

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            logging.warning("[Referee] %s", text)


def report(
    attempts: Sequence[Attempt],
    made: Sequence[int],
    steps: int,
    matching: Sequence[str] = (),
    variation: float = 0.0,
    texts: Sequence[str] = (),
) -> str:
    """One line an attempt: "attempt 2 (seed 8): loss 1.203 · match 0.936 · itm 0.066", in the order tried; then which
    of several texts is which.

    made: steps of each. steps: as planned. matching: see ``numbers``.
    """
    lines = (_line(attempt, own, steps, matching) for attempt, own in zip(attempts, made, strict=False))
    named = [f"attempt {a.index + 1} ({name_seed(a.seed, variation)})" for a in attempts]
    told = [f"{name}: {line}" for name, line in zip(named, lines, strict=True)]
    return "\n".join([*told, *number_texts(texts)])


def _line(attempt: Attempt, made: int, steps: int, matching: Sequence[str]) -> str:
    if attempt.verdict is None and attempt.predicted is None:
        return f"finished by hand after step {made} of {steps}"
    verdict = attempt.verdict or attempt.predicted
    said = format_numbers(verdict.loss, verdict.terms, verdict.match, matching)
    if attempt.verdict is None:
        return f"given up after step {made} of {steps}, predicted {said}"
    return f"{said} · ended after step {made} of {steps}" if made < steps else said
