"""Search until it obeys: with BLIP-2 or a vision-language model as the referee."""

from .. import workflow_files as needed
from .. import workflow_notes as notes
from ..subgraphs import SEARCH
from ..workflow import GREEN, Node, Workflow
from .parts import DEMO, GUIDED, SEARCHED, SEED, encoded
from .ready import LONG, Ready

TURBO = {"steps": 8, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}  # of distilled models
ASKED = "a green bench, a blue bowl on the bench and a red book to the left of the bowl"


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
    parts = guided, positive, negative, start, models.out("vae"), models.out("referee"), prompt
    _until(w, Ready(*parts, GUIDED))


def search_ready(w: Workflow, ready: Ready) -> None:
    w.place("Referee and start", [ready.referee, ready.start])
    _until(w, ready)


def _until(w: Workflow, ready: Ready) -> None:
    """The subgraph that searches, and what it found."""
    given = ready._asdict()
    found = SEARCH.put_into(w, latent=given.pop("start"), **given.pop("sampling"), **given, seed=SEED)
    save = w.add("SaveImage", "The result", images=found.out("image"), filename_prefix="referee/search")
    report = w.add("PreviewAny", "What the referee says", source=found.out("report"))
    w.place("Until one obeys", [found], [save, report], colour=GREEN)


def asked_z_image(w: Workflow) -> None:
    loaded, clip, vae = _three(w, notes.ASKED_Z_IMAGE_ABOUT, "Z-Image-Turbo", needed.Z_IMAGE, "lumina2", alone=False)
    model = w.add("ModelSamplingAuraFlow", model=loaded, shift=3.0)
    _asked(w, (loaded, model, clip, vae), model, clip, vae, _vision_language(w), TURBO | {"steps": 9})


def asked_krea(w: Workflow) -> None:
    loaded, clip, vae = _three(w, notes.ASKED_KREA_ABOUT, "Krea 2 Turbo", needed.KREA, "krea2", alone=True)
    _asked(w, (loaded, clip, vae), loaded, clip, vae, clip, TURBO)


def asked_sdxl(w: Workflow) -> None:
    (name,) = needed.SDXL
    judge = needed.list_files("Qwen3-VL 4B, the referee", needed.VISION_LANGUAGE)
    files = "\n".join([needed.listed("SDXL", needed.SDXL).rstrip(), *judge, ""])
    w.notes(What_this_does=notes.ASKED_SDXL_ABOUT, Files=files + needed.REFRESH)
    checkpoint = w.add("CheckpointLoaderSimple", "SDXL", ckpt_name=name)
    checkpoint["properties"]["models"] = needed.files(name)
    parts = checkpoint, checkpoint.out("clip"), checkpoint.out("vae")
    _asked(w, (checkpoint,), *parts, _vision_language(w), LONG)


def _three(w: Workflow, about: str, title: str, names: dict, kind: str, alone: bool) -> tuple[Node, Node, Node]:
    """Notes and the loaders of model, text encoder and VAE. alone: the text encoder is the referee too."""
    judge = [] if alone else needed.list_files("Qwen3-VL 4B, the referee", needed.VISION_LANGUAGE)
    w.notes(What_this_does=about, Files="\n".join([needed.listed(title, names).rstrip(), *judge, ""]) + needed.REFRESH)
    unet, encoder, autoencoder = names
    model = w.add("UNETLoader", title, unet_name=unet)
    clip = w.add("CLIPLoader", "Its text encoder", clip_name=encoder, type=kind)
    vae = w.add("VAELoader", "Its VAE", vae_name=autoencoder)
    for node, name in ((model, unet), (clip, encoder), (vae, autoencoder)):
        node["properties"]["models"] = needed.files(name)
    return model, clip, vae


def _vision_language(w: Workflow) -> Node:
    (name,) = needed.VISION_LANGUAGE
    loader = w.add("CLIPLoader", "Qwen3-VL, the referee", clip_name=name, type="krea2")
    loader["properties"]["models"] = needed.files(name)
    return loader


def _asked(w: Workflow, loaders, model, clip, vae, judge: Node, sampling: dict) -> None:
    """A search whose referee is a vision-language model."""
    prompt = w.add("PrimitiveStringMultiline", "The prompt", value=ASKED)
    positive = w.add("CLIPTextEncode", "The prompt, for the diffusion model", clip=clip, text=prompt)
    distilled = sampling["cfg"] == 1.0
    if distilled:
        negative = w.add("ConditioningZeroOut", conditioning=positive)
    else:
        negative = w.add("CLIPTextEncode", "Negative prompt: empty", clip=clip)
    start = w.add("EmptyLatentImage" if not distilled else "EmptySD3LatentImage", width=1024, height=1024)
    w.place("Models and prompt", [*loaders], [prompt, positive, negative, start])
    referee = w.add("RefereeFromVLM", clip=judge)
    loss = w.add("RefereeStatements", "The prompt, part by part", referee=referee, text=prompt)
    w.place("The referee", [node for node in (judge, referee, loss) if node not in loaders])
    pair = {"model": model, "positive": positive, "negative": negative}
    guider = w.add("CFGGuider", "Guidance, as usual", **pair, cfg=sampling["cfg"])
    sampler = w.add("KSamplerSelect", "Sampler, as usual", sampler_name=sampling["sampler_name"])
    plan = {"scheduler": sampling["scheduler"], "steps": sampling["steps"]}
    sigmas = w.add("BasicScheduler", "Steps, as usual", model=model, **plan)
    w.place("How each picture is made", [guider, sampler, sigmas])
    inputs = {"guider": guider, "sampler": sampler, "sigmas": sigmas, "latent_image": start, "vae": vae, "loss": loss}
    found = w.add("RefereeSearch", **inputs, seed=SEED, stop_at=0.8, variation=1.0 if distilled else 0.0)
    save = w.add("SaveImage", "The result", images=found.out("image"), filename_prefix="referee/search")
    report = w.add("PreviewAny", "What the referee says", source=found.out("report"))
    w.place("Until one obeys", [found], [save, report], colour=GREEN)
