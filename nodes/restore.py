"""Nodes that restore a measured picture, and show how true the result is to it."""

from typing import Any

import torch
from comfy_api.latest import io

from .guidance import check_numbers
from .node import Node
from .sockets import CATEGORY, LoadedMeasurement, MeasurementSocket

PRESETS: dict[str, dict[str, Any]] = {
    "projection": {"project_every": 1, "lam": 0.01},
    "P2L (paper)": {"prompt_steps": 1, "prompt_lr": 1e-4, "rho": 2.0, "project_every": 8, "lam": 1.0},
    "P2L, few steps": {"prompt_steps": 1, "prompt_lr": 1e-3, "rho": 2.0, "project_every": 4, "lam": 0.01},
    "LDPS": {"rho": 2.0},
    "FlowDPS": {"data_steps": 3, "rho": 1.0},
    "FMRG": {"data_steps": 3, "rho": 1.0},
}
FIXED: dict[str, dict[str, Any]] = {
    "projection": {"prompt_steps": 0, "through_model": False, "data_steps": 0},
    "LDPS": {"prompt_steps": 0, "project_every": 0},
    "FlowDPS": {"prompt_steps": 0, "project_every": 0, "through_model": False, "mixed": True},
    "FMRG": {"prompt_steps": 0, "project_every": 0, "through_model": False},
}
"""What a preset sets without a field for it."""


FIELDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "prompt_steps": (
        io.Int,
        {
            "min": 0,
            "max": 100,
            "tooltip": "Steps of Adam on the prompt in each sampling step (K). More fit the prompt better and cost a "
            "forward and a backward pass each; 0 leaves the prompt as it is.",
        },
    ),
    "prompt_lr": (
        io.Float,
        {
            "min": 0.0,
            "max": 1.0,
            "step": 1e-5,
            "round": 1e-6,
            "tooltip": "How far each of these steps moves the prompt. Higher adapts faster and may leave what the "
            "model knows.",
        },
    ),
    "rho": (
        io.Float,
        {
            "min": 0.0,
            "max": 100.0,
            "step": 0.05,
            "tooltip": "How far each step goes towards the measurement. Higher stays truer to it; too high breaks the "
            "picture up. With FlowDPS and FMRG, 1 goes as far as would reach it, to first order.",
        },
    ),
    "project_every": (
        io.Int,
        {
            "min": 0,
            "max": 1000,
            "tooltip": "Every so many steps the prediction becomes the nearest picture that fits the measurement, as "
            "the VAE's encoder gives it. Lower is truer to the measurement; 0: never.",
        },
    ),
    "lam": (
        io.Float,
        {
            "min": 1e-6,
            "max": 100.0,
            "step": 1e-4,
            "round": 1e-6,
            "tooltip": "How much of the prediction that keeps. Higher keeps more of it, lower fits the measurement "
            "more.",
        },
    ),
    "data_steps": (
        io.Int,
        {
            "min": 1,
            "max": 100,
            "tooltip": "Steps towards the measurement in each sampling step, through the VAE only. More are truer to "
            "it and slower.",
        },
    ),
}
"""Kind and options of each preset's fields."""


def _preset() -> io.DynamicCombo.Input:
    options = [
        io.DynamicCombo.Option(name, [FIELDS[k][0].Input(k, default=v, **FIELDS[k][1]) for k, v in fields.items()])
        for name, fields in PRESETS.items()
    ]
    return io.DynamicCombo.Input(
        "preset",
        options=options,
        tooltip="projection: each step's picture becomes the nearest one that fits yours; fast, for every model. P2L "
        "tunes the prompt too and pulls through the model; LDPS only pulls. FlowDPS and FMRG pull through the VAE.",
    )


class RefereeInverseSampler(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeInverseSampler",
            display_name="Inverse Sampler (P2L)",
            category=CATEGORY,
            description="Restores a picture that was shrunk, blurred, cut or compressed, so that measuring the result "
            "gives your picture again (P2L, ICML 2024). A SAMPLER for SamplerCustomAdvanced.",
            search_aliases=[
                "p2l",
                "restore",
                "inverse problem",
                "super resolution",
                "upscale",
                "deblur",
                "inpaint",
                "dps",
                "ldps",
                "psld",
                "flowdps",
                "faithful",
            ],
            inputs=[
                MeasurementSocket.Input("measurement", tooltip="How your picture came about, from Measurement."),
                io.Image.Input("measured", tooltip="Your picture, small, blurred or with holes as it is."),
                io.Vae.Input("vae", tooltip="The VAE of the model; most presets need gradients through its decoder."),
                _preset(),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            outputs=[
                io.Sampler.Output("sampler", tooltip="Connect to SamplerCustomAdvanced."),
                io.Latent.Output(
                    "latent",
                    tooltip="Your picture as a first guess in its full size, for the same node: with denoise below 1 "
                    "the sampler begins near it.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, measurement: LoadedMeasurement, measured: torch.Tensor, vae: Any, preset: dict | str
    ) -> io.NodeOutput:
        from ..referee_core.methods.p2l import P2LSettings
        from .bridge.inputs import check_finite, check_images
        from .bridge.show.panel import Progress
        from .runs.p2l import InverseSampler, Setup

        check_images("measured", measured)
        check_finite("measured", measured)
        chosen = {"preset": preset} if isinstance(preset, str) else dict(preset)
        name = chosen.pop("preset")
        numbers = PRESETS[name] | {k: v for k, v in chosen.items() if v is not None}
        check_numbers(**numbers)
        settings = P2LSettings(**numbers, **FIXED.get(name, {}))
        node, page = cls.hidden.unique_id, cls.hidden.extra_pnginfo
        setup = Setup(measurement, measured, vae, settings, lambda n: Progress(node, n, page))
        return io.NodeOutput(InverseSampler(setup), setup.first_latent())


class RefereeResidual(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeResidual",
            display_name="Residual",
            category=CATEGORY,
            description="Measures a restored picture again and shows what is left of your picture: grey where it is "
            "the same. With a mask, known pixels are put back as they were.",
            search_aliases=["proof", "consistency", "difference", "residual", "faithful"],
            inputs=[
                io.Image.Input("images", tooltip="The restored pictures."),
                MeasurementSocket.Input("measurement", tooltip="The same as in Inverse Sampler."),
                io.Image.Input("measured", tooltip="Your picture, as it went into Inverse Sampler."),
                io.Float.Input(
                    "gain",
                    default=5.0,
                    min=1.0,
                    max=100.0,
                    step=0.5,
                    tooltip="How many times larger the residual is drawn. Higher shows smaller differences.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                io.Image.Output(
                    "images", tooltip="The pictures, with known pixels as in 'measured' where there is a mask."
                ),
                io.Image.Output("residual", tooltip="Grey where the picture, measured again, is yours."),
                io.Float.Output(
                    "deviation",
                    is_output_list=True,
                    tooltip="Root mean square of the residual of each picture. A true one has the noise's.",
                ),
                io.String.Output("report", tooltip="One line a picture."),
            ],
        )

    @classmethod
    def execute(
        cls, images: torch.Tensor, measurement: LoadedMeasurement, measured: torch.Tensor, gain: float
    ) -> io.NodeOutput:
        from .bridge.inputs import check_finite, check_images
        from .bridge.measuring import look_back
        from .bridge.show.panel import show_text

        for name, pictures in (("images", images), ("measured", measured)):
            check_images(name, pictures)
            check_finite(name, pictures)
        kept, left, deviations, noise = look_back(images, measurement, measured)
        lines = [f"image {i}: residual {d:.4f} (noise {noise:.4f})" for i, d in enumerate(deviations, 1)]
        show_text(cls.hidden.unique_id, "\n".join(lines))
        return io.NodeOutput(kept, (0.5 + gain * left).clamp(0, 1), deviations, "\n".join(lines))
