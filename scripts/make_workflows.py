"""Write the example graphs of workflows/: ``python -m scripts.make_workflows --comfyui ~/ComfyUI``.

Each graph is a function at the end; links, sizes and the order of widget values come from the schemas that a running
ComfyUI reports (or from a file: ``--object-info FILE``).
"""

import argparse
import json
import tempfile
from pathlib import Path

from .make_subgraph import SUBGRAPH, make_subgraph
from .server import PACK, Server
from .workflow import GREEN, GREY, Node, Workflow

SEED = 0
DEMO = {
    "prompt": "a red circle and a blue square",
    "size": 128,
    "plain": {"steps": 25, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal"},
    "loop": {"steps": 200, "w1": 2.0, "lr": 0.2, "lr_end": 0.05, "noise": 0.05},
    "prior": {"cfg": 5.0, "weight": 2000.0, "weight_end": 2000.0},
    "augmentation": {
        "preset": "custom", "preset.count": 16, "preset.rotation": 15.0, "preset.translation": 0.1,
        "preset.perspective": 0.2, "preset.colour": 0.04, "preset.erasing": 0.06, "preset.noise": 0.1,
    },
    "averaging": {"decay": 0.95, "start": 40, "interval": 60},
}  # fmt: skip
PAPER = {
    "prompt": "a green bench and a blue bowl",
    "size": 512,
    "loop": {"w1": 2.0, "lr": 1.0, "lr_end": 0.5, "noise": 0.2, "tail": 10},
    "steps": 160,
    "cfg": 30.0,
    "weight": (800.0, 400.0),
    "t_max": 949,
    "augmentation": {"preset": "paper", "preset.count": 30},
    "averaging": {"decay": 0.95, "start": 40, "interval": 60},
}
EDIT = PAPER | {
    "prompt": "a girl in a pink dress on a green hill, with a red balloon",
    "loop": PAPER["loop"] | {"lr": 0.2, "lr_end": 0.1, "noise": 0.04},
    "t_max": 500,
}
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
DOWNLOAD = f"https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/{CHECKPOINT}"
REFEREE = "blip2_referee.safetensors"

# The notes. A line break inside a paragraph or list item is only for this file.

DEMO_ABOUT = """
One prompt and one seed, four ways to a picture, with small models that come with the pack and know one world: one or
two coloured shapes. It needs no download and no graphics card: press **Run**.

- **Referee Can Play** (green): a referee, here a small BLIP-2 that reads the prompt, pulls the picture towards
the prompt; the diffusion model keeps it natural. Random views and jumps back to
the running average keep the referee honest.
- **Plain sampling**: clean shapes, often with the wrong colours or forms.
- **SDS alone**: only the diffusion model pulls. Natural, but no more obedient.
- **Inversion alone**: only the referee pulls, and it sees the bare picture. Specks please it that say nothing to us.

Paper: [Referee Can Play, ICML 2024](https://arxiv.org/abs/2402.16305).
"""
DEMO_TURN = """
- **The prompt**: one or two objects, *a [colour] [shape]*, joined by *and*; for example *a yellow triangle and a
purple cross*.
- **The seed**: another start for all four.
- **Random views, preset**: *none* brings the specks back. More views (*count*) make a cleaner picture and slower
steps.
- **The prior, weight**: higher is more natural and obeys less.
- **lr** of Referee Optimizer: how far the latent moves in a step. These models like 0.2, Stable Diffusion the paper's
1.0.
- **Back to the average**: unplug it to see what it is good for.
"""
PAPER_ABOUT = """
*Referee Can Play* with the paper's numbers: BLIP-2 reads the prompt and pulls the latent towards it, score
distillation (SDS) from Stable Diffusion 1.5 keeps the picture natural. 160 steps, 30 random views a step, CFG 30.

- **Memory** runs out: lower *views_at_once* of Referee Optimizer. The result stays the same.
- **Time**: fewer views (*count* of Augmentation Regularizer), for example 10, are faster and a little less clean.
- **Obedience against nature**: a higher *weight* of SDS Guidance is more natural and obeys less.
- The authors' code gives the diffusion model *A photo exactly contains* and then the prompt; the paper gives it the
prompt alone. To try the former, unplug the text of **The prompt, for the diffusion model** and type it there. What
else the code does differently is the preset *reference code* of Referee Optimizer and of Augmentation Regularizer.
"""
INVERSION_ABOUT = """
The referee alone: the latent moves until BLIP-2 agrees with the prompt, and only the random views that it judges keep
the picture in bounds. Of Stable Diffusion 1.5 only the VAE is used.

- **Random views, preset**: *none* shows why they are needed: the loss falls fast, the picture is specks.
- **count**: more views, cleaner shapes, slower steps.
- **lr** and **noise**: smaller is calmer and needs more steps.
- *tail* has no effect here and *w1* hardly any: both are about the balance with a prior.
"""
SDS_ABOUT = """
The prior alone: score distillation (SDS) moves the latent towards what Stable Diffusion 1.5 takes for the prompt. No
referee is loaded. Compare the result with that of *paper_sd15_blip2*, which adds the referee.

- **cfg**: SDS needs high guidance. Lower is softer, much higher glares.
- **weight** and **lr**: how fast the latent moves.
- **noise**: a little helps the search, much leaves grain.
"""
SAMPLER_ABOUT = """
The same method as *paper_sd15_blip2* from parts: **Referee Sampler** is a SAMPLER, and the guider is the prior. Plug
in other guiders, conditioning or noise as with any sampler.

- The **number of steps** is BasicScheduler's. Its noise levels are not used: SDS draws its own.
- The **CFG scale** of SDS is CFG Guider's.
- **weight** of Referee Sampler: higher is more natural and obeys less.
- Curves and filmstrip come only from Referee Optimizer.
"""
EDIT_ABOUT = """
Changes the masked part of a picture until the referee sees the whole prompt in it.

1. Load a picture, right-click it, choose **Open in MaskEditor** and paint over what may change; in *example.png* a
piece of sky, for the balloon. **Without a mask there is nothing to change, and an error says so.**
2. Describe the whole picture as it should become, not only the new part.

What to turn:

- **t_max** of SDS Guidance, here 500: lower keeps more of what was there, 949 starts afresh.
- **lr**, here 0.2 and not 1.0, and **noise**, here 0.04: small steps away from the picture. Raise both for more
change.
- To let the whole picture change, connect VAE Encode to *latent_image* directly.
"""
FILES = f"- **models/checkpoints/{CHECKPOINT}**: [download]({DOWNLOAD}), 2 GB."
REFEREE_FILE = f"""
- **models/referee/{REFEREE}**: BLIP-2, put together once by the node **Convert Referee**; the pack's README says which
files it takes.
"""
REFRESH = "\n\nThen press **R** in the editor, and the loaders list them."

# The graphs


def encoded(w: Workflow, clip, prompt) -> tuple[Node, Node]:
    positive = w.add("CLIPTextEncode", "The prompt, for the diffusion model", clip=clip, text=prompt)
    return positive, w.add("CLIPTextEncode", "Negative prompt: empty", clip=clip)


def judged(w: Workflow, referee, prompt, preset: dict) -> tuple[Node, dict[str, Node]]:
    loss = w.add("RefereeLoss", "The prompt, for the referee", referee=referee, text=prompt)
    augmentation = w.add("RefereeAugmentation", "Random views for the referee", **preset["augmentation"])
    averaging = w.add("RefereeEMARestart", "Back to the average now and then", **preset["averaging"])
    return loss, {"augmentation": augmentation, "averaging": averaging}


def pictures(w: Workflow, history, output: str, prefix: str = "") -> tuple[list[Node], list[Node]]:
    """The three pictures of a run, and the nodes that show them, or save them under names with ``prefix``."""
    names = {"HistoryPlot": "plot", "Filmstrip": "filmstrip", "GradientView": "gradients"}
    plots = [w.add(f"Referee{kind}", history=history) for kind in names]
    files = [{"filename_prefix": prefix + name} if prefix else {} for name in names.values()]
    titles = ("Losses, norms and schedules", "From noise to picture", "What pulled where")
    return plots, [w.add(output, t, images=p, **f) for t, p, f in zip(titles, plots, files, strict=True)]


def demo(w: Workflow) -> None:
    w.notes(What_this_shows=DEMO_ABOUT, What_to_turn=DEMO_TURN)
    models = w.add("RefereeDemoModels", "The pack's small models")
    prompt = w.add("PrimitiveStringMultiline", "The prompt of all four", value=DEMO["prompt"])
    seed = w.add("PrimitiveInt", "The seed of all four", value=SEED)
    start = w.add("EmptyLatentImage", "Start from noise", width=DEMO["size"], height=DEMO["size"])
    positive, negative = encoded(w, models.out("clip"), prompt)
    pair = {"model": models.out("model"), "positive": positive, "negative": negative}
    prior = w.add("RefereeSDSGuidance", "The prior: keeps it natural", **pair, **DEMO["prior"])
    loss, regularizers = judged(w, models.out("referee"), prompt, DEMO)
    w.place("Models and prompt", [models, prompt], [positive, negative])
    w.place("Building blocks", [start, seed, prior, loss, *regularizers.values()])

    loop = {"vae": models.out("vae"), "latent_image": start, "seed": seed, **DEMO["loop"]}
    method = w.add("RefereeOptimizer", "Referee and prior", **loop, loss=loss, prior=prior, **regularizers)
    save = w.add("SaveImage", "Result: Referee Can Play", images=method.out("image"), filename_prefix="referee/method")
    plots, saved = pictures(w, method.out("history"), "SaveImage", "referee/")
    w.place("Referee Can Play: referee and prior together", [method], [save, *plots], saved, colour=GREEN)
    plain = w.add("KSampler", "Plain sampling", **pair, latent_image=start, seed=seed, **DEMO["plain"])
    decode = w.add("VAEDecode", samples=plain, vae=models.out("vae"))
    save = w.add("SaveImage", "Result: plain sampling", images=decode, filename_prefix="referee/plain")
    w.place("To compare: plain sampling", [plain], [decode], [save], colour=GREY, below=True)
    sds = w.add("RefereeOptimizer", "Prior, no referee", **loop, prior=prior)
    save = w.add("SaveImage", "Result: SDS alone", images=sds.out("image"), filename_prefix="referee/sds")
    w.place("To compare: score distillation (SDS) alone", [sds], [save], colour=GREY)
    inversion = w.add("RefereeOptimizer", "Referee, no prior, no random views", **loop, loss=loss)
    result = {"images": inversion.out("image"), "filename_prefix": "referee/inversion"}
    save = w.add("SaveImage", "Result: inversion alone", **result)
    w.place("To compare: inversion alone", [inversion], [save], colour=GREY, below=True)


def sd15(w: Workflow, about: str, preset: dict = PAPER, referee: bool = True) -> tuple[Node, Node, Node | None]:
    """Notes, checkpoint, prompt and referee, not yet placed."""
    w.notes(What_this_does=about, Files=FILES + REFEREE_FILE * referee + REFRESH)
    checkpoint = w.add("CheckpointLoaderSimple", "Stable Diffusion 1.5", ckpt_name=CHECKPOINT)
    checkpoint["properties"]["models"] = [{"name": CHECKPOINT, "url": DOWNLOAD, "directory": "checkpoints"}]
    prompt = w.add("PrimitiveStringMultiline", "The prompt", value=preset["prompt"])
    return checkpoint, prompt, w.add("RefereeLoader", "BLIP-2, the referee", referee_name=REFEREE) if referee else None


def noise(w: Workflow) -> Node:
    return w.add("EmptyLatentImage", "Start from noise", width=PAPER["size"], height=PAPER["size"])


def masked(w: Workflow, vae) -> Node:
    """A picture's latent of which only the masked part may change."""
    picture = w.add("LoadImage", "Your picture: paint a mask on it", image="example.png")
    scale = {"upscale_method": "lanczos", "megapixels": 0.25, "resolution_steps": 8}
    scaled = w.add("ImageScaleToTotalPixels", "To 512 x 512 or the like", image=picture, **scale)
    encode = w.add("VAEEncode", pixels=scaled, vae=vae)
    latent = w.add("SetLatentNoiseMask", "Change only what is masked", samples=encode, mask=picture.out("mask"))
    w.place("The picture to change", [picture, encode], [scaled, latent])
    return latent


def optimized(w: Workflow, about: str, preset: dict = PAPER, referee: bool = True, prior: bool = True) -> None:
    """A graph around the Referee Optimizer on Stable Diffusion 1.5."""
    checkpoint, prompt, loader = sd15(w, about, preset, referee)
    encodes = encoded(w, checkpoint.out("clip"), prompt) if prior else ()
    first = [node for node in (checkpoint, prompt, loader) if node]
    w.place("Models and prompt", first, *([encodes] if prior else []))
    vae, inputs = checkpoint.out("vae"), {}
    inputs["latent_image"] = masked(w, vae) if preset is EDIT else noise(w)
    regularizers = {}
    if referee:
        inputs["loss"], regularizers = judged(w, loader, prompt, preset)
    if prior:
        pair = {"model": checkpoint, "positive": encodes[0], "negative": encodes[1], "cfg": preset["cfg"]}
        strength = {"weight": preset["weight"][0], "weight_end": preset["weight"][1], "t_max": preset["t_max"]}
        inputs["prior"] = w.add("RefereeSDSGuidance", "The prior: keeps it natural", **pair, **strength)
    inputs |= regularizers
    w.place("What the optimizer gets", [node for node in inputs.values() if node["type"] != "SetLatentNoiseMask"])
    optimizer = w.add("RefereeOptimizer", vae=vae, seed=SEED, steps=preset["steps"], **inputs, **preset["loop"])
    w.place("Optimise", [optimizer], colour=GREEN)
    save = w.add("SaveImage", "The result", images=optimizer.out("image"), filename_prefix=f"referee/{w.name}")
    plots, shown = pictures(w, optimizer.out("history"), "PreviewImage")
    w.place("What came out", [save, *plots], shown)


def sampler_custom_advanced(w: Workflow) -> None:
    checkpoint, prompt, loader = sd15(w, SAMPLER_ABOUT)
    vae, start = checkpoint.out("vae"), noise(w)
    positive, negative = encoded(w, checkpoint.out("clip"), prompt)
    w.place("Models and prompt", [checkpoint, prompt, loader], [positive, negative])
    loss, regularizers = judged(w, loader, prompt, PAPER)
    w.place("The referee", [loss, *regularizers.values()])
    strength = {"weight": PAPER["weight"][0], "weight_end": PAPER["weight"][1], "t_max": PAPER["t_max"]}
    sampler = w.add("RefereeSampler", vae=vae, loss=loss, **regularizers, **strength, **PAPER["loop"])
    guider = w.add("CFGGuider", "The prior", model=checkpoint, positive=positive, negative=negative, cfg=PAPER["cfg"])
    random = w.add("RandomNoise", "Seed", noise_seed=SEED)
    sigmas = w.add("BasicScheduler", "Number of steps", model=checkpoint, scheduler="normal", steps=PAPER["steps"])
    w.place("For the sampler", [random, guider, sampler, sigmas, start])
    inputs = {"noise": random, "guider": guider, "sampler": sampler, "sigmas": sigmas, "latent_image": start}
    sampled = w.add("SamplerCustomAdvanced", **inputs)
    decode = w.add("VAEDecode", samples=sampled, vae=vae)
    save = w.add("SaveImage", "The result", images=decode, filename_prefix=f"referee/{w.name}")
    w.place("Sample", [sampled], [decode], [save], colour=GREEN)


GRAPHS = {
    "demo": demo,
    "paper_sd15_blip2": lambda w: optimized(w, PAPER_ABOUT),
    "inversion_only": lambda w: optimized(w, INVERSION_ABOUT, prior=False),
    "sds_only": lambda w: optimized(w, SDS_ABOUT, referee=False),
    "paper_sampler_custom_advanced": sampler_custom_advanced,
    "from_image_with_mask": lambda w: optimized(w, EDIT_ABOUT, EDIT),
}


def object_info(comfyui: Path) -> dict:
    with tempfile.TemporaryDirectory() as folder, Server(comfyui, Path(folder)) as server:
        return server.get("/object_info")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--comfyui", type=Path, help="ComfyUI's folder; a server is started there and asked")
    source.add_argument("--object-info", type=Path, help="a saved answer of GET /object_info")
    parser.add_argument("--out", type=Path, default=PACK / "workflows")
    parser.add_argument("--subgraph", type=Path, default=SUBGRAPH)
    args = parser.parse_args()
    info = json.loads(args.object_info.read_text()) if args.object_info else object_info(args.comfyui)
    for name, build in GRAPHS.items():
        workflow = Workflow(name, info)
        build(workflow)
        (args.out / f"{name}.json").write_text(workflow.text(), encoding="utf-8")
        print(f"{name}.json: {len(workflow.nodes)} nodes, {len(workflow.links)} links")
    make_subgraph(info, args.subgraph, judged, EDIT)


if __name__ == "__main__":
    main()
