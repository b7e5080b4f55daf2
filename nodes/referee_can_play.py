"""Nodes that run Referee Can Play: all in one, and as a SAMPLER."""

from typing import Any

from comfy_api.latest import io

from .loop_inputs import loop_inputs, make_loop_settings, stop_inputs, views_at_once_input
from .node import Node
from .priors import make_sds, sds_inputs
from .sockets import (
    CATEGORY,
    AugmentationSocket,
    AveragingSocket,
    HistorySocket,
    LoadedLoss,
    LoadedPrior,
    LossSocket,
    PriorSocket,
)


class RefereeOptimizer(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeOptimizer",
            display_name="Referee Optimizer",
            category=CATEGORY,
            description="Optimises a latent until the referee agrees with the text (Referee Can Play, ICML 2024). A "
            "loss alone is inversion, a prior alone is score distillation, both together are the method.",
            search_aliases=[
                "referee can play",
                "blip",
                "blip2 optimization",
                "vlm",
                "prompt adherence",
                "latent optimization",
                "model inversion",
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            inputs=[
                io.Vae.Input(
                    "vae",
                    tooltip="Decodes the latent; gradients pass through it. VAEs of image models only, such as "
                    "SD 1.5, SDXL, SD3, Flux, Qwen-Image.",
                ),
                io.Latent.Input(
                    "latent_image",
                    tooltip="Where to start. An empty latent starts from noise; a picture's latent "
                    "starts there. A noise mask limits the change to the masked part, and a soft one feathers it.",
                ),
                LossSocket.Input(
                    "loss", optional=True, tooltip="What the referee should see. Without it the prior acts alone."
                ),
                PriorSocket.Input(
                    "prior", optional=True, tooltip="Keeps the picture natural. Without it the referee acts alone."
                ),
                AugmentationSocket.Input(
                    "augmentation",
                    optional=True,
                    tooltip="Random views for the referee. Without it the picture turns adversarial.",
                ),
                AveragingSocket.Input(
                    "averaging", optional=True, tooltip="EMA-Restart. Without it the run is less stable."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Same seed, same image.",
                ),
                io.Int.Input(
                    "steps",
                    default=160,
                    min=1,
                    max=10000,
                    tooltip="Iterations. The paper: 160. More obey better and take longer.",
                ),
                *loop_inputs(),
                io.Combo.Input(
                    "result",
                    options=["last", "best", "best of start and run"],
                    default="last",
                    advanced=True,
                    tooltip="last: the final latent, as published. best: the one with the lowest referee loss on the "
                    "way. best of start and run: the best of these and of the picture that came in, so that nothing "
                    "gets worse.",
                ),
                io.Int.Input(
                    "record_every",
                    default=10,
                    min=1,
                    max=1000,
                    advanced=True,
                    tooltip="Steps between the pictures kept for Filmstrip and Gradient View.",
                ),
                views_at_once_input(),
                *stop_inputs(),
                HistorySocket.Input(
                    "resume",
                    optional=True,
                    tooltip="A finished run to go on with; steps counts from its beginning. "
                    "Keep the other inputs as they were.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="Only without a prior: the model that the VAE belongs to, whose "
                    "scale of latents is used. Without it SD 1.5's is, where the VAE allows it.",
                ),
            ],
            outputs=[
                io.Latent.Output("latent", tooltip="The optimised latent."),
                io.Image.Output("image", tooltip="The optimised image, decoded."),
                HistorySocket.Output(
                    "history", tooltip="For History Plot, Filmstrip and Gradient View, and to go on from."
                ),
                io.Float.Output(
                    "scores",
                    is_output_list=True,
                    tooltip="Probability that each finished image matches, from 0 to 1, "
                    "without augmentation. None without a matching loss.",
                ),
                io.String.Output("report", tooltip="The losses of each finished image, without augmentation."),
            ],
        )

    @classmethod
    def execute(
        cls,
        vae: Any,
        latent_image: dict,
        seed: int,
        steps: int,
        preset: dict | str,
        w1: float,
        lr: float,
        lr_end: float,
        noise: float,
        tail: int,
        result: str,
        record_every: int,
        views_at_once: int,
        stop_at: float,
        patience: int,
        loss: LoadedLoss | None = None,
        prior: LoadedPrior | None = None,
        augmentation: Any = None,
        averaging: Any = None,
        resume: Any = None,
        model: Any = None,
    ) -> io.NodeOutput:
        from ..referee_core.record import History
        from .bridge.judging.scores import score
        from .bridge.show.panel import Progress
        from .runs.optimizer import run
        from .runs.referee_can_play import Setup, log

        notes: list[str] = []
        matches: list[float | None] = [None] * len(latent_image["samples"])
        report = ""

        def note(text: str) -> None:
            log(text)
            notes.append(text)

        with Progress(cls.hidden.unique_id, steps, cls.hidden.extra_pnginfo) as progress:
            if loss is None and prior is None:
                raise ValueError(
                    "Nothing to optimise: connect a Referee Loss to 'loss', an SDS Guidance to 'prior', or both."
                )
            settings = make_loop_settings(
                steps, preset, noise, lr, lr_end, views_at_once, w1=w1, tail=tail, stop_at=stop_at, patience=patience
            )
            resumed = resume and resume.state
            setup = Setup(vae, loss, None, augmentation, averaging, settings, resume=resumed, note=note)
            history = History.after(resume, record_every) if resume else History(every=record_every)

            def on_step(step):
                history.add(step)
                progress.update(step)
                return progress.finish_asked

            latent, image = run(setup, prior, latent_image, seed, on_step, result, history, model)
            scores = score(loss, image) if loss is not None else None
            progress.finish(history.final, scores, notes)
        if scores is not None:
            scores.write_into(cls.hidden, "Referee Optimizer")
            matches, report = scores.matches, scores.report()
        return io.NodeOutput(latent, image, history, matches, report)


class RefereeSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeSampler",
            display_name="Referee Sampler",
            category=CATEGORY,
            description="Referee Can Play as a SAMPLER for SamplerCustomAdvanced: the guider is the prior, the number "
            "of sigmas sets the number of steps. Curves and pictures of the run come only from Referee Optimizer.",
            search_aliases=["referee can play sampler", "blip", "blip2 sampler", "vlm"],
            inputs=[
                io.Vae.Input(
                    "vae", tooltip="Decodes the latent; gradients pass through it. VAEs of image models only."
                ),
                LossSocket.Input(
                    "loss", optional=True, tooltip="What the referee should see. Without it the prior acts alone."
                ),
                AugmentationSocket.Input("augmentation", optional=True, tooltip="Random views for the referee."),
                AveragingSocket.Input("averaging", optional=True, tooltip="EMA-Restart."),
                *sds_inputs(),
                *loop_inputs(),
                views_at_once_input(),
                *stop_inputs(),
            ],
            outputs=[io.Sampler.Output("sampler", tooltip="Connect to SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(
        cls,
        vae: Any,
        weight: float,
        weight_end: float,
        schedule: str,
        t_min: int,
        t_max: int,
        preset: dict | str,
        w1: float,
        lr: float,
        lr_end: float,
        noise: float,
        tail: int,
        views_at_once: int,
        stop_at: float,
        patience: int,
        loss: LoadedLoss | None = None,
        augmentation: Any = None,
        averaging: Any = None,
    ) -> io.NodeOutput:
        from .runs.referee_can_play import RefereeCanPlay, Setup

        if loss is None and not (weight or weight_end):
            raise ValueError("Nothing to optimise: connect a Referee Loss to 'loss', or give 'weight' a value.")
        settings = make_loop_settings(
            1, preset, noise, lr, lr_end, views_at_once, w1=w1, tail=tail, stop_at=stop_at, patience=patience
        )
        prior = make_sds(weight, weight_end, schedule, t_min, t_max)
        return io.NodeOutput(RefereeCanPlay(Setup(vae, loss, prior, augmentation, averaging, settings)))
