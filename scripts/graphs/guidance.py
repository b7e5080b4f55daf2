"""Guidance inside a sampler."""

from .. import workflow_files as needed
from .. import workflow_notes as notes
from ..workflow import GREEN, GREY, Workflow
from .parts import CONFUSED, DEMO, GUIDED, PAPER, SEED, encoded, noise, referee_loader, sd15


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
    unet, clip_l, t5, ae = needed.FLUX
    files = needed.listed("Flux.1 dev", needed.FLUX)
    w.notes(What_this_does=notes.GUIDED_FLUX_ABOUT, Files=files + needed.REFEREE_FILES + needed.REFRESH)
    model = w.add("UNETLoader", "Flux.1 dev", unet_name=unet)
    clip = w.add("DualCLIPLoader", "Its text encoders", clip_name1=clip_l, clip_name2=t5, type="flux")
    vae = w.add("VAELoader", "Its VAE", vae_name=ae)
    for node, names in ((model, [unet]), (clip, [clip_l, t5]), (vae, [ae])):
        node["properties"]["models"] = needed.files(*names)
    loader = referee_loader(w)
    prompt = w.add("PrimitiveStringMultiline", "The prompt", value=PAPER["prompt"])
    positive = w.add("CLIPTextEncode", "The prompt, for the diffusion model", clip=clip, text=prompt)
    told = w.add("FluxGuidance", conditioning=positive, guidance=3.5)
    nothing = w.add("ConditioningZeroOut", conditioning=positive)
    w.place("Models and prompt", [model, clip, vae, loader], [prompt, positive, told, nothing])
    start = w.add("EmptySD3LatentImage", "Start from noise", width=1024, height=1024)
    sampling = {"steps": 20, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
    _guided(w, model, vae, loader, prompt, told, nothing, start, sampling)


def guided_sdxl(w: Workflow) -> None:
    (name,) = needed.SDXL
    files = needed.listed("SDXL", needed.SDXL)
    w.notes(What_this_does=notes.GUIDED_SDXL_ABOUT, Files=files + needed.REFEREE_FILES + needed.REFRESH)
    checkpoint = w.add("CheckpointLoaderSimple", "SDXL", ckpt_name=name)
    checkpoint["properties"]["models"] = needed.files(name)
    loader = referee_loader(w)
    prompt = w.add("PrimitiveStringMultiline", "The prompt", value=PAPER["prompt"])
    positive, negative = encoded(w, checkpoint.out("clip"), prompt)
    w.place("Models and prompt", [checkpoint, prompt, loader], [positive, negative])
    start = w.add("EmptyLatentImage", "Start from noise", width=1024, height=1024)
    sampling = {"steps": 30, "cfg": 7.0, "sampler_name": "euler_ancestral", "scheduler": "normal"}
    _guided(w, checkpoint, checkpoint.out("vae"), loader, prompt, positive, negative, start, sampling)


def guided_qwen_image(w: Workflow) -> None:
    unet, encoder, autoencoder = needed.QWEN
    files = needed.listed("Qwen-Image", needed.QWEN)
    w.notes(What_this_does=notes.GUIDED_QWEN_ABOUT, Files=files + needed.REFEREE_FILES + needed.REFRESH)
    loaded = w.add("UNETLoader", "Qwen-Image", unet_name=unet)
    clip = w.add("CLIPLoader", "Its text encoder", clip_name=encoder, type="qwen_image")
    vae = w.add("VAELoader", "Its VAE", vae_name=autoencoder)
    for node, name in ((loaded, unet), (clip, encoder), (vae, autoencoder)):
        node["properties"]["models"] = needed.files(name)
    model = w.add("ModelSamplingAuraFlow", model=loaded, shift=3.1)
    loader = referee_loader(w)
    prompt = w.add("PrimitiveStringMultiline", "The prompt", value=PAPER["prompt"])
    positive, negative = encoded(w, clip, prompt)
    w.place("Models and prompt", [loaded, model, clip, vae], [loader, prompt, positive, negative])
    start = w.add("EmptySD3LatentImage", "Start from noise", width=1328, height=1328)
    sampling = {"steps": 20, "cfg": 2.5, "sampler_name": "euler", "scheduler": "simple"}
    _guided(w, model, vae, loader, prompt, positive, negative, start, sampling)


def _guided(w: Workflow, model, vae, referee, prompt, positive, negative, start, sampling: dict) -> None:
    loss = w.add("RefereeLoss", "The prompt, for the referee", referee=referee, text=prompt, caption_weight=0.0)
    guided = w.add("RefereeGuidance", model=model, vae=vae, loss=loss)
    w.place("The referee takes part", [loss, guided, start], colour=GREEN)
    inputs = {"positive": positive, "negative": negative, "latent_image": start, "seed": SEED, **sampling}
    sampled = w.add("KSampler", "Sampler, as usual", model=guided, **inputs)
    decode = w.add("VAEDecode", samples=sampled, vae=vae)
    save = w.add("SaveImage", "The result", images=decode, filename_prefix="referee/guided")
    w.place("Sample", [sampled], [decode], [save])
