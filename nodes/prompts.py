"""Nodes that learn tokens around a prompt: IPGO for one prompt, IPGO+ for a list."""

import random
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from .losses import RefereeLoss
from .node import Node
from .prompt_inputs import SIDES, learning_inputs, sampling_inputs
from .sockets import (
    CATEGORY,
    HistorySocket,
    LoadedLoss,
    LoadedReferee,
    LossSocket,
    PromptSocket,
    RefereeSocket,
)

if TYPE_CHECKING:
    from .runs.ipgo import Text


def _outputs() -> list:
    return [
        PromptSocket.Output("tokens", tooltip="For Save Prompt Tokens and Apply Prompt Tokens."),
        io.Image.Output("image", tooltip="The other noises' pictures with the best tokens."),
        HistorySocket.Output("history", tooltip="For History Plot and Filmstrip."),
        io.String.Output("report", tooltip="Every look at the other noises, and what was chosen."),
    ]


class RefereePromptOptimizer(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereePromptOptimizer",
            display_name="Optimize Prompt",
            category=CATEGORY,
            description="Learns tokens around a prompt by which the referee likes its pictures better (IPGO). It "
            "takes long once; then a picture costs what a plain one costs. What comes out is chosen on noises that "
            "were not learned from, and is the plain prompt where nothing did better.",
            search_aliases=["ipgo", "fix prompt", "prompt optimization", "prompt embedding", "soft prompt", "vlm"],
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model: in fp32, bf16 or fp16, not quantised."),
                io.Conditioning.Input("positive", tooltip="The encoded prompt: the tokens go around it."),
                io.Conditioning.Input("negative", tooltip="What to avoid, as in KSampler."),
                io.Vae.Input("vae", tooltip="Decodes the pictures; gradients pass through it."),
                LossSocket.Input("loss", tooltip="What the referee should see, from Referee Loss."),
                *sampling_inputs(),
                *learning_inputs(rounds=50),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            outputs=[
                io.Conditioning.Output("conditioning", tooltip="The prompt with its tokens, for any sampler."),
                *_outputs(),
            ],
        )

    @classmethod
    def execute(cls, model: Any, positive: list, negative: list, vae: Any, loss: LoadedLoss, **given: Any):
        from .bridge.sampling.conditioning import insert_tokens
        from .runs.ipgo import Text

        text = Text(positive, loss)
        tokens, *shown = _learn(cls, model, vae, [text], [text], negative, given)
        return io.NodeOutput(insert_tokens(positive, tokens.inserted), tokens, *shown)


class RefereePromptTrainer(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereePromptTrainer",
            display_name="Train Prompt Tokens",
            category=CATEGORY,
            description="Learns one set of tokens for many prompts (IPGO+): each prompt gets them by attention to its "
            "own words. A part of the list is not learned from and shows whether they help new prompts.",
            search_aliases=["ipgo+", "fix prompt", "prompt batch training", "soft prompt", "vlm"],
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model: in fp32, bf16 or fp16, not quantised."),
                io.Clip.Input("clip", tooltip="Its text encoder."),
                io.Vae.Input("vae", tooltip="Decodes the pictures; gradients pass through it."),
                RefereeSocket.Input("referee", tooltip="The network that judges each picture against its prompt."),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    tooltip="One prompt a line, at least two. Those that are alike in kind learn best together.",
                ),
                io.String.Input("negative", default="", tooltip="What to avoid, the same for all prompts."),
                io.Float.Input(
                    "held_out",
                    default=0.25,
                    min=0.05,
                    max=0.9,
                    step=0.05,
                    tooltip="Share of the prompts that are not learned from: by them the best tokens are chosen.",
                ),
                io.Float.Input(
                    "itm_weight",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    tooltip="Image-text matching, as in Referee Loss.",
                ),
                io.Float.Input(
                    "caption_weight",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    tooltip="Captioning, as in Referee Loss.",
                ),
                *sampling_inputs(),
                *learning_inputs(rounds=200),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            outputs=_outputs(),
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        referee: LoadedReferee,
        prompts: str,
        negative: str,
        held_out: float,
        itm_weight: float,
        caption_weight: float,
        **given: Any,
    ) -> io.NodeOutput:
        from .runs.ipgo import Text

        lines = list(dict.fromkeys(line.strip() for line in prompts.splitlines() if line.strip()))
        if len(lines) < 2:
            raise ValueError(
                "The input 'prompts' holds fewer than two different prompts: write one a line. For a single prompt, "
                "use Optimize Prompt."
            )
        random.Random(given["seed"]).shuffle(lines)
        apart = min(len(lines) - 1, max(1, round(held_out * len(lines))))

        def encode(line: str) -> list:
            return clip.encode_from_tokens_scheduled(clip.tokenize(line))

        def text(line: str) -> "Text":
            return Text(encode(line), RefereeLoss.execute(referee, line, itm_weight, caption_weight).result[0])

        texts = [text(line) for line in lines]
        made = _learn(cls, model, vae, texts[apart:], texts[:apart], encode(negative), given, attending=True)
        return io.NodeOutput(*made)


def _learn(
    node: type[Node],
    model: Any,
    vae: Any,
    trained: list["Text"],
    held_out: list["Text"],
    negative: list,
    given: dict,
    attending: bool = False,
) -> tuple:
    """What both nodes do with their common inputs: (tokens, image, history, report)."""
    from ..referee_core.methods.ipgo import IPGOSettings, Learned
    from ..referee_core.prompt_tokens import Form
    from ..referee_core.record import History
    from .bridge.show.panel import Progress
    from .runs.guidance import VIEWS
    from .runs.ipgo import ANCESTRAL, Setup, describe, learn

    trained[0].loss.loss.check_probability(given["stop_at"])
    setup = Setup(
        trained,
        held_out,
        negative,
        vae,
        given.get("augmentation") or VIEWS,
        Form(given["tokens"], given["rank"], SIDES[given["side"]], attending=attending),
        IPGOSettings(
            rounds=given["rounds"],
            lr=given["learning_rate"],
            conformity=given["conformity"],
            check_every=given["check_every"],
            patience=given["patience"],
            stop_at=given["stop_at"],
        ),
        given["cfg"],
        given["scheduler"],
        given["steps"],
        given["last_steps"],
        given["sampler_name"] == ANCESTRAL,
        max(given["noises"], len(given["latent_image"]["samples"])),
        given["other_noises"],
    )
    history, learned = History(every=given["record_every"]), Learned()
    with Progress(node.hidden.unique_id, given["rounds"], node.hidden.extra_pnginfo) as progress:

        def on_step(step):
            history.add(step)
            progress.update(step)
            return progress.finish_asked

        progress.show("first a look at the plain prompt")
        tokens, image = learn(setup, model, given["latent_image"], given["seed"], on_step, learned)
        history.finish(image.movedim(-1, 1))
        apart = f"{len(held_out)} of {len(held_out) + len(trained)} prompts, not learned from"
        report = describe(learned, apart if attending else "the prompt")
        progress.finish(history.final, None, [report.splitlines()[-1]])
    return tokens, image, history, report
