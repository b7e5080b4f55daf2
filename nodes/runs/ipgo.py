"""IPGO under a guider: tokens around a CONDITIONING that a referee writes, for one prompt or for many."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import comfy.model_management
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE

from ...referee_core.augment import Augmentation
from ...referee_core.methods.ipgo import Candidate, IPGOSettings, Learned, Sampling, Start, Subject, ipgo
from ...referee_core.prompt_tokens import Form, Inserted
from ...referee_core.randomness import generators, randn_like
from ..bridge.gradients.block import differentiable
from ..bridge.gradients.memory import memory_for
from ..bridge.gradients.model import DifferentiableModel
from ..bridge.gradients.vae import Decoder
from ..bridge.sampling.conditioning import Conditioned, copied, insert_tokens
from ..bridge.sampling.denoiser import noise_level
from ..bridge.sampling.drive import OnStep, drive
from ..bridge.sampling.latents import check_family, draw_noise, samples_for
from ..sockets import LoadedLoss, LoadedPrompt

ANCESTRAL, PLAIN = "euler_ancestral", "euler"


@dataclass(frozen=True)
class Text:
    """A prompt, encoded, and the referee's loss for it."""

    conditioning: list
    loss: LoadedLoss

    def __post_init__(self) -> None:
        if not self.conditioning or any(prompt is None or prompt.ndim != 3 for prompt, _ in self.conditioning):
            raise ValueError(
                "The input 'positive' holds no encoded text [B, L, d], so no tokens can stand around it: connect CLIP "
                "Text Encode, or what comes behind it."
            )


@dataclass(frozen=True)
class Setup:
    """All that a run needs besides the model, the latent and the seed.

    Attributes:
        trained, held_out: what is learned for, what the looks are for; the same one prompt where there is no list.
        noises: trained ones. other_noises: pictures of each look. last: sampling steps that the gradient goes through.
    """

    trained: Sequence[Text]
    held_out: Sequence[Text]
    negative: list
    vae: VAE
    augmentation: Augmentation
    form: Form
    settings: IPGOSettings
    cfg: float
    scheduler: str
    steps: int
    last: int
    ancestral: bool
    noises: int
    other_noises: int


def learn(
    setup: Setup, model: ModelPatcher, latent: dict, seed: int, on_step: OnStep, learned: Learned
) -> tuple[LoadedPrompt, torch.Tensor]:
    """Learn tokens: (the best, the pictures [B, H, W, 3] of the look that chose them). ``learned`` takes down all.

    The trained noises have the seeds from ``seed`` on, a batch of the latent's size in each round, in turn; the looks
    have the seeds after them.
    """
    samples = torch.zeros_like(samples_for(model, latent))
    seeds = [(seed + i) % 2**64 for i in range(setup.noises + setup.other_noises)]
    noise = draw_noise(samples[:1].expand(len(seeds), *samples.shape[1:]), seeds)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(setup.trained[0].conditioning, setup.negative)
    guider.set_cfg(setup.cfg)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), setup.scheduler, setup.steps)
    sampler = LearnTokens(setup, noise, seeds, on_step, learned)
    guider.sample(noise[: len(samples)], samples, sampler, sigmas, seed=seed)
    assert learned.x is not None
    return LoadedPrompt(learned.best.inserted, family(model)), learned.x.clamp(0, 1).movedim(1, -1)


def family(model: ModelPatcher) -> str:
    """ComfyUI's name of the kind of model, which has a text encoder of its own."""
    return type(model.model.model_config).__name__


class LearnTokens(comfy.samplers.Sampler):
    """Learns under a guider, on loaded models; what it has found is in ``learned``."""

    def __init__(self, setup: Setup, noise: torch.Tensor, seeds: Sequence[int], on_step: OnStep, learned: Learned):
        self.setup, self.noise, self.seeds, self.on_step, self.learned = setup, noise, seeds, on_step, learned

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        setup, model = self.setup, model_wrap.inner_model
        check_family(model.latent_format, setup.vae)
        decoder, through = Decoder(setup.vae), DifferentiableModel(model_wrap.model_patcher)
        decoder.check_latent(noise)
        with (
            memory_for("learning a prompt", "Use a smaller picture, a batch of 1, or a smaller model."),
            differentiable(
                decoder,
                through,
                loss=setup.trained[0].loss,
                also_load=model_wrap.loaded_models,
                shape=noise.shape,
                views=setup.augmentation.count * len(noise),
                asked=setup.settings.micro_batch,
            ) as block,
        ):
            options = through.options(extra_args["model_options"])
            levels = [noise_level(model.model_sampling, sigma.float().view(1)) for sigma in sigmas[:-1].clone()]
            sampling = Sampling(levels, min(setup.last, len(levels)), setup.ancestral)
            starts, looks = (
                [
                    self._start(model_wrap, sigmas, sampling, self.noise[i:j].to(noise, copy=True), self.seeds[i:j])
                    for i, j in _batches(*ends, len(noise))
                ]
                for ends in ((0, setup.noises), (setup.noises, len(self.seeds)))
            )
            conditioned = Conditioned(model_wrap, options, noise.clone(), copied(setup.negative))

            def decode(z: torch.Tensor) -> torch.Tensor:
                with memory_for("the VAE"):
                    return decoder(model.process_latent_out(z))

            def subject(text: Text) -> Subject:
                prompt = copied(text.conditioning)

                def condition(inserted: Inserted):
                    return conditioned(insert_tokens(prompt, inserted))

                return Subject(prompt[0][0].float().to(noise.device), text.loss.loss, condition)

            run = ipgo(
                [subject(text) for text in setup.trained],
                [subject(text) for text in setup.held_out],
                starts,
                looks,
                sampling,
                decode,
                setup.augmentation,
                setup.form,
                replace(setup.settings, micro_batch=block.at_once),
                self.seeds[0],
                self.learned,
            )
            drive(run, self.on_step)
        return latent_image

    def _start(self, guider, sigmas: torch.Tensor, sampling: Sampling, noise: torch.Tensor, seeds) -> Start:
        """As KSampler begins with these seeds."""
        scale, full = guider.inner_model.model_sampling.noise_scaling, self.max_denoise(guider, sigmas)
        x = scale(sigmas[0].clone(), noise, torch.zeros_like(noise), full)
        streams = generators(seeds, ("fresh",))["fresh"]
        return Start(x, [randn_like(x, streams) for _ in sampling.levels[1:]] if sampling.ancestral else [])


def _batches(first: int, end: int, size: int) -> list[tuple[int, int]]:
    return [(i, min(i + size, end)) for i in range(first, end, size)]


def apply(prompt: LoadedPrompt, conditioning: list, model: ModelPatcher) -> list:
    """The CONDITIONING with learned tokens. Raises ValueError where they are for another model's text encoder."""
    kinds, widths = [kind.__name__ for kind in type(model.model.model_config).__mro__], prompt.widths
    here = {text.shape[-1] for text, _ in conditioning}
    if prompt.inserted.tokens and (prompt.family not in kinds or widths != here):
        raise ValueError(
            f"The input 'tokens' was learned for the text encoder of {prompt.family} ({_numbers(widths)} a token); "
            f"'model' is {kinds[0]}, and 'conditioning' has {_numbers(here)} a token. Connect the model it was learned "
            "with, or learn tokens for this one."
        )
    return insert_tokens(conditioning, prompt.inserted)


def _numbers(widths: set[int]) -> str:
    return f"{', '.join(map(str, sorted(widths)))} numbers"


def describe(learned: Learned, whose: str) -> str:
    """Each look, and in the last line what was chosen. whose: what the pictures are of."""

    def numbers(one: Candidate) -> str:
        return f"loss {one.loss:.2f}" if one.match is None else f"match {one.match:.2f}, loss {one.loss:.2f}"

    lines = [f"Pictures of other noises, of {whose}:"]
    for one in learned.candidates:
        name = f"after round {one.rounds}" if one.rounds else "no tokens"
        lines.append(f"{name}: {numbers(one)}")
    best, plain = learned.best, learned.plain
    if best is plain:
        lines.append(f"the plain prompt stays: none beat {numbers(plain)}")
    else:
        lines.append(f"chosen: the tokens after round {best.rounds}, {numbers(best)} (plain: {numbers(plain)})")
    return "\n".join(lines)
