"""A node that samples seed after seed until the referee agrees."""

import math
from typing import Any

from comfy_api.latest import io

from .node import Node
from .sockets import CATEGORY, AugmentationSocket, LoadedLoss, LossSocket


class RefereeSearch(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeSearch",
            display_name="Search Until It Obeys",
            category=CATEGORY,
            description="Samples seed after seed, lets the referee judge each picture by random views, and stops at "
            "the first that matches. Takes any model, guider and sampler.",
            search_aliases=[
                "best of n",
                "rejection sampling",
                "retry until",
                "fix prompt",
                "judge",
                "blip",
                "seed search",
                "try seeds",
                "best seed",
                "vlm",
                "prompt adherence",
            ],
            inputs=[
                io.Guider.Input(
                    "guider", tooltip="The model with its prompt, from CFGGuider, BasicGuider or any other guider."
                ),
                io.Sampler.Input("sampler", tooltip="Makes each picture, from KSamplerSelect or Referee Sampler."),
                io.Sigmas.Input("sigmas", tooltip="The noise levels of each attempt, from BasicScheduler."),
                io.Latent.Input(
                    "latent_image",
                    tooltip="One image: an empty latent, or a picture to vary with sigmas below full "
                    "noise. A noise mask limits the change to the masked part.",
                ),
                io.Vae.Input("vae", tooltip="Decodes the pictures for the referee."),
                LossSocket.Input("loss", tooltip="What the referee should see; it decides which picture is best."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Of the first attempt; the next has seed + 1, and so on. An attempt equals a run of "
                    "SamplerCustomAdvanced with its seed.",
                ),
                io.Int.Input(
                    "attempts",
                    default=8,
                    min=1,
                    max=4096,
                    tooltip="Seeds to try at most. More find a matching picture more often and take longer.",
                ),
                io.Float.Input(
                    "stop_at",
                    default=0.9,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Stop at the first picture that matches with this probability. Higher is stricter and "
                    "takes more attempts; 0 tries all of them. Needs itm_weight above 0.",
                ),
                io.Int.Input(
                    "keep",
                    default=1,
                    min=1,
                    max=4096,
                    tooltip="How many of the best pictures come out, best first; fewer if fewer were finished.",
                ),
                io.Int.Input(
                    "at_once",
                    default=0,
                    min=0,
                    max=256,
                    advanced=True,
                    tooltip="Attempts in one batch; 0: as many as fit the card, and one on a CPU. More are faster on a "
                    "card that one picture does not fill. The result is the same up to rounding.",
                ),
                io.Float.Input(
                    "prune_at",
                    default=0.0,
                    min=0.0,
                    max=0.95,
                    step=0.05,
                    advanced=True,
                    tooltip="After this share of the steps the referee judges the predicted picture, and only the "
                    "better half of those seen so far goes on. Lower saves more and errs more often; 0: off.",
                ),
                io.Float.Input(
                    "variation",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    optional=True,
                    advanced=True,
                    tooltip="For distilled models that draw nearly the same picture for every seed: each attempt reads "
                    "the prompt with noise of its own in the first 30 % of the sampling. Higher makes the attempts "
                    "differ more and stray further from the prompt; 0: off. Prompt Variation repeats a find.",
                ),
                AugmentationSocket.Input(
                    "augmentation",
                    optional=True,
                    tooltip="The random views by which each picture is judged. Without it: 8 gentle ones, which hide "
                    "nothing. The paper's hide parts of the picture, and few pictures reach stop_at then.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            outputs=[
                io.Latent.Output("latent", tooltip="The latents of the best pictures, best first."),
                io.Image.Output("image", tooltip="The best pictures, decoded."),
                io.Float.Output(
                    "scores",
                    is_output_list=True,
                    tooltip="Probability of a match over the random views for each "
                    "picture, from 0 to 1. None without a matching loss.",
                ),
                io.String.Output("report", tooltip="Seed and losses of every attempt, in the order tried."),
            ],
        )

    @classmethod
    def execute(
        cls,
        guider: Any,
        sampler: Any,
        sigmas: Any,
        latent_image: dict,
        vae: Any,
        loss: LoadedLoss,
        seed: int,
        attempts: int,
        stop_at: float,
        keep: int,
        at_once: int,
        prune_at: float,
        variation: float = 0.0,
        augmentation: Any = None,
    ) -> io.NodeOutput:
        import torch

        from ..referee_core.methods.search import SearchSettings, search
        from .bridge.judging.judge import Judge
        from .bridge.judging.scores import Scores
        from .runs.search import Attempts, report
        from .runs.search_panel import SearchProgress

        steps, node, page = len(sigmas) - 1, cls.hidden.unique_id, cls.hidden.extra_pnginfo
        with SearchProgress(node, attempts, steps, stop_at, page, variation) as progress:
            loss.loss.check_probability(stop_at)
            settings = SearchSettings(attempts, keep, stop_at, prune_at)
            looks_after = settings.looks_after(steps)
            sample = Attempts(
                guider, sampler, sigmas, latent_image, vae, at_once, stop_at > 0, looks_after, progress, variation
            )
            judge = Judge(loss, augmentation)
            for tried in search(sample, judge, settings, seed):
                progress.judged(tried[-1], tried.best[0] if tried.best else None)
                if tried.best and progress.finish_asked:
                    break
            best = tried.best
            if not math.isfinite(best[0].verdict.loss):
                raise ValueError(
                    "No attempt gave a picture that the referee can judge: what 'guider' or 'vae' made, or the "
                    "referee's own number, is not finite (NaN). Start ComfyUI with --fp32-vae, or choose fp32 in Load "
                    "Referee."
                )
            verdicts = [one.verdict for one in best]
            losses, terms, matches = ([getattr(v, name) for v in verdicts] for name in ("loss", "terms", "match"))
            how = {"variation": variation} if variation else {}
            origins = [{"seed": one.seed, "steps": sample.steps[one.index], **how} for one in best]
            scores = Scores(losses, terms, matches, loss.loss.texts(), loss.loss.matching(), origins)
            scores.write_into(cls.hidden, "Search Until It Obeys")
            progress.finish(len(tried), [scores.verdicts(0), *sample.notes, judge.cost()])
        pictures = [one.picture for one in best]
        image = torch.cat([picture.image for picture in pictures])
        lines = report(tried, sample.steps, steps, scores.matching, variation, scores.texts)
        return io.NodeOutput(sample.latent_of(pictures), image, matches, lines)
