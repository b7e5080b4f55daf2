"""Guidance inside a sampler."""

from .. import workflow_notes as notes
from ..workflow import GREEN, GREY, Workflow
from .parts import CONFUSED, DEMO, GUIDED, SEED, encoded
from .ready import Ready


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
        w.place(title, [sampled], [decode, show], colour=colour)


def guided(w: Workflow, ready: Ready) -> None:
    loss = w.add(
        "RefereeLoss", "The prompt, for the referee", referee=ready.referee, text=ready.prompt, caption_weight=0.0
    )
    guided = w.add("RefereeGuidance", model=ready.model, vae=ready.vae, loss=loss)
    w.place("The referee takes part", [ready.referee, loss, guided], colour=GREEN)
    inputs = {"positive": ready.positive, "negative": ready.negative, "latent_image": ready.start, "seed": SEED}
    sampled = w.add("KSampler", "Sampler, as usual", model=guided, **inputs, **ready.sampling)
    decode = w.add("VAEDecode", samples=sampled, vae=ready.vae)
    save = w.add("SaveImage", "The result", images=decode, filename_prefix="referee/guided")
    w.place("Sample", [ready.start, sampled], [decode, save])
