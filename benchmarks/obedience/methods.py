"""The methods that are compared, each as a graph of ComfyUI: one function a method."""

from collections.abc import Callable
from dataclasses import dataclass

from scripts.make_workflows import DEMO, PAPER
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
