"""A node that asks the referee yes or no, as a gate in a graph."""

import torch
from comfy_api.latest import io

from .losses import RefereeLoss
from .node import Node
from .sockets import CATEGORY, LoadedReferee, RefereeSocket


class RefereeDecide(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeDecide",
            display_name="Ask the Referee",
            category=CATEGORY,
            description="Asks the referee whether pictures show what you write, and answers yes or no: for switches, "
            "such as saving only what obeys. It runs on your machine.",
            search_aliases=["judge", "decide", "yes or no", "gate", "vlm", "blip", "filter images", "question"],
            inputs=[
                io.Image.Input("images", tooltip="The pictures; each gets its own answer."),
                RefereeSocket.Input(
                    "referee", tooltip="The network that answers: from Referee from CLIP, Load Referee or the demo."
                ),
                io.String.Input(
                    "question",
                    multiline=True,
                    tooltip="What the picture should show, as a plain sentence. A vision-language model also takes a "
                    "question that ends with a question mark, such as: Is the cup to the left of the plate?",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="From which probability on the answer is yes. Higher is stricter.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                io.Boolean.Output("decision", is_output_list=True, tooltip="For a switch: whether each picture obeys."),
                io.String.Output("answer", is_output_list=True, tooltip="The same as a word: yes or no."),
                io.Float.Output("probability", is_output_list=True, tooltip="How sure the referee is of yes, 0 to 1."),
                io.String.Output("report", tooltip="One line a picture."),
            ],
        )

    @classmethod
    def validate_inputs(cls, question: str | None = None) -> bool | str:
        if question is not None and not question.strip():
            return "The input 'question' is empty: write what the picture should show."
        return True

    @classmethod
    def execute(cls, images: torch.Tensor, referee: LoadedReferee, question: str, threshold: float) -> io.NodeOutput:
        from .bridge.inputs import check_finite, check_images
        from .bridge.judging.scores import score
        from .bridge.show.panel import show_text

        check_images("images", images)
        check_finite("images", images)
        (loss,) = RefereeLoss.execute(referee, question, itm_weight=1.0, caption_weight=0.0).result
        loss.loss.check_probability(threshold)
        sure = [match or 0.0 for match in score(loss, images).matches]
        decisions = [one >= threshold for one in sure]
        answers = ["yes" if yes else "no" for yes in decisions]
        lines = [f"image {i}: {a} ({p:.2f})" for i, (a, p) in enumerate(zip(answers, sure, strict=True), 1)]
        show_text(cls.hidden.unique_id, "\n".join(lines))
        return io.NodeOutput(decisions, answers, sure, "\n".join(lines))
