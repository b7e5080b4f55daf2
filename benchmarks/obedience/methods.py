"""The methods that are compared, each as a graph of ComfyUI: one function a method."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from scripts.graphs.parts import DEMO, PAPER
from scripts.server import Graph

from .cost import Calls

AT_ONCE = 8  # attempts of plain sampling in a batch
CALLS_A_STEP = {"heun": 2, "dpm_2": 2, "dpmpp_sde": 2, "dpmpp_2s_ancestral": 2, "dpm_2_ancestral": 2}
JUDGED = Calls(decodes=1, views=8)  # a finished picture in RefereeSearch, by its own gentle views


@dataclass(frozen=True)
class Method:
    """A way to make pictures.

    Attributes:
        graph: (prompt, seed, pictures) -> a graph whose last node saves that many pictures, made from ``seed`` on.
        calls: steps that a picture took -> its calls. pictures: how many are asked for at a time.
    """

    name: str
    graph: Callable[[str, int, int], Graph]
    calls: Callable[[int], Calls]
    pictures: int = 1


def plain(sampler: str, steps: int, cfg: float, scheduler: str = "normal", pictures: int = 32) -> Method:
    """Sampling as its user would tune it, each picture judged."""

    def graph(prompt: str, seed: int, pictures: int) -> Graph:
        g, scene = _begin(prompt)
        _search(g, scene, g.add("KSamplerSelect", sampler_name=sampler)[0], scheduler, steps, cfg, seed, pictures)
        return g

    def calls(made: int) -> Calls:
        return Calls(pairs=made * CALLS_A_STEP.get(sampler, 1)) + JUDGED

    return Method(f"{sampler} {scheduler} {steps} steps CFG {cfg:g}", graph, calls, pictures)


def referee_can_play(name: str, preset: dict, pictures: int) -> Method:
    """The method with the settings of a bundled graph (scripts/make_workflows.py), each picture judged at the end."""
    loop, prior, views = preset["loop"], preset["prior"], preset["augmentation"]
    steps, tail = loop["steps"], loop.get("tail", 10)

    def graph(prompt: str, seed: int, pictures: int) -> Graph:
        g, scene = _begin(prompt)
        chosen = {key: value for key, value in loop.items() if key != "steps"}
        seen = {"preset": views["preset"]} | {f"preset__{k}": v for k, v in views.items() if k != "preset"}
        weights = {key: prior[key] for key in ("weight", "weight_end")}
        sampler = g.add(
            "RefereeSampler", vae=scene.vae, loss=scene.loss,
            augmentation=g.add("RefereeAugmentation", **seen)[0],
            averaging=g.add("RefereeEMARestart", **preset["averaging"])[0],
            **weights, **{k.replace(".", "__"): v for k, v in chosen.items()},
        )[0]  # fmt: skip
        _search(g, scene, sampler, "simple", steps, prior["cfg"], seed, pictures)
        return g

    def calls(made: int) -> Calls:
        played = made - tail
        return Calls(made, played, played, played * views["count"], played * views["count"]) + JUDGED

    return Method(name, graph, calls, pictures)


@dataclass(frozen=True)
class Guiding:
    """How Referee Guidance acts, judging by its own views; the node's own defaults."""

    gradient: str = "prediction"
    share: float = 0.2
    start: float = 0.25
    end: float = 0.7

    def calls(self, steps: int) -> Calls:
        """Beyond those of plain sampling; the schedule "normal" is even in time."""
        guided, views = sum(self.start <= i / (steps - 1) < self.end for i in range(steps)), 2
        # through the model: once more forward, and as much back
        through = 2 * guided if self.gradient == "look-ahead" else 0
        return Calls(through, guided, guided, guided * views, guided * views)


def guidance(name: str, guiding: Guiding, steps: int = 20, cfg: float = 3.0, pictures: int = 8) -> Method:
    """Referee Guidance before an ancestral sampler, each picture judged."""

    def graph(prompt: str, seed: int, pictures: int) -> Graph:
        g, scene = _begin(prompt)
        model = g.add(
            "RefereeGuidance", model=scene.model, vae=scene.vae, loss=scene.loss, gradient=guiding.gradient,
            strength="relative", strength__share=guiding.share, start_percent=guiding.start, end_percent=guiding.end,
        )[0]  # fmt: skip
        sampler = g.add("KSamplerSelect", sampler_name="euler_ancestral")[0]
        _search(g, replace(scene, model=model), sampler, "normal", steps, cfg, seed, pictures)
        return g

    def calls(made: int) -> Calls:
        return Calls(made) + guiding.calls(steps) + JUDGED

    return Method(name, graph, calls, pictures)


def rounds(name: str, steps: int = 10, cfg: float = 3.0, pictures: int = 8) -> Method:
    """Referee Rounds with the node's own defaults, each picture judged."""
    views = 8

    def graph(prompt: str, seed: int, pictures: int) -> Graph:
        g, scene = _begin(prompt)
        inner = g.add("KSamplerSelect", sampler_name="euler_ancestral")[0]
        sampler = g.add("RefereeRounds", sampler=inner, vae=scene.vae, loss=scene.loss)[0]
        _search(g, scene, sampler, "normal", steps, cfg, seed, pictures)
        return g

    def calls(made: int) -> Calls:
        asked = made // steps
        return Calls(made, asked, asked, asked * views, asked * views) + JUDGED

    return Method(name, graph, calls, pictures)


@dataclass(frozen=True)
class _Scene:
    model: list
    vae: list
    referee: list
    positive: list
    negative: list
    latent: list
    loss: list


def _begin(prompt: str) -> tuple[Graph, _Scene]:
    g = Graph()
    model, clip, vae, referee = g.add("RefereeDemoModels")[:4]
    positive, negative = (g.add("CLIPTextEncode", clip=clip, text=text)[0] for text in (prompt, ""))
    latent = g.add("EmptyLatentImage", width=128, height=128, batch_size=1)[0]
    loss = g.add("RefereeLoss", referee=referee, text=prompt, itm_weight=1.0, caption_weight=1.0)[0]
    return g, _Scene(model, vae, referee, positive, negative, latent, loss)


def _search(
    g: Graph, scene: _Scene, sampler: list, scheduler: str, steps: int, cfg: float, seed: int, pictures: int
) -> None:
    """Every attempt is kept and saved, so that best of N can be told for every N."""
    guider = g.add("CFGGuider", model=scene.model, positive=scene.positive, negative=scene.negative, cfg=cfg)[0]
    sigmas = g.add("BasicScheduler", model=scene.model, scheduler=scheduler, steps=steps, denoise=1.0)[0]
    image = g.add(
        "RefereeSearch", guider=guider, sampler=sampler, sigmas=sigmas, latent_image=scene.latent, vae=scene.vae,
        loss=scene.loss, seed=seed, attempts=pictures, stop_at=0.0, keep=pictures, at_once=AT_ONCE, prune_at=0.0,
    )[1]  # fmt: skip
    g.add("SaveImage", images=image, filename_prefix="obedience")


BASELINE = plain("euler_ancestral", 10, 3.0)
PAPERS = {
    "loop": {"preset": "paper", "preset.gradient_noise": 0.2, "steps": PAPER["steps"], **PAPER["loop"]},
    "prior": {"cfg": PAPER["cfg"], "weight": PAPER["weight"][0], "weight_end": PAPER["weight"][1]},
    "augmentation": PAPER["augmentation"],
    "averaging": PAPER["averaging"],
}
METHODS = {
    method.name: method
    for method in [
        BASELINE,
        referee_can_play("Referee Can Play, the paper's settings", PAPERS, pictures=1),
        referee_can_play("Referee Can Play, bundled settings", DEMO, pictures=1),
        guidance("Referee Guidance, prediction", Guiding()),
        guidance("Referee Guidance, look-ahead", Guiding("look-ahead")),
        rounds("Referee Rounds"),
    ]
}
CANDIDATES = {
    method.name: method
    for method in (
        plain(sampler, steps, cfg, scheduler, pictures=2)
        for sampler, scheduler in [
            ("euler", "normal"), ("euler_ancestral", "normal"), ("dpmpp_2m", "karras"), ("dpmpp_2m_sde", "karras"),
        ]
        for steps in (10, 20, 50)
        for cfg in (1.5, 2.0, 3.0, 5.0)
    )
}  # fmt: skip
SWEPT = {
    f"{guiding.gradient}, share {guiding.share:g}, until {guiding.end:.0%}": guiding
    for gradient, shares in [("prediction", (0.05, 0.1, 0.2, 0.3, 0.4)), ("look-ahead", (0.02, 0.05, 0.1, 0.2, 0.4))]
    for guiding in (
        *(Guiding(gradient, share) for share in shares),
        *(Guiding(gradient, shares[2], end=end) for end in (0.5, 0.6, 0.8, 0.9, 1.0)),
    )
}
SWEEP = {
    method.name: method
    for method in [
        replace(BASELINE, pictures=8),
        *(guidance(name, guiding, pictures=4) for name, guiding in SWEPT.items()),
    ]
}
