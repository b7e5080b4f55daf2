"""Nodes that run Referee Can Play: all in one, and as a SAMPLER."""

from comfy_api.latest import io

from .sockets import CATEGORY, AugmentationSocket, Averaging, History, Loss, PriorSocket


def _loop_inputs() -> list:
    """The loop's own numbers, the same on both nodes."""
    return [
        io.Combo.Input(
            "preset", options=["paper", "reference code"], default="paper",
            tooltip="paper: as published. reference code: as in the authors' program, which adds a warm-up of 10 steps and noise on the "
            "referee's gradient, calms the last steps, and moves the prior at a constant rate. The fields below count in both.",
        ),
        io.Float.Input(
            "w1", default=2.0, min=0.0, max=100.0, step=0.1,
            tooltip="Strength of the referee relative to the prior. 0 leaves the referee out. With the preset 'paper' Adam evens out "
            "constant factors, so other values change nothing: turn the prior's weight instead.",
        ),
        io.Float.Input(
            "lr", default=1.0, min=0.0, max=10.0, step=0.01, round=0.001,
            tooltip="Learning rate at the start: how far the latent moves in a step. Lower is calmer and needs more steps.",
        ),
        io.Float.Input(
            "lr_end", default=0.5, min=0.0, max=10.0, step=0.01, round=0.001,
            tooltip="Learning rate at the end, reached along a cosine.",
        ),
        io.Float.Input(
            "noise", default=0.2, min=0.0, max=2.0, step=0.01,
            tooltip="Noise added to the latent in each step. Helps out of dead ends; too much leaves grain. 0 leaves it out.",
        ),
        io.Int.Input(
            "tail", default=10, min=0, max=1000,
            tooltip="The last steps, in which only the prior acts and cleans up. 0 lets the referee play to the end.",
        ),
    ]  # fmt: skip


def _views_at_once() -> io.Int.Input:
    return io.Int.Input(
        "views_at_once", default=0, min=0, max=256, advanced=True,
        tooltip="Augmented views that go through the referee together; 0: as many as fit. Fewer need less memory; the result is "
        "the same up to rounding.",
    )  # fmt: skip


def _stops() -> list:
    return [
        io.Float.Input(
            "stop_at", default=0.0, min=0.0, max=1.0, step=0.01, advanced=True,
            tooltip="Stop early once every image matches with this probability, e.g. 0.95 (the tail still follows). 0 never stops. "
            "Needs itm_weight above 0.",
        ),
        io.Int.Input(
            "patience", default=0, min=0, max=10000, advanced=True,
            tooltip="Stop early once the loss has not improved for so many steps (the tail still follows). 0 never stops.",
        ),
    ]  # fmt: skip


def _settings(steps, preset, w1, lr, lr_end, noise, tail, views_at_once, stop_at, patience):
    from dataclasses import replace

    from ..referee_core.methods.referee_can_play import PRESETS

    base = PRESETS[preset]
    schedule = replace(base.lr, start=lr, end=lr_end)
    return replace(
        base, steps=steps, w1=w1, lr=schedule, noise=noise, tail=tail, micro_batch=views_at_once, stop_at=stop_at,
        patience=patience, tail_noise=None if base.tail_noise is None else min(base.tail_noise, noise),
    )  # fmt: skip


class RefereeOptimizer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeOptimizer",
            display_name="Referee Optimizer",
            category=CATEGORY,
            description="Optimises a latent until the referee agrees with the text (Referee Can Play, ICML 2024). A loss alone is "
            "inversion, a prior alone is score distillation, both together are the method.",
            search_aliases=["referee can play", "blip2 optimization", "prompt adherence", "latent optimization", "model inversion"],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            inputs=[
                io.Vae.Input("vae", tooltip="Decodes the latent; gradients pass through it. Image VAEs only (SD 1.5, SDXL, SD3, Flux)."),
                io.Latent.Input(
                    "latent_image", tooltip="Where to start. An empty latent starts from noise; a picture's latent starts there. "
                    "A noise mask limits the change to the masked part."
                ),
                Loss.Input("loss", optional=True, tooltip="What the referee should see. Without it the prior acts alone."),
                PriorSocket.Input("prior", optional=True, tooltip="Keeps the picture natural. Without it the referee acts alone."),
                AugmentationSocket.Input(
                    "augmentation", optional=True, tooltip="Random views for the referee. Without it the picture turns adversarial."
                ),
                Averaging.Input("averaging", optional=True, tooltip="EMA-Restart. Without it the run is less stable."),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                    tooltip="Same seed, same image.",
                ),
                io.Int.Input(
                    "steps", default=160, min=1, max=10000, tooltip="Iterations. The paper: 160. More obey better and take longer."
                ),
                *_loop_inputs(),
                io.Combo.Input(
                    "result", options=["last", "best"], default="last", advanced=True,
                    tooltip="last: the final latent, as published. best: the one with the lowest referee loss on the way.",
                ),
                io.Int.Input(
                    "record_every", default=10, min=1, max=1000, advanced=True,
                    tooltip="Steps between the pictures kept for Filmstrip and Gradient View.",
                ),
                _views_at_once(),
                *_stops(),
                History.Input(
                    "resume", optional=True, tooltip="A finished run to go on with; steps counts from its beginning. Keep the other "
                    "inputs as they were."
                ),
            ],
            outputs=[
                io.Latent.Output("latent", tooltip="The optimised latent."),
                io.Image.Output("image", tooltip="The optimised image, decoded."),
                History.Output("history", tooltip="For History Plot, Filmstrip and Gradient View, and to go on from."),
                io.Float.Output(
                    "scores", is_output_list=True, tooltip="Probability that each finished image matches, from 0 to 1, without "
                    "augmentation. 0 without a matching loss."
                ),
                io.String.Output("report", tooltip="The losses of each finished image, without augmentation."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, vae, latent_image, seed, steps, preset, w1, lr, lr_end, noise, tail, views_at_once, result, record_every, stop_at,
        patience, loss=None, prior=None, augmentation=None, averaging=None, resume=None,
    ) -> io.NodeOutput:  # fmt: skip
        from ..referee_core.record import History as Run
        from .bridge.live import Progress, hidden_inputs
        from .bridge.sampler import Game, run
        from .bridge.scoring import score

        if loss is None and prior is None:
            raise ValueError(
                "Nothing to optimise: connect a Referee Loss to 'loss', an SDS Guidance to 'prior', or both."
            )
        settings = _settings(steps, preset, w1, lr, lr_end, noise, tail, views_at_once, stop_at, patience)
        game = Game(
            vae, loss, augmentation=augmentation, averaging=averaging, settings=settings, resume=resume and resume.state
        )
        node_id, extra_pnginfo = hidden_inputs(cls)
        history, progress = Run(every=record_every), Progress(node_id, steps, extra_pnginfo)

        def on_step(step, decode):
            history.add(step, decode)
            progress.update(step, decode)

        latent, image = run(game, prior, latent_image, seed, on_step, best=result == "best", history=history)
        scores = score(loss, image) if loss is not None else None
        progress.finish(history.final, scores)
        matches, report = [], ""
        if scores is not None:
            scores.write_into(extra_pnginfo, node_id)
            matches, report = [m if m is not None else 0.0 for m in scores.matches], scores.report()
        return io.NodeOutput(latent, image, history, matches or [0.0] * len(image), report)


class RefereeSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeSampler",
            display_name="Referee Sampler",
            category=CATEGORY,
            description="Referee Can Play as a SAMPLER for SamplerCustomAdvanced: the guider is the prior, the number of sigmas "
            "sets the number of steps. Curves and pictures of the run come only from Referee Optimizer.",
            search_aliases=["referee can play sampler", "blip2 sampler"],
            inputs=[
                io.Vae.Input("vae", tooltip="Decodes the latent; gradients pass through it. Image VAEs only."),
                Loss.Input("loss", optional=True, tooltip="What the referee should see. Without it the prior acts alone."),
                AugmentationSocket.Input("augmentation", optional=True, tooltip="Random views for the referee."),
                Averaging.Input("averaging", optional=True, tooltip="EMA-Restart."),
                io.Float.Input(
                    "weight", default=800.0, min=0.0, max=10000.0, step=10.0,
                    tooltip="How strongly the guider's model pulls in the first step (w2). 0 here and at the end leaves it out.",
                ),
                io.Float.Input(
                    "weight_end", default=400.0, min=0.0, max=10000.0, step=10.0, tooltip="The pull in the last step."
                ),
                io.Combo.Input(
                    "schedule", options=["cosine", "linear", "constant"], default="cosine",
                    tooltip="How the weight goes from start to end; constant keeps the first value.",
                ),
                io.Int.Input("t_min", default=50, min=0, max=999, advanced=True, tooltip="Smallest timestep of score distillation."),
                io.Int.Input("t_max", default=949, min=0, max=999, advanced=True, tooltip="Largest timestep of score distillation."),
                *_loop_inputs(),
                _views_at_once(),
                *_stops(),
            ],
            outputs=[io.Sampler.Output("sampler", tooltip="Connect to SamplerCustomAdvanced.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, vae, weight, weight_end, schedule, t_min, t_max, preset, w1, lr, lr_end, noise, tail, views_at_once, stop_at,
        patience, loss=None, augmentation=None, averaging=None,
    ) -> io.NodeOutput:  # fmt: skip
        from ..referee_core.schedules import Schedule
        from .bridge.sampler import Game, RefereeCanPlay

        if loss is None and not (weight or weight_end):
            raise ValueError("Nothing to optimise: connect a Referee Loss to 'loss', or give 'weight' a value.")
        if t_min > t_max:
            raise ValueError(f"The input 't_min' ({t_min}) is larger than 't_max' ({t_max}): exchange them.")
        settings = _settings(1, preset, w1, lr, lr_end, noise, tail, views_at_once, stop_at, patience)
        prior = Schedule(weight, weight_end, schedule)
        return io.NodeOutput(RefereeCanPlay(Game(vae, loss, prior, t_min, t_max, augmentation, averaging, settings)))
