"""Published models with BLIP-2, ready to sample."""

from typing import Any, NamedTuple

from .. import workflow_files as needed
from ..workflow import Node, Workflow
from .parts import PAPER, encoded, noise, referee_loader, sd15


class Ready(NamedTuple):
    """All that a sampler takes, and the referee, not yet placed, as the start. sampling: KSampler's settings."""

    model: Node
    positive: Node
    negative: Node
    start: Node
    vae: Node | tuple[Node, int]
    referee: Node
    prompt: Node
    sampling: dict[str, Any]


LONG = {"steps": 30, "cfg": 7.0, "sampler_name": "euler_ancestral", "scheduler": "normal"}
FLOW = {"steps": 20, "cfg": 2.5, "sampler_name": "euler", "scheduler": "simple"}


def ready_sd15(w: Workflow, about: str) -> Ready:
    checkpoint, prompt, loader = sd15(w, about)
    positive, negative = encoded(w, checkpoint.out("clip"), prompt)
    w.place("Models and prompt", [checkpoint, prompt], [positive, negative])
    return Ready(checkpoint, positive, negative, noise(w), checkpoint.out("vae"), loader, prompt, LONG)


def ready_sdxl(w: Workflow, about: str) -> Ready:
    _notes(w, about, "SDXL", needed.SDXL)
    checkpoint = w.add("CheckpointLoaderSimple", "SDXL", ckpt_name=next(iter(needed.SDXL)))
    checkpoint["properties"]["models"] = needed.files(*needed.SDXL)
    loader, prompt = referee_loader(w), _prompt(w)
    positive, negative = encoded(w, checkpoint.out("clip"), prompt)
    w.place("Models and prompt", [checkpoint, prompt], [positive, negative])
    start = w.add("EmptyLatentImage", "Start from noise", width=1024, height=1024)
    return Ready(checkpoint, positive, negative, start, checkpoint.out("vae"), loader, prompt, LONG)


def ready_flux(w: Workflow, about: str) -> Ready:
    unet, clip_l, t5, ae = needed.FLUX
    _notes(w, about, "Flux.1 dev", needed.FLUX)
    model = w.add("UNETLoader", "Flux.1 dev", unet_name=unet)
    clip = w.add("DualCLIPLoader", "Its text encoders", clip_name1=clip_l, clip_name2=t5, type="flux")
    vae = w.add("VAELoader", "Its VAE", vae_name=ae)
    for node, names in ((model, [unet]), (clip, [clip_l, t5]), (vae, [ae])):
        node["properties"]["models"] = needed.files(*names)
    loader, prompt = referee_loader(w), _prompt(w)
    read = w.add("CLIPTextEncode", "The prompt, for the diffusion model", clip=clip, text=prompt)
    positive = w.add("FluxGuidance", conditioning=read, guidance=3.5)
    negative = w.add("ConditioningZeroOut", conditioning=read)
    w.place("Models and prompt", [model, clip, vae], [prompt, read, positive, negative])
    start = w.add("EmptySD3LatentImage", "Start from noise", width=1024, height=1024)
    return Ready(model, positive, negative, start, vae, loader, prompt, FLOW | {"cfg": 1.0})


def ready_qwen_image(w: Workflow, about: str) -> Ready:
    unet, encoder, autoencoder = needed.QWEN
    _notes(w, about, "Qwen-Image", needed.QWEN)
    loaded = w.add("UNETLoader", "Qwen-Image", unet_name=unet)
    clip = w.add("CLIPLoader", "Its text encoder", clip_name=encoder, type="qwen_image")
    vae = w.add("VAELoader", "Its VAE", vae_name=autoencoder)
    for node, name in ((loaded, unet), (clip, encoder), (vae, autoencoder)):
        node["properties"]["models"] = needed.files(name)
    model = w.add("ModelSamplingAuraFlow", model=loaded, shift=3.1)
    loader, prompt = referee_loader(w), _prompt(w)
    positive, negative = encoded(w, clip, prompt)
    w.place("Models and prompt", [loaded, model, clip, vae], [prompt, positive, negative])
    start = w.add("EmptySD3LatentImage", "Start from noise", width=1328, height=1328)
    return Ready(model, positive, negative, start, vae, loader, prompt, FLOW)


def _notes(w: Workflow, about: str, title: str, names: dict) -> None:
    w.notes(What_this_does=about, Files=needed.listed(title, names) + needed.REFEREE_FILES + needed.REFRESH)


def _prompt(w: Workflow) -> Node:
    return w.add("PrimitiveStringMultiline", "The prompt", value=PAPER["prompt"])
