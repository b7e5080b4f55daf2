"""Write the example graphs of workflows/: ``python -m scripts.make_workflows --comfyui ~/ComfyUI``.

Each graph is a function at the end; links, sizes and the order of widget values come from the schemas that a running
ComfyUI reports (or from a file: ``--object-info FILE``).
"""

import argparse
import json
import tempfile
from pathlib import Path

from . import workflow_notes as notes
from .demo import RESULTS, SHEETS
from .make_subgraph import SUBGRAPH, make_subgraph
from .server import PACK, Server
from .workflow import GREEN, GREY, Node, Workflow

SEED = 0
PAIR = ("an orange square", "a red circle")
SEARCHED = "a red circle, a blue square and a green cross"
PLAIN = {"steps": 10, "cfg": 3.0, "sampler_name": "euler_ancestral", "scheduler": "normal"}  # suits the pack's models
GUIDED = PLAIN | {"steps": 20}
CONFUSED = "a yellow square and an orange triangle"  # by plain sampling, in each of twelve seeds
DEMO = {
    "prompt": "a yellow square and a white cross",
    "size": 128,
    "loop": {"steps": 160, "w1": 2.0, "lr": 0.2, "lr_end": 0.05, "noise": 0.05, "stop_at": 0.9},
    "prior": {"cfg": 3.0, "weight": 2000.0, "weight_end": 2000.0},
    "augmentation": {
        "preset": "custom", "count": 4, "rotation": 15.0, "translation": 0.1, "perspective": 0.2, "colour": 0.04,
        "erasing": 0.06, "noise": 0.1,
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
    "augmentation": {"preset": "paper", "count": 30},
    "averaging": {"decay": 0.95, "start": 40, "interval": 60},
}
EDIT = PAPER | {
    "prompt": "a girl in a pink dress on a green hill, with a red balloon",
    "loop": PAPER["loop"] | {"lr": 0.2, "lr_end": 0.1, "noise": 0.04},
    "t_max": 500,
}

# The graphs


def encoded(w: Workflow, clip, prompt) -> tuple[Node, Node]:
    positive = w.add("CLIPTextEncode", "The prompt, for the diffusion model", clip=clip, text=prompt)
    return positive, w.add("CLIPTextEncode", "Negative prompt: empty", clip=clip)


def judged(w: Workflow, referee, prompt, preset: dict, **weights) -> tuple[Node, dict[str, Node]]:
    loss = w.add("RefereeLoss", "The prompt, for the referee", referee=referee, text=prompt, **weights)
    augmentation = w.add("RefereeAugmentation", "Random views for the referee", **preset["augmentation"])
    averaging = w.add("RefereeEMARestart", "Back to the average now and then", **preset["averaging"])
    return loss, {"augmentation": augmentation, "averaging": averaging}


def pictures(w: Workflow, history) -> tuple[list[Node], list[Node]]:
    """The three pictures of a run, and the nodes that show them."""
    kinds = {"plot": "HistoryPlot", "filmstrip": "Filmstrip", "gradients": "GradientView"}
    plots = {name: w.add(f"Referee{kind}", history=history) for name, kind in kinds.items()}
    return list(plots.values()), [w.add("PreviewImage", SHEETS[name], images=plot) for name, plot in plots.items()]


def quick(w: Workflow) -> None:
    models = w.add("RefereeDemoModels", "The pack's small models")
    prompt = w.add("PrimitiveStringMultiline", "The prompt", value=DEMO["prompt"])
    start = w.add("EmptyLatentImage", "Start from noise", width=DEMO["size"], height=DEMO["size"])
    positive, negative = encoded(w, models.out("clip"), prompt)
    pair = {"model": models, "positive": positive, "negative": negative}
    loss, regularizers = judged(w, models.out("referee"), prompt, DEMO)
    prior = w.add("RefereeSDSGuidance", "The prior: keeps it natural", **pair, **DEMO["prior"])
    inputs = {"vae": models.out("vae"), "latent_image": start, "seed": SEED, "loss": loss, "prior": prior}
    method = w.add("RefereeOptimizer", **inputs, **regularizers, **DEMO["loop"])
    save = w.add("SaveImage", "Result", images=method.out("image"), filename_prefix="referee/quick_demo")
    plain = w.add("KSampler", "To compare: plain sampling", **pair, latent_image=start, seed=SEED, **PLAIN)
    decode = w.add("VAEDecode", samples=plain, vae=models.out("vae"))
    show = w.add("PreviewImage", "To compare", images=decode)
    w.place("", [models, prompt, start, w.note("Quick demo", notes.QUICK_ABOUT)])
    w.place("", [positive, negative, plain, decode], [loss, prior, *regularizers.values()])
    w.place("", [method], [save, show])


def comparison(w: Workflow) -> None:
    w.notes(What_this_shows=notes.COMPARISON_ABOUT, What_to_turn=notes.COMPARISON_TURN)
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
    save = w.add("SaveImage", RESULTS["method"], images=method.out("image"), filename_prefix="referee/comparison")
    plots, shown = pictures(w, method.out("history"))
    w.place("Referee Can Play: referee and prior together", [method], [save, *plots], shown, colour=GREEN)
    plain = w.add("KSampler", "Plain sampling", **pair, latent_image=start, seed=seed, **PLAIN)
    decode = w.add("VAEDecode", samples=plain, vae=models.out("vae"))
    show = w.add("PreviewImage", RESULTS["plain"], images=decode)
    w.place("To compare: plain sampling", [plain], [decode], [show], colour=GREY, below=True)
    sds = w.add("RefereeOptimizer", "Prior, no referee", **loop, prior=prior)
    show = w.add("PreviewImage", RESULTS["sds"], images=sds.out("image"))
    w.place("To compare: score distillation (SDS) alone", [sds], [show], colour=GREY)
    whole = loop | {"stop_at": 0.0}  # it would be content with noise at once
    whole["model"] = models.out("model")  # whose latents the picture is made of
    inversion = w.add("RefereeOptimizer", "Referee, no prior, no random views", **whole, loss=loss)
    show = w.add("PreviewImage", RESULTS["inversion"], images=inversion.out("image"))
    w.place("To compare: inversion alone", [inversion], [show], colour=GREY, below=True)


def sd15(w: Workflow, about: str, preset: dict = PAPER, referee: bool = True) -> tuple[Node, Node, Node | None]:
    """Notes, checkpoint, prompt and referee, not yet placed."""
    w.notes(What_this_does=about, Files=notes.FILES + notes.REFEREE_FILES * referee + notes.REFRESH)
    checkpoint = w.add("CheckpointLoaderSimple", "Stable Diffusion 1.5", ckpt_name=notes.CHECKPOINT)
    checkpoint["properties"]["models"] = notes.downloads(notes.CHECKPOINT_PAGE, notes.CHECKPOINT, "checkpoints")
    prompt = w.add("PrimitiveStringMultiline", "The prompt", value=preset["prompt"])
    if not referee:
        return checkpoint, prompt, None
    return checkpoint, prompt, referee_loader(w)


def referee_loader(w: Workflow) -> Node:
    loader = w.add("RefereeLoader", "BLIP-2, the referee", referee_name=notes.REFEREE)
    loader["properties"]["models"] = notes.downloads(notes.REFEREE_PAGE, notes.REFEREE, "referee")
    return loader


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
        inputs["loss"], regularizers = judged(w, loader, prompt, preset, caption_weight=0.0)
    if prior:
        pair = {"model": checkpoint, "positive": encodes[0], "negative": encodes[1], "cfg": preset["cfg"]}
        strength = {"weight": preset["weight"][0], "weight_end": preset["weight"][1], "t_max": preset["t_max"]}
        inputs["prior"] = w.add("RefereeSDSGuidance", "The prior: keeps it natural", **pair, **strength)
    inputs |= regularizers
    w.place("What the optimizer gets", [node for node in inputs.values() if node["type"] != "SetLatentNoiseMask"])
    if not prior:
        inputs["model"] = checkpoint.out("model")  # whose latents the picture is made of
    optimizer = w.add("RefereeOptimizer", vae=vae, seed=SEED, steps=preset["steps"], **inputs, **preset["loop"])
    w.place("Optimise", [optimizer], colour=GREEN)
    save = w.add("SaveImage", "The result", images=optimizer.out("image"), filename_prefix="referee/result")
    plots, shown = pictures(w, optimizer.out("history"))
    w.place("What came out", [save, *plots], shown)


def sampler_custom_advanced(w: Workflow) -> None:
    checkpoint, prompt, loader = sd15(w, notes.SAMPLER_ABOUT)
    vae, start = checkpoint.out("vae"), noise(w)
    positive, negative = encoded(w, checkpoint.out("clip"), prompt)
    w.place("Models and prompt", [checkpoint, prompt, loader], [positive, negative])
    loss, regularizers = judged(w, loader, prompt, PAPER, caption_weight=0.0)
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
    save = w.add("SaveImage", "The result", images=decode, filename_prefix="referee/result")
    w.place("Sample", [sampled], [decode], [save], colour=GREEN)


def best_of_several(w: Workflow) -> None:
    w.notes(What_this_does=notes.BEST_ABOUT)
    models = w.add("RefereeDemoModels", "The pack's small models")
    one, other = (w.add("PrimitiveString", name, value=PAIR[i]) for i, name in enumerate(("One thing", "Another")))
    prompt = w.add("StringConcatenate", "The prompt", string_a=one, string_b=other, delimiter=" and ")
    turned = w.add("StringConcatenate", "The same, turned round", string_a=other, string_b=one, delimiter=" and ")
    start = w.add("EmptyLatentImage", "Four of them", width=DEMO["size"], height=DEMO["size"], batch_size=4)
    positive, negative = encoded(w, models.out("clip"), prompt)
    w.place("Models and prompt", [one, other, prompt, turned], [models, start, positive, negative])
    pair = {"model": models.out("model"), "positive": positive, "negative": negative}
    sampled = w.add("KSampler", "Plain sampling", **pair, latent_image=start, seed=SEED, **PLAIN)
    decode = w.add("VAEDecode", samples=sampled, vae=models.out("vae"))
    w.place("Four pictures", [sampled, decode])
    loss, regularizers = judged(w, models.out("referee"), prompt, DEMO)
    again = w.add("RefereeLoss", "Turned round, for the referee", referee=models.out("referee"), text=turned)
    both = w.add("RefereeCombineLosses", **{"losses.loss_0": loss, "losses.loss_1": again})
    best = w.add("RefereeScore", "Pass on the best", images=decode, loss=both, latents=sampled, keep=1)
    ranked = w.add("RefereeScore", "Only to look", images=decode, loss=both)
    report = w.add("PreviewAny", "What the referee says", source=ranked.out("report"))
    show = w.add("PreviewImage", "The four, best first", images=ranked)
    w.place("Which one is best?", [loss, again, both], [best, ranked], [show, report])
    prior = w.add("RefereeSDSGuidance", "The prior: keeps it natural", **pair, **DEMO["prior"], t_max=700)
    inputs = {"vae": models.out("vae"), "latent_image": best.out("latent"), "seed": SEED, "loss": both, "prior": prior}
    optimizer = w.add("RefereeOptimizer", **inputs, **regularizers, **DEMO["loop"])
    save = w.add("SaveImage", "The result", images=optimizer.out("image"), filename_prefix="referee/best")
    w.place("Make it better", [prior, *regularizers.values()], [optimizer], [save], colour=GREEN)


def search(w: Workflow) -> None:
    w.notes(What_this_does=notes.SEARCH_ABOUT)
    models = w.add("RefereeDemoModels", "The pack's small models")
    prompt = w.add("PrimitiveStringMultiline", "The prompt", value=SEARCHED)
    start = w.add("EmptyLatentImage", "Start from noise", width=DEMO["size"], height=DEMO["size"])
    positive, negative = encoded(w, models.out("clip"), prompt)
    w.place("Models and prompt", [models, prompt, start], [positive, negative])
    loss = w.add("RefereeLoss", "The prompt, for the referee", referee=models.out("referee"), text=prompt)
    guided = w.add("RefereeGuidance", model=models, vae=models.out("vae"), loss=loss, gradient="look-ahead")
    w.place("The referee takes part in each picture", [loss, guided])
    pair = {"model": guided, "positive": positive, "negative": negative}
    guider = w.add("CFGGuider", "Guidance, as usual", **pair, cfg=GUIDED["cfg"])
    sampler = w.add("KSamplerSelect", "Sampler, as usual", sampler_name=GUIDED["sampler_name"])
    plan = {"scheduler": GUIDED["scheduler"], "steps": GUIDED["steps"]}
    sigmas = w.add("BasicScheduler", "Steps, as usual", model=models.out("model"), **plan)
    w.place("How each picture is made", [guider, sampler, sigmas])
    inputs = {"guider": guider, "sampler": sampler, "sigmas": sigmas, "latent_image": start, "vae": models.out("vae")}
    found = w.add("RefereeSearch", **inputs, loss=loss, seed=SEED)
    save = w.add("SaveImage", "The result", images=found.out("image"), filename_prefix="referee/search")
    report = w.add("PreviewAny", "What the referee says", source=found.out("report"))
    w.place("Until one obeys", [found], [save, report], colour=GREEN)


def guided_pair(w: Workflow) -> None:
    w.notes(What_this_does=notes.GUIDED_ABOUT)
    models = w.add("RefereeDemoModels", "The pack's small models")
    prompt = w.add("PrimitiveStringMultiline", "The prompt of both", value=CONFUSED)
    seed = w.add("PrimitiveInt", "The seed of both", value=SEED)
    start = w.add("EmptyLatentImage", "Start from noise", width=DEMO["size"], height=DEMO["size"])
    positive, negative = encoded(w, models.out("clip"), prompt)
    w.place("Models and prompt", [models, prompt, seed, start], [positive, negative])
    loss = w.add("RefereeLoss", "The prompt, for the referee", referee=models.out("referee"), text=prompt)
    guided = w.add("RefereeGuidance", model=models, vae=models.out("vae"), loss=loss)
    w.place("The referee takes part", [loss, guided], colour=GREEN)
    inputs = {"positive": positive, "negative": negative, "latent_image": start, "seed": seed, **GUIDED}
    for title, model, colour in (("Guided", guided, GREEN), ("To compare: plain", models, GREY)):
        sampled = w.add("KSampler", title, model=model, **inputs)
        decode = w.add("VAEDecode", samples=sampled, vae=models.out("vae"))
        if model is guided:
            show = w.add("SaveImage", "The result", images=decode, filename_prefix="referee/guided")
        else:
            show = w.add("PreviewImage", "Without the referee", images=decode)
        w.place(title, [sampled], [decode], [show], colour=colour, below=model is models)


def guided_sd15(w: Workflow) -> None:
    checkpoint, prompt, loader = sd15(w, notes.GUIDED_SD15_ABOUT)
    positive, negative = encoded(w, checkpoint.out("clip"), prompt)
    w.place("Models and prompt", [checkpoint, prompt, loader], [positive, negative])
    sampling = {"steps": 30, "cfg": 7.0, "sampler_name": "euler_ancestral", "scheduler": "normal"}
    _guided(w, checkpoint, checkpoint.out("vae"), loader, prompt, positive, negative, noise(w), sampling)


def guided_flux(w: Workflow) -> None:
    w.notes(What_this_does=notes.GUIDED_FLUX_ABOUT, Files=notes.FLUX_FILES + notes.REFEREE_FILES + notes.REFRESH)
    unet, clip_l, t5, ae = notes.FLUX
    model = w.add("UNETLoader", "Flux.1 dev", unet_name=unet)
    clip = w.add("DualCLIPLoader", "Its text encoders", clip_name1=clip_l, clip_name2=t5, type="flux")
    vae = w.add("VAELoader", "Its VAE", vae_name=ae)
    for node, names in ((model, [unet]), (clip, [clip_l, t5]), (vae, [ae])):
        node["properties"]["models"] = notes.flux(*names)
    loader = referee_loader(w)
    prompt = w.add("PrimitiveStringMultiline", "The prompt", value=PAPER["prompt"])
    positive = w.add("CLIPTextEncode", "The prompt, for the diffusion model", clip=clip, text=prompt)
    told = w.add("FluxGuidance", conditioning=positive, guidance=3.5)
    nothing = w.add("ConditioningZeroOut", conditioning=positive)
    w.place("Models and prompt", [model, clip, vae, loader], [prompt, positive, told, nothing])
    start = w.add("EmptySD3LatentImage", "Start from noise", width=1024, height=1024)
    sampling = {"steps": 20, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
    _guided(w, model, vae, loader, prompt, told, nothing, start, sampling)


def _guided(w: Workflow, model, vae, referee, prompt, positive, negative, start, sampling: dict) -> None:
    loss = w.add("RefereeLoss", "The prompt, for the referee", referee=referee, text=prompt, caption_weight=0.0)
    guided = w.add("RefereeGuidance", model=model, vae=vae, loss=loss)
    w.place("The referee takes part", [loss, guided, start], colour=GREEN)
    inputs = {"positive": positive, "negative": negative, "latent_image": start, "seed": SEED, **sampling}
    sampled = w.add("KSampler", "Sampler, as usual", model=guided, **inputs)
    decode = w.add("VAEDecode", samples=sampled, vae=vae)
    save = w.add("SaveImage", "The result", images=decode, filename_prefix="referee/guided")
    w.place("Sample", [sampled], [decode], [save])


GRAPHS = {
    notes.QUICK: quick,
    notes.BEST: best_of_several,
    notes.COMPARISON: comparison,
    notes.PAPER: lambda w: optimized(w, notes.PAPER_ABOUT),
    notes.SAMPLER: sampler_custom_advanced,
    notes.EDIT: lambda w: optimized(w, notes.EDIT_ABOUT, EDIT),
    notes.INVERSION: lambda w: optimized(w, notes.INVERSION_ABOUT, prior=False),
    notes.SDS: lambda w: optimized(w, notes.SDS_ABOUT, referee=False),
    notes.SEARCH: search,
    notes.GUIDED: guided_pair,
    notes.GUIDED_SD15: guided_sd15,
    notes.GUIDED_FLUX: guided_flux,
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
