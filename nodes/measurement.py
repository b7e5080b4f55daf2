"""Nodes of inverse problems: how a picture was measured, and a picture that is measured so."""

import torch
from comfy_api.latest import io

from .guidance import check_numbers
from .sockets import CATEGORY, LoadedMeasurement, MeasurementSocket

SOCKETS = {"inpainting": "mask", "blur kernel": "kernel"}  # which input a kind needs


def _deviation(name: str, where: str) -> io.Float.Input:
    return io.Float.Input(
        name,
        default=3.0,
        min=0.0,
        max=50.0,
        step=0.1,
        tooltip=f"Standard deviation of the blur {where}, in pixels. Higher blurs more; 0 leaves this direction sharp.",
    )


def _side(name: str) -> io.Int.Input:
    return io.Int.Input(
        name,
        default=128,
        min=1,
        max=16384,
        tooltip=f"The {name} of the missing box, in pixels. Higher leaves less. The box is in the middle.",
    )


def _seed() -> io.Int.Input:
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        tooltip="Another seed, another path of the camera or other missing pixels.",
    )


def _kind() -> io.DynamicCombo.Input:
    factor = io.Combo.Input(
        "factor",
        options=[2, 4, 8, 16],
        default=4,
        tooltip="How many times smaller the measured picture is, on each side. Higher keeps less.",
    )
    size = io.Int.Input(
        "size",
        default=61,
        min=3,
        max=255,
        step=2,
        tooltip="How far the camera moves, in pixels: the side of the kernel. Higher blurs more.",
    )
    intensity = io.Float.Input(
        "intensity",
        default=0.5,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="How much the camera's path bends. 0: a straight line. 1: many curls.",
    )
    missing = io.Float.Input(
        "missing",
        default=0.7,
        min=0.0,
        max=0.99,
        step=0.01,
        tooltip="The share of the pixels that is missing. Higher leaves fewer.",
    )
    quality = io.Int.Input(
        "quality",
        default=20,
        min=1,
        max=100,
        tooltip="As where a JPEG file is saved. Lower loses more.",
    )
    return io.DynamicCombo.Input(
        "kind",
        options=[
            io.DynamicCombo.Option("super-resolution", [factor]),
            io.DynamicCombo.Option(
                "gaussian blur", [_deviation("horizontal", "from left to right"), _deviation("vertical", "up and down")]
            ),
            io.DynamicCombo.Option("motion blur", [size, intensity, _seed()]),
            io.DynamicCombo.Option("blur kernel", []),
            io.DynamicCombo.Option("inpainting", []),
            io.DynamicCombo.Option("box", [_side("width"), _side("height")]),
            io.DynamicCombo.Option("random pixels", [missing, _seed()]),
            io.DynamicCombo.Option("jpeg", [quality]),
        ],
        tooltip="super-resolution: shrunk. gaussian blur: out of focus. motion blur: a shaken camera. blur kernel: "
        "your own blur. inpainting: your mask is missing. box: a box in the middle is missing. random pixels: single "
        "pixels are missing. jpeg: compressed.",
    )


class RefereeMeasurement(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeMeasurement",
            display_name="Measurement",
            category=CATEGORY,
            description="Says how a picture lost something: it was shrunk, blurred, compressed, or parts of it are "
            "missing.",
            search_aliases=[
                "inverse problem",
                "degradation",
                "forward operator",
                "super-resolution",
                "deblurring",
                "inpainting",
                "jpeg",
            ],
            inputs=[
                _kind(),
                io.Float.Input(
                    "noise",
                    default=0.01,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Standard deviation of the noise in the measured picture, where black is 0 and white is 1. "
                    "Higher is noisier. Papers give it for pictures from -1 to 1, which is twice this number.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="For inpainting, of the picture's size. White (from 0.5 on) is what is missing. One for "
                    "all pictures, or one each.",
                ),
                io.Image.Input(
                    "kernel",
                    optional=True,
                    tooltip="For blur kernel: one picture, smaller than the one that is measured. Its brightness is "
                    "what the blur makes of one bright pixel; its sum is set to 1.",
                ),
            ],
            outputs=[
                MeasurementSocket.Output(
                    "measurement", tooltip="Connect to Degrade Image, Inverse Sampler and Residual."
                )
            ],
        )

    @classmethod
    def execute(
        cls, kind: dict | str, noise: float, mask: torch.Tensor | None = None, kernel: torch.Tensor | None = None
    ) -> io.NodeOutput:
        from .bridge.measuring import KINDS

        values = {"kind": kind} if isinstance(kind, str) else dict(kind)
        name = values.pop("kind")
        if name in SOCKETS:
            socket = SOCKETS[name]
            given = {"mask": mask, "kernel": kernel}[socket]
            if given is None:
                raise ValueError(f"The kind '{name}' needs the input '{socket}': connect it.")
            values[socket] = given
        check_numbers(noise=noise, **{k: v for k, v in values.items() if isinstance(v, float)})
        return io.NodeOutput(KINDS[name](noise, **values))


class RefereeDegrade(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeDegrade",
            display_name="Degrade Image",
            category=CATEGORY,
            description="Measures pictures as Measurement says, with its noise: to try a restoration where the right "
            "answer is known.",
            search_aliases=["inverse problem", "degradation", "downscale", "blur", "add noise", "jpeg artifacts"],
            inputs=[
                io.Image.Input("images", tooltip="The pictures before anything was lost. Transparency is left out."),
                MeasurementSocket.Input("measurement", tooltip="What happens to them: from Measurement."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Another seed, other noise. Each further picture of a batch takes the next seed.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "images",
                    tooltip="The measured pictures: smaller after super-resolution, black where something is missing.",
                )
            ],
        )

    @classmethod
    def execute(cls, images: torch.Tensor, measurement: LoadedMeasurement, seed: int) -> io.NodeOutput:
        from ..referee_core.randomness import generators
        from ..referee_core.views import at_least_single
        from .bridge.inputs import check_finite, check_images

        check_images("images", images)
        check_finite("images", images)
        measurement.check_count(len(images))
        x = at_least_single(images[..., :3]).movedim(-1, 1)
        streams = generators([seed + i for i in range(len(x))], ["noise"])["noise"]
        y = measurement.make(*x.shape[-2:]).degrade(x, streams)
        return io.NodeOutput(y.movedim(1, -1).contiguous())
