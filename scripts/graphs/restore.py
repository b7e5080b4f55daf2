"""Restoration that stays true to its input: with the pack's models, and with Stable Diffusion 1.5."""

from .. import workflow_notes as notes
from ..workflow import GREEN, GREY, Workflow
from .parts import DEMO, PLAIN, SEED, checkpoint_sd15, encoded

DRAWN = "a red circle and a blue square"
PRESET = "projection"  # the best in measurement, and the cheapest


def restore_demo(w: Workflow) -> None:
    w.notes(What_this_does=notes.RESTORE_ABOUT)
    models = w.add("RefereeDemoModels", "The pack's small models")
    vae = models.out("vae")
    positive, negative = encoded(w, models.out("clip"), DRAWN)
    start = w.add("EmptyLatentImage", width=DEMO["size"], height=DEMO["size"])
    pair = {"model": models, "positive": positive, "negative": negative}
    drawn = w.add("KSampler", "An original to lose", **pair, latent_image=start, seed=SEED, **PLAIN)
    original = w.add("VAEDecode", samples=drawn, vae=vae)
    w.place("A picture", [models, positive, negative], [start, drawn, original])
    how = {"kind": "super-resolution", "kind.factor": 4, "noise": 0.01}
    measurement = w.add("RefereeMeasurement", **how)
    measured = w.add("RefereeDegrade", images=original, measurement=measurement, seed=SEED)
    how = {"upscale_method": "bicubic", "width": DEMO["size"], "height": DEMO["size"], "crop": "disabled"}
    enlarged = w.add("ImageScale", "Only to look: enlarged by bicubic", image=measured, **how)
    show = w.add("PreviewImage", "Shrunk, and enlarged by bicubic", images=enlarged)
    w.place("What is left of it", [measurement, measured], [enlarged, show], colour=GREY)
    _restore(w, models, measurement, measured, steps=24, denoise=0.5)
    again = w.add("PreviewImage", "To compare: the original", images=original)
    w.place("", [again])


def upscale_sd15(w: Workflow) -> None:
    checkpoint = checkpoint_sd15(w, notes.UPSCALE_SD15_ABOUT)
    measured = w.add("LoadImage", "Your small picture, 128 x 128 or so", image="example.png")
    small = w.add(
        "ImageScale", "To 128 x 128", image=measured, upscale_method="area", width=128, height=128, crop="center"
    )
    measurement = w.add("RefereeMeasurement", **{"kind": "super-resolution", "kind.factor": 4, "noise": 0.01})
    _sd15(w, checkpoint, [measured, small], [measurement], measurement, small, 0.5)


def inpaint_sd15(w: Workflow) -> None:
    checkpoint = checkpoint_sd15(w, notes.INPAINT_SD15_ABOUT)
    picture = w.add("LoadImage", "Your picture, 512 x 512: paint a mask on it", image="example.png")
    how = {"kind": "inpainting", "mask": picture.out("mask"), "noise": 0.0}
    measurement = w.add("RefereeMeasurement", **how)
    _sd15(w, checkpoint, [picture], [measurement], measurement, picture, 1.0)


def deblur_sd15(w: Workflow) -> None:
    checkpoint = checkpoint_sd15(w, notes.DEBLUR_SD15_ABOUT)
    picture = w.add("LoadImage", "Your blurred picture", image="example.png")
    cut = {"upscale_method": "area", "width": 512, "height": 512, "crop": "center"}
    scaled = w.add("ImageScale", "To 512 x 512", image=picture, **cut)
    how = {"kind": "gaussian blur", "kind.horizontal": 3.0, "kind.vertical": 3.0, "noise": 0.01}
    measurement = w.add("RefereeMeasurement", **how)
    _sd15(w, checkpoint, [picture, scaled], [measurement], measurement, scaled, 0.5)


def _sd15(w: Workflow, checkpoint, first, second, measurement, measured, denoise: float) -> None:
    w.place("Model and your picture", [checkpoint], first, second)
    _restore(w, checkpoint, measurement, measured, steps=50, denoise=denoise)


def _restore(w: Workflow, models, measurement, measured, steps: int, denoise: float) -> None:
    given, vae = {"measurement": measurement, "measured": measured}, models.out("vae")
    prompt = w.add("CLIPTextEncode", "The prompt: empty", clip=models.out("clip"))
    guider = w.add("BasicGuider", model=models, conditioning=prompt)
    plan = {"scheduler": "normal", "steps": steps, "denoise": denoise}
    sigmas = w.add("BasicScheduler", "Steps, and how much anew", model=models, **plan)
    random = w.add("RandomNoise", "Seed", noise_seed=SEED)
    sampler = w.add("RefereeInverseSampler", **given, vae=vae, preset=PRESET)
    parts = {"noise": random, "guider": guider, "sampler": sampler, "sigmas": sigmas}
    made = w.add("SamplerCustomAdvanced", **parts, latent_image=sampler.out("latent"))
    decoded = w.add("VAEDecode", samples=made, vae=vae)
    w.place("For the sampler", [prompt, guider, sigmas, random])
    w.place("Restore", [sampler], [made, decoded], colour=GREEN)
    proof = w.add("RefereeResidual", images=decoded, **given)
    save = w.add("SaveImage", "The result", images=proof, filename_prefix="referee/restored")
    show = w.add("PreviewImage", "The residual: grey is the same", images=proof.out("residual"))
    report = w.add("PreviewAny", "How true it is", source=proof.out("report"))
    w.place("Is it still the same picture?", [proof, report], [save, show])
