"""Nodes that say what the referee should see."""

import math
from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io

from .node import Node
from .sockets import CATEGORY, LoadedLoss, LoadedReferee, LossSocket, RefereeSocket

if TYPE_CHECKING:
    from comfy.sd import CLIP

WHOLE_CAPTIONS = "The demo's referee knows whole captions only."


class RefereeLoss(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeLoss",
            display_name="Referee Loss",
            category=CATEGORY,
            description="What the referee should see in the image. Lower is a better match.",
            search_aliases=["blip", "vlm", "blip2 loss", "prompt alignment", "image text matching", "caption loss"],
            inputs=[
                RefereeSocket.Input(
                    "referee",
                    tooltip="The network that judges: from Load Referee, Referee from CLIP or Load Demo Models.",
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="What the picture must show, as a plain sentence. BLIP-2 reads 30 word pieces; the rest "
                    "is cut off and shown on the node. Prompt weights such as (red:1.3) are ignored.",
                ),
                io.Float.Input(
                    "itm_weight",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    tooltip="Image-text matching: does the whole sentence fit? Higher pushes harder on the overall "
                    "match; 0 leaves it out and saves a third of the referee's text work. Of a vision-language model: "
                    "the weight of its answer.",
                ),
                io.Float.Input(
                    "caption_weight",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    tooltip="Captioning: would the referee write this sentence itself? Higher binds each word, such "
                    "as which thing has which colour, more tightly; 0 leaves it out. BLIP-2 only.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                LossSocket.Output("loss", tooltip="Connect to Referee Optimizer, Referee Sampler or Score Images.")
            ],
        )

    @classmethod
    def validate_inputs(cls, text: str | None = None) -> bool | str:
        if text is not None and not text.strip():
            return "The input 'text' is empty: write what the picture should show."
        return True

    @classmethod
    def execute(cls, referee: LoadedReferee, text: str, itm_weight: float, caption_weight: float) -> io.NodeOutput:
        terms = referee.referee.terms
        if "itm" not in terms:  # no BLIP-2: what it says of the sentence as a whole
            term = referee.referee.probability or terms[0]
            return cls._bound(referee, text, f"itm_weight is the weight of its '{term}'", **{term: itm_weight})
        if caption_weight and "caption" not in terms:
            raise ValueError(
                "The input 'caption_weight' is above 0, but the referee's file holds no caption head; those from "
                "Hugging Face never do. Put LAVIS's blip2_pretrained.pth beside it, or set caption_weight to 0."
            )
        return cls._bound(referee, text, itm=itm_weight, caption=caption_weight)

    @classmethod
    def _bound(cls, referee: LoadedReferee, text: str, meaning: str = "", **weights: float) -> io.NodeOutput:
        from ..referee_core.losses import bind

        with torch.inference_mode(False):  # the text's tensors take part in the backward pass
            loss = bind(referee.referee, text, **weights)
        notes = ([meaning] if meaning else []) + referee.referee.notes(loss.bound[0].text)
        if notes:
            from .bridge.show.panel import show_text

            show_text(cls.hidden.unique_id, "\n".join(notes))
        return io.NodeOutput(LoadedLoss(loss, (referee.patcher,)))


class RefereeStatements(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeStatements",
            display_name="Referee Loss per Statement",
            category=CATEGORY,
            description="Asks the referee about each part of a prompt by itself, and shows which part a picture "
            "disobeys. Use it in place of Referee Loss, for prompts with several things.",
            search_aliases=[
                "split prompt",
                "which word",
                "per word",
                "soft tifa",
                "atoms",
                "judge",
                "questions",
                "blip",
            ],
            inputs=[
                RefereeSocket.Input("referee", tooltip="The network that judges: from Referee from CLIP or another."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="What the picture must show. Rules split it at its sentences, things and places; the node "
                    "shows the statements.",
                ),
                io.String.Input(
                    "statements",
                    multiline=True,
                    default="",
                    tooltip="Your own statements, one a line, in place of those that are found. Empty: found by rules, "
                    "or by the connected clip.",
                ),
                io.Float.Input(
                    "worst_weight",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How much the statement that matches least counts beside the mean of all. Higher works on "
                    "what is missing; 0: the mean alone.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="A language model that finds the statements in place of the rules, in any language: that "
                    "of Referee from CLIP, or a text-only one, such as Z-Image's Qwen3-4B. It takes some seconds.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                LossSocket.Output("loss", tooltip="For Search Until It Obeys, Score Images or Referee Optimizer."),
                io.String.Output("statements", tooltip="What the referee is asked, one a line."),
            ],
        )

    @classmethod
    def execute(
        cls, referee: LoadedReferee, text: str, statements: str, worst_weight: float, clip: "CLIP | None" = None
    ) -> io.NodeOutput:
        from ..referee_core.losses import bind_statements
        from ..referee_core.statements import read_lines
        from .bridge.show.panel import show_text

        own = read_lines(statements)
        parts, how = (own, []) if own else _find_statements(text, clip)
        with torch.inference_mode(False):  # the text's tensors take part in the backward pass
            loss = bind_statements(referee.referee, parts, worst_weight)
        notes = dict.fromkeys(note for one in loss.bound for note in referee.referee.notes(one.text))
        warning = [WHOLE_CAPTIONS] if referee.whole_captions and len(parts) > 1 else []
        show_text(cls.hidden.unique_id, "\n".join([*parts, *how, *notes, *warning]))
        return io.NodeOutput(LoadedLoss(loss, (referee.patcher,)), "\n".join(parts))


def _find_statements(text: str, clip: "CLIP | None") -> tuple[list[str], list[str]]:
    """The statements of a text, and what a user should know about how they were found."""
    from ..referee_core.statements import ASKED, read_answer, split_statements

    by_rules = split_statements(text)
    if not by_rules:
        raise ValueError("The input 'text' is empty: write what the picture should show.")
    if clip is None:
        return by_rules, []
    from .bridge.language.model import write

    found = read_answer(write(clip, ASKED.format(text.strip())))
    return (found, []) if found else (by_rules, ["The language model found no statements: these are the rules'."])


class RefereeCombineLosses(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        losses = io.Autogrow.TemplatePrefix(
            LossSocket.Input("loss", tooltip="A loss to add. Another socket appears when this one is used."),
            prefix="loss_",
            min=1,
            max=16,
        )
        return io.Schema(
            node_id="RefereeCombineLosses",
            display_name="Combine Referee Losses",
            category=CATEGORY,
            description="A weighted sum of referee losses: several sentences, or several referees.",
            search_aliases=["add losses", "sum referee losses"],
            inputs=[
                io.Autogrow.Input("losses", template=losses, tooltip="The losses to add, in order."),
                io.String.Input(
                    "weights",
                    default="",
                    tooltip="One weight a loss, separated by commas, e.g. 1, 0.5. Empty: all count the same. 0 leaves "
                    "one out, a negative one pushes away.",
                ),
            ],
            outputs=[LossSocket.Output("loss", tooltip="The weighted sum.")],
        )

    @classmethod
    def execute(cls, losses: dict, weights: str) -> io.NodeOutput:
        from ..referee_core.losses import combine

        given = [loss for loss in losses.values() if loss is not None]
        try:
            factors = [float(w) for w in weights.split(",")] if weights.strip() else [1.0] * len(given)
        except ValueError:
            raise ValueError(f"The input 'weights' must be numbers separated by commas, got {weights!r}.") from None
        if not all(math.isfinite(f) for f in factors):
            raise ValueError(f"The input 'weights' must be finite numbers, got {weights!r}.")
        if len(factors) != len(given):
            raise ValueError(
                f"The input 'weights' has {len(factors)} numbers for {len(given)} losses: give one for each."
            )
        patchers = tuple(dict.fromkeys(p for loss in given for p in loss.patchers))
        return io.NodeOutput(LoadedLoss(combine([loss.loss for loss in given], factors), patchers))
