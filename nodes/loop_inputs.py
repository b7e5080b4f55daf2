"""Inputs of the loop of Referee Can Play, and what they mean to the core."""

from typing import TYPE_CHECKING

from comfy_api.latest import io

if TYPE_CHECKING:
    from ..referee_core.methods.referee_can_play import LoopSettings


def _gradient_noise() -> io.Float.Input:
    return io.Float.Input(
        "gradient_noise",
        default=0.2,
        min=0.0,
        max=2.0,
        step=0.01,
        optional=True,
        tooltip="Noise on the referee's gradient, beside a prior. It makes w1 act: Adam would even out a constant "
        "factor. 0: the algorithm as printed, where w1 changes nothing.",
    )


def _preset() -> io.DynamicCombo.Input:
    reference_code = [
        _gradient_noise(),
        io.Int.Input(
            "warmup",
            default=10,
            min=0,
            max=1000,
            optional=True,
            tooltip="The first steps, in which the referee's learning rate rises to lr. 0: none.",
        ),
        io.Float.Input(
            "prior_lr",
            default=1.0,
            min=0.0,
            max=10.0,
            step=0.01,
            optional=True,
            tooltip="Learning rate of the prior, the same from start to end.",
        ),
        io.Float.Input(
            "tail_noise",
            default=0.01,
            min=0.0,
            max=2.0,
            step=0.01,
            optional=True,
            tooltip="Noise added to the latent in the last steps, at most as much as before. Lower gives a calmer end.",
        ),
        io.Float.Input(
            "weight_decay",
            default=0.0005,
            min=0.0,
            max=0.1,
            step=0.0001,
            round=0.0001,
            optional=True,
            tooltip="Pulls the latent towards grey, a little in each step.",
        ),
    ]
    return io.DynamicCombo.Input(
        "preset",
        options=[
            io.DynamicCombo.Option("paper", [_gradient_noise()]),
            io.DynamicCombo.Option("reference code", reference_code),
        ],
        tooltip="What this field sets stands below it. paper: as published. reference code: as in the authors' "
        "program. The other fields count in both.",
    )


def loop_inputs() -> list:
    """The loop's own numbers, the same on both nodes."""
    return [
        _preset(),
        io.Float.Input(
            "w1",
            default=2.0,
            min=0.0,
            max=100.0,
            step=0.1,
            tooltip="Strength of the referee relative to the prior. Higher obeys more and looks less natural; 0 "
            "leaves the referee out. Without a prior it changes nothing.",
        ),
        io.Float.Input(
            "lr",
            default=1.0,
            min=0.0,
            max=10.0,
            step=0.01,
            round=0.001,
            tooltip="Learning rate at the start: how far the latent moves in a step. Lower is calmer and needs more "
            "steps.",
        ),
        io.Float.Input(
            "lr_end",
            default=0.5,
            min=0.0,
            max=10.0,
            step=0.01,
            round=0.001,
            tooltip="Learning rate at the end, reached along a cosine.",
        ),
        io.Float.Input(
            "noise",
            default=0.2,
            min=0.0,
            max=2.0,
            step=0.01,
            tooltip="Noise added to the latent in each step. Helps out of dead ends; too much leaves grain. 0 leaves "
            "it out.",
        ),
        io.Int.Input(
            "tail",
            default=10,
            min=0,
            max=1000,
            tooltip="The last steps, in which only the prior acts and cleans up. 0 lets the referee play to the end.",
        ),
    ]


def views_at_once_input() -> io.Int.Input:
    return io.Int.Input(
        "views_at_once",
        default=0,
        min=0,
        max=256,
        advanced=True,
        tooltip="Augmented views that go through the referee together; 0: as many as fit. Fewer need less memory; the "
        "result is the same up to rounding.",
    )


def stop_inputs() -> list:
    return [
        io.Float.Input(
            "stop_at",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            advanced=True,
            tooltip="Stop early once every image matches with this probability in the mean of about ten steps, e.g. "
            "0.9 (the tail still follows). A picture that comes in and matches already is passed through. 0 never "
            "stops. Needs itm_weight above 0.",
        ),
        io.Int.Input(
            "patience",
            default=0,
            min=0,
            max=10000,
            advanced=True,
            tooltip="Stop early once the loss has not improved for so many steps (the tail still follows). 0 never "
            "stops.",
        ),
    ]


def make_loop_settings(
    steps: int, preset: dict | str, noise: float, lr: float, lr_end: float, views_at_once: int, **rest
) -> "LoopSettings":
    """The core's LoopSettings. ``preset`` is its name alone where another node calls this one; what a graph of an
    earlier version leaves out is None."""
    from dataclasses import replace

    from ..referee_core.methods.referee_can_play import PRESETS
    from ..referee_core.schedules import Schedule

    chosen = {"preset": preset} if isinstance(preset, str) else {k: v for k, v in preset.items() if v is not None}
    base = PRESETS[chosen.pop("preset")]
    if "prior_lr" in chosen:
        chosen["sds_lr"] = chosen.pop("prior_lr")
    base = replace(base, **chosen)
    tail_noise = None if base.tail_noise is None else min(base.tail_noise, noise)
    rest |= {"noise": noise, "lr": Schedule(lr, lr_end), "micro_batch": views_at_once, "tail_noise": tail_noise}
    return replace(base, steps=steps, **rest)
