"""Referee Can Play from a LATENT to a LATENT, for the node that does all in one; if asked, never worse than it came."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

import comfy.model_management
import comfy.sampler_helpers
import comfy.samplers
import torch
from comfy.latent_formats import LatentFormat
from comfy.model_patcher import ModelPatcher

from ...referee_core.methods.search import OWN_SEEDS, PURPOSES, Verdict
from ...referee_core.randomness import generators
from ...referee_core.record import History, Step
from ..bridge.gradients.vae import Decoder, decode_pictures
from ..bridge.inputs import check_finite
from ..bridge.judging.judge import Judge, Picture
from ..bridge.models.demo import demo_note
from ..bridge.sampling.drive import OnStep
from ..bridge.sampling.latents import (
    choose_latent_format,
    draw_noise,
    restore_outside,
    rows_that_fit,
    samples_for,
)
from ..sockets import LoadedLoss, LoadedPrior
from .referee_can_play import RefereeCanPlay, Setup, optimise

LAST, BEST, NEVER_WORSE = RESULTS = ("last", "best", "best of start and run")


def run(
    setup: Setup,
    prior: LoadedPrior | None,
    latent: dict,
    seed: int,
    on_step: OnStep,
    result: str,
    history: History,
    model: ModelPatcher | None = None,
) -> tuple[dict, torch.Tensor]:
    """Run to the end and decode: (LATENT, IMAGE).

    Image i of a batch goes the way it would go alone with the seed ``seed + i``. A picture that matches ``stop_at``
    already is passed through untouched.

    Args:
        on_step: where it ends the run, the best so far comes out.
        result: last; best: the step with the lowest referee loss; best of start and run: of the picture that came in,
            that step and the last one, what the referee prefers over the same gentle views.
        model: only for the scale of its latents, where there is no prior.
    """
    check_finite("latent_image", latent["samples"])
    latent, misfit = rows_that_fit(latent)
    numbers = latent.get("batch_index") or range(len(latent["samples"]))
    setup = replace(setup, seeds=tuple((seed + i) % 2**64 for i in numbers))
    given = (prior.model, "prior") if prior is not None else (model, "model")
    latent_format, unknown_scale = choose_latent_format(setup.vae, *given)
    for note in filter(None, (misfit, unknown_scale, demo_note(setup.vae, prior, setup.settings))):
        setup.note(note)
    models: dict[str, Any] = {
        "vae": _identify(setup.vae.patcher),
        "model of the prior": prior and _identify(prior.model),
    }
    models["cfg of the prior"] = prior and prior.cfg
    if setup.resume is not None:
        setup.resume.check(models)
    start = _judge_start(setup, latent, result)
    if start is not None and all(start.matches):
        setup.note(f"nothing to do: the picture that came in matches already ({start.describe()})")
        history.finish(start.image.movedim(-1, 1))
        return latent, start.image

    ended = []

    def each(step: Step) -> bool | None:
        ended.append(on_step(step))
        return ended[-1]

    if prior is not None:
        samples = _run_with_prior(setup, prior, latent, each)
    else:
        samples = _run_without_prior(setup, latent, latent_format, each)
    made = [samples]
    if history.best_loss is not None and (result != LAST or ended[-1]):
        known = history.best_loss.isfinite().view(-1, *[1] * (samples.ndim - 1))
        best = torch.where(known.to(samples.device), latent_format.process_out(history.best_z).to(samples), samples)
        made = [best, samples] if result == NEVER_WORSE else [best]
    made = [restore_outside(m.to(comfy.model_management.intermediate_device()), latent) for m in made]
    samples, image = _choose(setup, start, made, result)
    with torch.inference_mode(False):  # the state may be resumed, in which Adam writes to it
        history.finish(image.movedim(-1, 1))
    if history.state is not None:
        history.state.about.update(models)
    out = {k: v for k, v in latent.items() if not k.startswith("downscale_ratio")}
    return out | {"samples": samples}, image


_names: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def _identify(patcher: ModelPatcher) -> tuple[str, str]:
    """Which model this is, and how it is patched; the same model loaded anew is another one."""
    return _names.setdefault(patcher.model, uuid4().hex), str(patcher.patches_uuid)


@dataclass
class _Judged:
    """Pictures and what the referee says of them over gentle views; the views depend on the seed alone.

    Attributes:
        samples [B, C, ...], image [B, H, W, 3]. matches: whether each obeys ``stop_at``.
    """

    samples: torch.Tensor
    image: torch.Tensor
    verdicts: Sequence[Verdict] = ()
    matches: Sequence[bool] = ()

    def describe(self) -> str:
        """As "0.97, 0.93"."""
        return ", ".join(f"{v.match:.2f}" for v in self.verdicts)


def _judge(setup: Setup, loss: LoadedLoss, samples: torch.Tensor) -> _Judged:
    image, judge = decode_pictures(setup.vae, samples), Judge(loss)
    streams = generators([seed + OWN_SEEDS for seed in setup.seeds], PURPOSES)["finished"]
    rows = map(Picture, samples.split(1), image.split(1))
    verdicts = [judge(row, stream) for row, stream in zip(rows, streams, strict=True)]
    return _Judged(samples, image, verdicts, [v.obeys(setup.settings.stop_at) for v in verdicts])


def _judge_start(setup: Setup, latent: dict, result: str) -> _Judged | None:
    """The picture that came in, judged where that decides something; None for a run that starts from noise."""
    asked = setup.settings.stop_at > 0 or result == NEVER_WORSE
    if setup.loss is None or not asked or setup.resume is not None or torch.count_nonzero(latent["samples"]) == 0:
        return None
    setup.loss.loss.check_probability(setup.settings.stop_at)
    Decoder(setup.vae).check_latent(latent["samples"])
    return _judge(setup, setup.loss, latent["samples"].to(comfy.model_management.intermediate_device()))


def _choose(
    setup: Setup, start: _Judged | None, made: Sequence[torch.Tensor], result: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each image of the batch what comes out, decoded."""
    if result == NEVER_WORSE and setup.loss is not None:
        rivals = [start] if start is not None else []
        rivals += [_judge(setup, setup.loss, samples) for samples in made]
    else:
        rivals = [_Judged(made[0], decode_pictures(setup.vae, made[0]))]
    chosen = [start if start is not None and start.matches[i] else _best(rivals, start, i) for i in range(len(made[0]))]
    kept = [str(i) for i, one in enumerate(chosen, 1) if one is start]
    if kept:
        setup.note(f"the run made nothing better than what came in, which comes out again: image {', '.join(kept)}")
    samples = torch.cat([one.samples[i : i + 1].to(made[0]) for i, one in enumerate(chosen)])
    return samples, torch.cat([one.image[i : i + 1] for i, one in enumerate(chosen)])


def _best(rivals: Sequence[_Judged], start: _Judged | None, i: int) -> _Judged:
    """Of which image i has the lowest loss, none of those that match less than the start; of equals the first, as the
    run's best step may be the start itself up to rounding."""
    if len(rivals) == 1:
        return rivals[0]
    least = start.verdicts[i].match or 0 if start is not None else 0
    able = [one for one in rivals if (one.verdicts[i].match or 0) >= least]
    return min(able, key=lambda one: (not one.matches[i], round(one.verdicts[i].rank, 3)))


def _run_with_prior(setup: Setup, prior: LoadedPrior, latent: dict, on_step: OnStep) -> torch.Tensor:
    """The sampler under a CFGGuider of the prior's model, exactly as SamplerCustomAdvanced would drive it."""
    sampler = RefereeCanPlay(replace(setup, make_prior=prior.make), on_step, model_input="prior")
    guider = comfy.samplers.CFGGuider(prior.model)
    guider.set_conds(prior.positive, prior.negative)
    guider.set_cfg(prior.cfg)
    samples = samples_for(prior.model, latent)
    noise = draw_noise(samples, setup.seeds)
    sigmas = torch.linspace(1, 0, setup.settings.steps + 1, dtype=torch.float32)
    return guider.sample(noise, samples, sampler, sigmas, denoise_mask=latent.get("noise_mask"), seed=setup.seeds[0])


def _run_without_prior(setup: Setup, latent: dict, latent_format: LatentFormat, on_step: OnStep) -> torch.Tensor:
    """The loop with no diffusion model at all: only the VAE and the referee are loaded."""
    decoder, samples, mask = Decoder(setup.vae), latent["samples"], latent.get("noise_mask")
    decoder.check_latent(samples)
    noise = draw_noise(samples, setup.seeds)
    if torch.count_nonzero(samples):
        samples = latent_format.process_in(samples)
    if mask is not None:
        mask = comfy.sampler_helpers.prepare_mask(mask, samples.shape, decoder.patcher.load_device)
    z = optimise(setup, None, noise, samples, latent_format, mask, [], on_step)
    return latent_format.process_out(z)
