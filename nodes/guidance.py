"""Nodes that guide a sampler by the referee: Gradient Guidance."""

import math
from typing import Any

from comfy_api.latest import io

from .node import Node
from .sockets import CATEGORY, AugmentationSocket, LoadedLoss, LossSocket


def _gradient() -> io.DynamicCombo.Input:
    steps = io.Int.Input(
        "steps",
        default=1,
        min=1,
        max=50,
        optional=True,
        tooltip="Gradient steps on each prediction; they share the strength. More follow the referee more closely and "
        "cost a decode and the views each.",
    )
    return io.DynamicCombo.Input(
        "gradient",
        options=[
            io.DynamicCombo.Option("prediction", [steps]),
            io.DynamicCombo.Option("look-ahead", []),
            io.DynamicCombo.Option("naive", []),
        ],
        tooltip="prediction: through VAE and referee only; any MODEL, quantised and compiled ones too. look-ahead: "
        "through the MODEL as well, as the paper; it needs more memory and about three times the MODEL's time. naive: "
        "the paper's counter-example.",
    )


def strength_input(share: float, of_rounds: bool = False) -> io.DynamicCombo.Input:
    """share: the default of relative. of_rounds: the aim, delta, is an input of its own, and serves all three."""
    shares = io.Float.Input(
        "share",
        default=share,
        min=0.0,
        max=2.0,
        step=0.01,
        optional=True,
        tooltip="Of the way that is still to go, how far each step is moved. Higher obeys more; too high gives "
        "unnatural pictures. 0: plain sampling.",
    )
    delta = io.Float.Input(
        "delta",
        default=1.0,
        min=0.0,
        max=100.0,
        step=0.1,
        optional=True,
        tooltip="By how much each step is to lower the loss. 0: plain sampling.",
    )
    deviation = io.Float.Input(
        "deviation",
        default=0.1,
        min=0.001,
        max=10.0,
        step=0.01,
        optional=True,
        tooltip="How exactly delta is to be reached (the paper's sigma). Higher is gentler where the gradient is weak.",
    )
    beta = io.Float.Input(
        "beta",
        default=1.0,
        min=0.0,
        max=10000.0,
        step=0.1,
        optional=True,
        tooltip="Factor on the gradient as it is. What fits depends on referee, model and size. 0: plain sampling.",
    )
    return io.DynamicCombo.Input(
        "strength",
        options=[
            io.DynamicCombo.Option("relative", [shares]),
            io.DynamicCombo.Option("trust region", [deviation] if of_rounds else [delta, deviation]),
            io.DynamicCombo.Option("constant", [beta]),
        ],
        tooltip="relative: each step moves by a share of the way, whatever the gradient's size. trust region: by what "
        "lowers the loss by delta, as in the paper's theory. constant: beta times the gradient, as in its pictures.",
    )


def range_inputs() -> list:
    """Where in the sampling the guidance acts."""
    return [
        io.Float.Input(
            "start_percent",
            default=0.25,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Where in the sampling the guidance begins. Before a quarter there is little to "
            "see; later saves time and leaves the layout alone.",
        ),
        io.Float.Input(
            "end_percent",
            default=0.7,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Where it ends. Guided to the very end, pictures please the referee alone: leave the last "
            "third to the model.",
        ),
    ]


def check_numbers(**numbers: float) -> None:
    """Raises ValueError where one is NaN or infinite, which ComfyUI lets through."""
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise ValueError(f"The input '{name}' must be a number, got {number}.")


def make_settings(gradient: dict | str, strength: dict | str, start_percent: float, end_percent: float) -> Any:
    """The core's GuidanceSettings; its strength is false where it moves nothing."""
    from ..referee_core.methods import gradient_guidance as core

    kinds = {"relative": core.Relative, "trust region": core.TrustRegion, "constant": core.Constant}
    kind, numbers = _chosen("strength", strength)
    check_numbers(**numbers, start_percent=start_percent, end_percent=end_percent)
    if start_percent > end_percent:
        raise ValueError(
            f"The input 'start_percent' ({start_percent}) is larger than 'end_percent' ({end_percent}): exchange them."
        )
    amount = kinds[kind](**numbers)
    kind, numbers = _chosen("gradient", gradient)
    return core.GuidanceSettings(kind, amount, **numbers)


class RefereeGuidance(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeGuidance",
            display_name="Referee Guidance",
            category=CATEGORY,
            description="Lets the referee guide any sampler: in each step the picture that the model predicts is moved "
            "towards the text (Gradient Guidance, NeurIPS 2024). Insert it before KSampler or a guider.",
            search_aliases=[
                "gradient guidance",
                "universal guidance",
                "clip guidance",
                "dps",
                "freedom",
                "mpgd",
                "vlm",
                "prompt adherence",
                "reward guidance",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model, with its LoRAs and other patches."),
                io.Vae.Input("vae", tooltip="Decodes the predicted pictures; gradients pass through it."),
                LossSocket.Input("loss", tooltip="What the referee should see."),
                AugmentationSocket.Input(
                    "augmentation",
                    optional=True,
                    tooltip="The random views by which each predicted picture is judged. Without it: 2 gentle ones. "
                    "More are steadier and slower.",
                ),
                _gradient(),
                strength_input(share=0.2),
                *range_inputs(),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            outputs=[io.Model.Output("model", tooltip="The guided model, for any sampler or guider.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        vae: Any,
        loss: LoadedLoss,
        gradient: dict | str,
        strength: dict | str,
        start_percent: float,
        end_percent: float,
        augmentation: Any = None,
    ) -> io.NodeOutput:
        from .bridge.show.panel import Progress
        from .runs.guidance import VIEWS, Guidance

        settings = make_settings(gradient, strength, start_percent, end_percent)
        if not settings.strength:
            return io.NodeOutput(model)
        node, page = cls.hidden.unique_id, cls.hidden.extra_pnginfo
        guidance = Guidance(
            vae, loss, augmentation or VIEWS, settings, start_percent, end_percent, lambda n: Progress(node, n, page)
        )
        return io.NodeOutput(guidance.attach(model))


def _chosen(name: str, value: dict | str) -> tuple[str, dict]:
    """What a DynamicCombo says: the option, and its own fields; the option alone where another node calls this one."""
    chosen = {name: value} if isinstance(value, str) else {k: v for k, v in value.items() if v is not None}
    return chosen.pop(name), chosen
