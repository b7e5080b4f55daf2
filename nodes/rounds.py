"""Nodes for the two algorithms of Gradient Guidance: rounds of sampling, and a model that learns between them."""

from typing import Any

from comfy_api.latest import io

from .guidance import check_numbers, make_settings, range_inputs, strength_input
from .node import Node
from .sockets import CATEGORY, AugmentationSocket, LoadedLoss, LossSocket


class RefereeRounds(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeRounds",
            display_name="Referee Rounds",
            category=CATEGORY,
            description="Samples the same picture several times, each time corrected by what the referee said of the "
            "last one (Gradient Guidance, Algorithm 1). The referee is asked once a round: for referees too large to "
            "stay beside the model.",
            search_aliases=[
                "gradient guidance",
                "iterated linearisation",
                "heavy referee",
                "vlm",
                "prompt adherence",
                "large vlm",
                "reward guidance",
            ],
            inputs=[
                io.Sampler.Input("sampler", tooltip="Runs each round, from KSamplerSelect or another sampler node."),
                io.Vae.Input("vae", tooltip="Decodes each round's picture; gradients pass through it."),
                LossSocket.Input("loss", tooltip="What the referee should see."),
                AugmentationSocket.Input(
                    "augmentation",
                    optional=True,
                    tooltip="The random views by which each round's picture is judged. Without it: 8 gentle ones.",
                ),
                io.Int.Input(
                    "rounds",
                    default=4,
                    min=1,
                    max=100,
                    tooltip="Guided samplings after the first plain one. Each costs a whole sampling and one "
                    "judgement; more obey better.",
                ),
                io.Float.Input(
                    "delta",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="By how much each round is to lower the loss. Higher obeys sooner; too high trusts the "
                    "referee's first word too far.",
                ),
                io.Combo.Input(
                    "gradient",
                    options=["prediction", "look-ahead"],
                    default="prediction",
                    tooltip="prediction: moves each step's predicted picture; any MODEL. look-ahead: passes through "
                    "the MODEL as well, as in the paper; about three times the time.",
                ),
                strength_input(share=0.1, of_rounds=True),
                *range_inputs(),
                io.Float.Input(
                    "stop_at",
                    default=0.9,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="No further round once every picture matches with this probability. 0: all rounds. Needs "
                    "itm_weight above 0.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            outputs=[
                io.Sampler.Output(
                    "sampler",
                    tooltip="For SamplerCustomAdvanced or Search Until It Obeys; each image's best round comes out.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        sampler: Any,
        vae: Any,
        loss: LoadedLoss,
        rounds: int,
        delta: float,
        gradient: str,
        strength: dict | str,
        start_percent: float,
        end_percent: float,
        stop_at: float,
        augmentation: Any = None,
    ) -> io.NodeOutput:
        from ..referee_core.methods.search import VIEWS
        from .bridge.show.panel import Progress
        from .runs.rounds import Rounds

        loss.loss.check_probability(stop_at)
        check_numbers(delta=delta)
        settings = make_settings(gradient, strength, start_percent, end_percent)
        node, page = cls.hidden.unique_id, cls.hidden.extra_pnginfo
        return io.NodeOutput(
            Rounds(
                sampler,
                vae,
                loss,
                augmentation or VIEWS,
                settings,
                rounds,
                delta,
                stop_at,
                start_percent,
                end_percent,
                lambda n: Progress(node, n, page),
            )
        )


class RefereeAdapt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeAdapt",
            display_name="Adapt Model to Referee",
            category=CATEGORY,
            description="Runs Referee Rounds, and between rounds teaches the model the pictures just made, as a LoRA "
            "(Gradient Guidance, Algorithm 2): what the referee wants comes to be what the model paints by itself.",
            search_aliases=["adaptive fine-tuning", "train lora", "reward fine-tuning", "gradient guidance", "vlm"],
            inputs=[
                io.Model.Input("model", tooltip="The model to adapt: in fp32, bf16 or fp16, not quantised."),
                io.Conditioning.Input("positive", tooltip="The prompt for which it is adapted."),
                io.Conditioning.Input("negative", tooltip="What to avoid, as in KSampler."),
                io.Float.Input(
                    "cfg",
                    default=3.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Classifier-free guidance of the sampling, as in KSampler.",
                ),
                io.Sampler.Input("sampler", tooltip="Referee Rounds, with as many rounds as it is to learn in."),
                io.Sigmas.Input("sigmas", tooltip="The noise levels of each sampling, from BasicScheduler."),
                io.Latent.Input(
                    "latent_image", tooltip="An empty latent; a batch of several teaches more than one picture a round."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Of the pictures and of the learning. Same seed, same LoRA.",
                ),
                io.Int.Input(
                    "rank",
                    default=4,
                    min=1,
                    max=128,
                    tooltip="Size of the LoRA. Higher learns more detail and makes a larger file.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.00001,
                    min=0.0,
                    max=0.1,
                    step=0.000001,
                    round=0.0000001,
                    tooltip="How much it learns in a step. Too high and every picture comes to look alike; 0: nothing.",
                ),
                io.Int.Input(
                    "steps",
                    default=8,
                    min=1,
                    max=1000,
                    tooltip="Learning steps after each round. More follow its pictures more closely.",
                ),
            ],
            outputs=[
                io.Model.Output("model", tooltip="The model with its LoRA."),
                io.Custom("LORA_MODEL").Output("lora", tooltip="For Save LoRA Weights and Load LoRA Model."),
                io.Latent.Output("latent", tooltip="Each image's best picture of the rounds."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        negative: Any,
        cfg: float,
        sampler: Any,
        sigmas: Any,
        latent_image: dict,
        seed: int,
        rank: int,
        learning_rate: float,
        steps: int,
    ) -> io.NodeOutput:
        from .runs.adapter import adapt

        check_numbers(cfg=cfg, learning_rate=learning_rate)
        return io.NodeOutput(
            *adapt(model, positive, negative, cfg, sampler, sigmas, latent_image, seed, rank, learning_rate, steps)
        )
