"""The methods that are compared, each as a graph of ComfyUI: one function a method."""

from collections.abc import Callable
from dataclasses import dataclass

from scripts.server import Graph

from .cost import Calls

JUDGED = Calls(decodes=1, views=8)  # a finished picture in RefereeSearch, by its own gentle views


@dataclass(frozen=True)
class Method:
    """A way to make pictures.

    Attributes:
        graph: (prompt, seed, pictures) -> a graph whose last node saves that many pictures, made from ``seed`` on.
        calls: of each picture. pictures: how many are asked for at a time.
    """

    name: str
    graph: Callable[[str, int, int], Graph]
    calls: Calls
    pictures: int = 1


def plain(sampler: str, steps: int, cfg: float, scheduler: str = "normal", pictures: int = 32) -> Method:
    """Sampling as its user would tune it, each picture judged."""

    def graph(prompt: str, seed: int, pictures: int) -> Graph:
        g, scene = _begin(prompt)
        guider = g.add("CFGGuider", model=scene.model, positive=scene.positive, negative=scene.negative, cfg=cfg)[0]
        noise_levels = g.add("BasicScheduler", model=scene.model, scheduler=scheduler, steps=steps, denoise=1.0)[0]
        _search(g, scene, guider, g.add("KSamplerSelect", sampler_name=sampler)[0], noise_levels, seed, pictures)
        return g

    calls = Calls(pairs=steps * CALLS_A_STEP.get(sampler, 1)) + JUDGED
    return Method(f"{sampler} {scheduler} {steps} steps CFG {cfg:g}", graph, calls, pictures)


CALLS_A_STEP = {"heun": 2, "dpm_2": 2, "dpmpp_sde": 2, "dpmpp_2s_ancestral": 2, "dpm_2_ancestral": 2}


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


def _search(g: Graph, scene: _Scene, guider: list, sampler: list, sigmas: list, seed: int, pictures: int) -> None:
    """Every attempt is kept and saved, so that best of N can be told for every N."""
    image = g.add(
        "RefereeSearch", guider=guider, sampler=sampler, sigmas=sigmas, latent_image=scene.latent, vae=scene.vae,
        loss=scene.loss, seed=seed, attempts=pictures, stop_at=0.0, keep=pictures, at_once=0, prune_at=0.0,
    )[1]  # fmt: skip
    g.add("SaveImage", images=image, filename_prefix="obedience")


BASELINE = plain("euler_ancestral", 50, 3.0)
METHODS = {method.name: method for method in [BASELINE]}
CANDIDATES = {
    method.name: method
    for method in (
        plain(sampler, steps, cfg, scheduler, pictures=2)
        for sampler, scheduler in [
            ("euler", "normal"), ("euler_ancestral", "normal"), ("dpmpp_2m", "karras"), ("dpmpp_2m_sde", "karras"),
        ]
        for steps in (20, 50)
        for cfg in (1.5, 2.0, 3.0, 5.0)
    )
}  # fmt: skip
