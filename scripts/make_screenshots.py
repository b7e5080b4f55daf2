"""Take the help pages' and the README's pictures of nodes: ``python -m scripts.make_screenshots --comfyui DIR``.

A browser opens graphs on the pack's small models in the editor, runs them and takes the nodes' pictures. Needs
Playwright and Chromium.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

from . import workflow_notes as notes
from .graphs.parts import DEMO, GUIDED, SEARCHED, SEED, encoded
from .server import PACK, Server
from .subgraphs import OBEY, behind_ksampler
from .workflow import Workflow

IMAGES = PACK / "web" / "docs" / "images"
PROMPT = DEMO["prompt"]
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
QUIET = {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False}
READY = 'window.app?.graph && window.LiteGraph?.registered_node_types["RefereeOptimizer"]'
LIVE_STEP, LONGEST = 120, 900  # steps; seconds
STATED = "a red circle to the left of a blue square"
REFEREES = ("blip2_pretrained.pth", "blip2_referee.safetensors")  # to choose from in the pictures
MARGIN, LEFT, TOP = 16, 90, 130  # the editor's own bars are outside

SHOW = """([types, scale, margin, left, top]) => {
    const nodes = app.graph.nodes.filter(n => types.includes(n.type) || types.includes(n.title))
    const boxes = nodes.map(n => [n.pos[0], n.pos[1] - 30, n.pos[0] + n.size[0], n.pos[1] + n.size[1]])
    const [x0, y0, x1, y1] = [0, 1, 2, 3].map(i => (i < 2 ? Math.min : Math.max)(...boxes.map(b => b[i])))
    app.canvas.deselectAllNodes?.()
    app.canvas.ds.scale = scale
    app.canvas.ds.offset[0] = (left + margin) / scale - x0
    app.canvas.ds.offset[1] = (top + margin) / scale - y0
    app.canvas.setDirty(true, true)
    return {x: left, y: top, width: (x1 - x0) * scale + 2 * margin, height: (y1 - y0) * scale + 2 * margin}
}"""


def chromium() -> str | None:
    """The browser, if there is one."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Editor:
    """ComfyUI's editor in a browser."""

    def __init__(self, browser, server: Server):
        self.server, self.page = server, browser.new_page(viewport={"width": 2600, "height": 1500})
        for name, value in QUIET.items():
            server.post(f"/settings/{name}", value)
        self.page.goto(server.url)
        self.page.wait_for_function(f"!!({READY})", timeout=90_000)
        self.page.wait_for_timeout(1500)

    def load(self, workflow: dict) -> None:
        self.page.evaluate("w => app.loadGraphData(w)", workflow)
        self.page.wait_for_timeout(1500)

    def queue(self) -> None:
        self.ran = len(self.server.get("/history"))
        self.page.evaluate("app.queuePrompt(0)")

    def wait(self) -> None:
        end = time.monotonic() + LONGEST
        while len(self.server.get("/history")) == self.ran:
            if time.monotonic() > end:
                raise TimeoutError(f"the run did not end within {LONGEST} s")
            self.page.wait_for_timeout(500)
        self.page.wait_for_timeout(6000)  # until the message of the finished job is gone

    def wait_for_step(self, step: int) -> None:
        self.page.wait_for_function(
            "n => [...document.querySelectorAll('canvas.referee-chart')].some(c => Number(c.dataset.steps) >= n)",
            arg=step,
            timeout=1000 * LONGEST,
        )

    def shoot(self, name: str, *nodes: str, scale: float = 1.0) -> None:
        """A picture of the nodes of these types or titles, and of what lies between them."""
        clip, view = self.page.evaluate(SHOW, [nodes, scale, MARGIN, LEFT, TOP]), self.page.viewport_size
        if clip["x"] + clip["width"] > view["width"] or clip["y"] + clip["height"] > view["height"]:
            raise ValueError(f"{name} does not fit into the window: use a smaller scale")
        self.page.wait_for_timeout(800)
        self.page.screenshot(path=IMAGES / f"{name}.png", clip=clip)
        print(f"{name}.png: {clip['width']:.0f} x {clip['height']:.0f}")


def method(info: dict) -> Workflow:
    """The demo graph's method without what it is compared with."""
    w = Workflow("method", info)
    models = w.add("RefereeDemoModels")
    prompt = w.add("PrimitiveStringMultiline", "The prompt", value=PROMPT)
    latent = w.add("EmptyLatentImage", width=DEMO["size"], height=DEMO["size"])
    positive, negative = encoded(w, models.out("clip"), prompt)
    w.place("", [models, prompt, latent], [positive, negative])
    prior = w.add("RefereeSDSGuidance", model=models, positive=positive, negative=negative, **DEMO["prior"])
    loss = w.add("RefereeLoss", referee=models.out("referee"), text=prompt)
    parts = {
        "prior": prior,
        "loss": loss,
        "augmentation": w.add("RefereeAugmentation", **DEMO["augmentation"]),
        "averaging": w.add("RefereeEMARestart", **DEMO["averaging"]),
    }
    w.place("", list(parts.values()))
    loop = DEMO["loop"] | {"stop_at": 0.0}  # a long run
    run = w.add("RefereeOptimizer", vae=models.out("vae"), latent_image=latent, seed=SEED, **parts, **loop)
    w.place("", [run])
    plots = [
        w.add(f"Referee{kind}", history=run.out("history")) for kind in ("HistoryPlot", "Filmstrip", "GradientView")
    ]
    shown = [w.add("PreviewImage", f"Its {plot['outputs'][0]['name']}", images=plot) for plot in plots]
    for node in shown:
        node["size"] = [620, 480]
    w.place("", plots, shown)
    for plot, node in zip(plots, shown, strict=True):
        plot["pos"][1] = node["pos"][1]
    return w


def loaders(info: dict) -> dict:
    w = Workflow("loaders", info)
    w.place("", [w.add("RefereeLoader", referee_name=REFEREES[1])], [w.add("RefereeConvert", referee_name=REFEREES[0])])
    return json.loads(w.text())


def prompt_files(info: dict) -> dict:
    w = Workflow("prompt files", info)
    models, learned = w.add("RefereeDemoModels"), w.add("RefereePromptOptimizer")
    save, load = w.add("RefereeSavePrompt", tokens=learned.out("tokens")), w.add("RefereeLoadPrompt")
    positive, _ = encoded(w, models.out("clip"), PROMPT)
    apply = w.add("RefereeApplyPrompt", tokens=load, conditioning=positive, model=models)
    w.place("", [learned], [save], [models, positive, load], [apply])
    w.place("", [w.add("KSampler", model=models, positive=apply)])
    return json.loads(w.text())


def from_clip(info: dict) -> dict:
    w = Workflow("from clip", info)
    clip = w.add("CLIPLoader", type="krea2")
    referee = w.add("RefereeFromVLM", clip=clip)
    w.place("", [clip], [referee], [w.add("RefereeLoss", referee=referee, text=PROMPT)])
    return json.loads(w.text())


def asked(info: dict) -> dict:
    w = Workflow("asked", info)
    models, picture = w.add("RefereeDemoModels"), w.add("LoadImage")
    parts = {"images": picture, "referee": models.out("referee"), "question": PROMPT}
    answer = w.add("RefereeDecide", **parts, threshold=0.9)
    w.place("", [picture], [answer, models], [w.add("PreviewAny", source=answer.out("report"))])
    return json.loads(w.text())


def searched(info: dict) -> dict:
    """The search's node, outside of its subgraph."""
    w = Workflow("searched", info)
    models = w.add("RefereeDemoModels")
    latent = w.add("EmptyLatentImage", width=DEMO["size"], height=DEMO["size"])
    positive, negative = encoded(w, models.out("clip"), SEARCHED)
    loss = w.add("RefereeLoss", referee=models.out("referee"), text=SEARCHED)
    guided = w.add("RefereeGuidance", model=models, vae=models.out("vae"), loss=loss, gradient="look-ahead")
    guider = w.add("CFGGuider", model=guided, positive=positive, negative=negative, cfg=GUIDED["cfg"])
    sampler = w.add("KSamplerSelect", sampler_name=GUIDED["sampler_name"])
    sigmas = w.add("BasicScheduler", model=models, scheduler=GUIDED["scheduler"], steps=GUIDED["steps"])
    parts = {"guider": guider, "sampler": sampler, "sigmas": sigmas, "latent_image": latent, "vae": models.out("vae")}
    found = w.add("RefereeSearch", **parts, loss=loss, seed=SEED)
    w.place("", [models, latent], [positive, negative, loss], [guided], [guider, sampler, sigmas], [found])
    report = w.add("PreviewAny", "What the referee says", source=found.out("report"))
    w.place("", [w.add("PreviewImage", "The result", images=found.out("image")), report])
    return json.loads(w.text())


def by_statement(info: dict) -> dict:
    w = Workflow("by statement", info)
    models = w.add("RefereeDemoModels")
    loss = w.add("RefereeStatements", referee=models.out("referee"), text=STATED)
    w.place("", [models], [loss], [w.add("PreviewAny", source=loss.out("statements"))])
    return json.loads(w.text())


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True, help="ComfyUI's folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        with Server(arguments.comfyui, Path(folder)) as server:
            for name in REFEREES:
                Path(folder, "models", "referee", name).touch()
            browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
            info, editor = server.get("/object_info"), Editor(browser, server)

            editor.load(json.loads(method(info).text()))
            editor.queue()
            editor.wait_for_step(LIVE_STEP)
            editor.shoot("live", "RefereeOptimizer")
            editor.wait()
            editor.shoot("RefereeHistoryPlot", "RefereeHistoryPlot", "Its plot")
            editor.shoot("RefereeGradientView", "RefereeGradientView", "Its gradients")

            editor.load(notes.graph(notes.BEST))
            editor.queue()
            editor.wait()
            editor.shoot("RefereeScore", "RefereeScore", "The four, best first", "What the referee says")
            editor.shoot("RefereeCombineLosses", "RefereeLoss", "RefereeCombineLosses")

            editor.load(searched(info))
            editor.queue()
            editor.wait()
            editor.shoot("RefereeSearch", "RefereeSearch", "The result", "What the referee says")

            editor.load(notes.graph(notes.GUIDED))
            editor.queue()
            editor.wait()
            editor.shoot("RefereeGuidance", "RefereeGuidance", "Guided", "The result")

            editor.load(notes.graph(notes.PROMPT))
            editor.queue()
            editor.wait()
            editor.shoot("RefereePromptOptimizer", "RefereePromptOptimizer", "What the referee says")
            editor.load(notes.graph(notes.PROMPTS))
            editor.shoot("RefereePromptTrainer", "RefereePromptTrainer", "RefereeApplyPrompt")
            editor.load(prompt_files(info))
            editor.shoot("RefereeSavePrompt", "RefereePromptOptimizer", "RefereeSavePrompt")
            editor.shoot("RefereeLoadPrompt", "RefereeLoadPrompt", "RefereeApplyPrompt", "KSampler")
            editor.load(from_clip(info))
            editor.shoot("RefereeFromVLM", "CLIPLoader", "RefereeFromVLM", "RefereeLoss")
            editor.load(asked(info))
            editor.shoot("RefereeDecide", "LoadImage", "RefereeDecide", "PreviewAny")

            editor.load(by_statement(info))
            editor.queue()
            editor.wait()
            editor.shoot("RefereeStatements", "RefereeStatements", "PreviewAny")

            editor.load(notes.graph(notes.SAMPLER))
            editor.shoot("RefereeSampler", "RefereeSampler", "SamplerCustomAdvanced")
            editor.load(loaders(info))
            editor.shoot("RefereeLoader", "RefereeLoader")
            editor.shoot("RefereeConvert", "RefereeConvert")

            editor.load(behind_ksampler(info, prompt=PROMPT, steps=100))
            editor.shoot("subgraph", "KSampler", OBEY.name, "Save Image")


if __name__ == "__main__":
    main()
