"""Nodes for what keeps the image natural: one a prior of the core."""

from collections.abc import Callable
from typing import Any

from comfy_api.latest import io

from .sockets import CATEGORY, LoadedPrior, PriorSocket


def sds_inputs() -> list:
    """The numbers of score distillation, for each node that offers it."""
    return [
        io.Float.Input(
            "weight",
            default=800.0,
            min=0.0,
            max=10000.0,
            step=10.0,
            tooltip="How strongly the diffusion model pulls in the first step (w2). More: more natural, less obedient. "
            "The paper: 800. 0 here and at the end leaves it out.",
        ),
        io.Float.Input(
            "weight_end",
            default=400.0,
            min=0.0,
            max=10000.0,
            step=10.0,
            tooltip="The pull in the last step. Lower than at the start lets the referee finish details. The paper: "
            "400.",
        ),
        io.Combo.Input(
            "schedule",
            options=["cosine", "linear", "constant"],
            default="cosine",
            tooltip="How the weight goes from start to end; constant keeps the first value.",
        ),
        io.Int.Input(
            "t_min",
            default=50,
            min=0,
            max=999,
            advanced=True,
            tooltip="Smallest timestep (of 1000) at which the model is asked. Raise it to care less about fine detail.",
        ),
        io.Int.Input(
            "t_max",
            default=949,
            min=0,
            max=999,
            advanced=True,
            tooltip="Largest timestep at which the model is asked. Lower it to keep an existing layout.",
        ),
    ]


def make_sds(weight: float, weight_end: float, schedule: str, t_min: int, t_max: int) -> Callable:
    """What makes the prior from a Denoiser."""
    from functools import partial

    from ..referee_core.priors.sds import SDS
    from ..referee_core.schedules import Schedule

    if t_min > t_max:
        raise ValueError(f"The input 't_min' ({t_min}) is larger than 't_max' ({t_max}): exchange them.")
    return partial(SDS, weight=Schedule(weight, weight_end, schedule), t_min=t_min, t_max=t_max)


class RefereeSDSGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeSDSGuidance",
            display_name="SDS Guidance",
            category=CATEGORY,
            description="Score distillation from a MODEL, with its LoRAs and ControlNets: keeps the optimised image "
            "natural.",
            search_aliases=["score distillation sampling", "dreamfusion", "diffusion prior"],
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model that knows what pictures look like."),
                io.Conditioning.Input(
                    "positive", tooltip="What the diffusion model pulls towards: usually the same prompt."
                ),
                io.Conditioning.Input("negative", tooltip="What it pushes away from: usually the empty prompt."),
                io.Float.Input(
                    "cfg",
                    default=30.0,
                    min=0.0,
                    max=100.0,
                    step=0.5,
                    round=0.01,
                    tooltip="Guidance scale. High values (the paper: 30) give clear shapes, very high ones glaring "
                    "colours.",
                ),
                *sds_inputs(),
            ],
            outputs=[PriorSocket.Output("prior", tooltip="Connect to Referee Optimizer.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: list,
        negative: list,
        cfg: float,
        weight: float,
        weight_end: float,
        schedule: str,
        t_min: int,
        t_max: int,
    ) -> io.NodeOutput:
        return io.NodeOutput(
            LoadedPrior(model, positive, negative, cfg, make_sds(weight, weight_end, schedule, t_min, t_max))
        )
