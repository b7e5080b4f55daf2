"""Nodes that keep a run from accidents: augmentation, EMA-restart."""

from comfy_api.latest import io

from .sockets import CATEGORY, AugmentationSocket, AveragingSocket


def _count(default: int) -> io.Int.Input:
    return io.Int.Input(
        "count",
        default=default,
        min=1,
        max=256,
        tooltip="Views judged in each step. More make the picture cleaner and each step slower; the paper's tables "
        "use 30.",
    )


def _keep() -> io.Int.Input:
    return io.Int.Input(
        "keep",
        default=0,
        min=0,
        max=256,
        advanced=True,
        tooltip="Hard mining: only this many views, those with the highest loss, give gradients. 0 uses all.",
    )


def _strength(name: str, default: float, most: float, tooltip: str, step: float = 0.01) -> io.Float.Input:
    return io.Float.Input(name, default=default, min=0.0, max=most, step=step, tooltip=tooltip + " 0 leaves it out.")


class RefereeAugmentation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        custom = [
            _count(30),
            _keep(),
            _strength("rotation", 30.0, 180.0, "Largest turn in degrees.", step=1.0),
            _strength("translation", 0.1, 0.5, "Largest shift, as a share of the picture."),
            _strength("perspective", 0.2, 1.0, "Tilt of the picture plane, in 40 % of the views."),
            _strength(
                "colour",
                0.1,
                0.5,
                "Change of brightness, contrast, saturation and hue, in half of the views. Too "
                "much makes colour words meaningless.",
            ),
            _strength("erasing", 0.4, 0.9, "Largest share of the picture painted black in a box."),
            _strength("noise", 0.1, 1.0, "Largest spread of the noise on a view. Smooths away adversarial specks."),
            io.Boolean.Input(
                "flip",
                default=False,
                advanced=True,
                tooltip="Mirror half of the views. Off in the paper: it turns left into right.",
            ),
            io.Float.Input(
                "crop",
                default=0.0,
                min=0.0,
                max=0.9,
                step=0.01,
                advanced=True,
                tooltip="Zoom in by up to this share. Off in the paper: it can cut off what the text names. 0 leaves "
                "it out.",
            ),
        ]
        return io.Schema(
            node_id="RefereeAugmentation",
            display_name="Augmentation Regularizer",
            category=CATEGORY,
            description="The referee judges many random views instead of the one image, so that it cannot be fooled "
            "by specks.",
            search_aliases=["augmentations", "random views", "adversarial regularization"],
            inputs=[
                io.DynamicCombo.Input(
                    "preset",
                    options=[
                        io.DynamicCombo.Option("paper", [_count(30), _keep()]),
                        io.DynamicCombo.Option("reference code", [_count(10), _keep()]),
                        io.DynamicCombo.Option("custom", custom),
                        io.DynamicCombo.Option("none", []),
                    ],
                    tooltip="paper: the published maps. reference code: as in the authors' program (10 views, one "
                    "erased box for all, more noise). custom: your own strengths. none: the bare image, which ends in "
                    "an adversarial picture.",
                )
            ],
            outputs=[
                AugmentationSocket.Output("augmentation", tooltip="Connect to Referee Optimizer or Referee Sampler.")
            ],
        )

    @classmethod
    def execute(cls, preset: dict) -> io.NodeOutput:
        from dataclasses import replace

        from ..referee_core.augment import PAPER, PRESETS

        values = dict(preset)
        base = PRESETS.get(values.pop("preset"), PAPER)
        return io.NodeOutput(replace(base, **values))


class RefereeEMARestart(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeEMARestart",
            display_name="EMA-Restart",
            category=CATEGORY,
            description="Now and then the latent jumps back to its own running average: fewer accidents, cleaner "
            "pictures.",
            search_aliases=["exponential moving average", "restart"],
            inputs=[
                io.Float.Input(
                    "decay",
                    default=0.95,
                    min=0.0,
                    max=0.999,
                    step=0.005,
                    round=0.001,
                    tooltip="How slowly the average follows. Higher looks back further.",
                ),
                io.Int.Input(
                    "start",
                    default=40,
                    min=1,
                    max=10000,
                    tooltip="Step of the first restart. The paper: 40 of 160; it does not follow the number of steps.",
                ),
                io.Int.Input(
                    "interval",
                    default=60,
                    min=0,
                    max=10000,
                    tooltip="Steps between restarts. The paper: 60, so steps 40 and 100. 0 restarts once.",
                ),
            ],
            outputs=[AveragingSocket.Output("averaging", tooltip="Connect to Referee Optimizer or Referee Sampler.")],
        )

    @classmethod
    def execute(cls, decay: float, start: int, interval: int) -> io.NodeOutput:
        from ..referee_core.averaging import EMARestart

        return io.NodeOutput(EMARestart(decay, start, interval))
