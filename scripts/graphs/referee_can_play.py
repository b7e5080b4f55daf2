"""Referee Can Play: with the pack's models, beside other ways, with Stable Diffusion 1.5."""

from .. import workflow_notes as notes
from ..demo import RESULTS
from ..workflow import GREEN, GREY, Workflow
from .parts import DEMO, EDIT, PAIR, PAPER, PLAIN, SEED, encoded, judged, masked, noise, pictures, sd15


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
    w.place("Building blocks", [start, seed, prior], [loss, *regularizers.values()])

    loop = {"vae": models.out("vae"), "latent_image": start, "seed": seed, **DEMO["loop"]}
    method = w.add("RefereeOptimizer", "Referee and prior", **loop, loss=loss, prior=prior, **regularizers)
    save = w.add("SaveImage", RESULTS["method"], images=method.out("image"), filename_prefix="referee/comparison")
    plots, shown = pictures(w, method.out("history"))
    w.place("Referee Can Play: referee and prior together", [method], [save, *plots], shown, colour=GREEN)
    plain = w.add("KSampler", "Plain sampling", **pair, latent_image=start, seed=seed, **PLAIN)
    decode = w.add("VAEDecode", samples=plain, vae=models.out("vae"))
    show = w.add("PreviewImage", RESULTS["plain"], images=decode)
    w.place("To compare: plain sampling", [plain], [decode, show], colour=GREY)
    sds = w.add("RefereeOptimizer", "Prior, no referee", **loop, prior=prior)
    show = w.add("PreviewImage", RESULTS["sds"], images=sds.out("image"))
    w.place("To compare: score distillation (SDS) alone", [sds], [show], colour=GREY)
    whole = loop | {"stop_at": 0.0}  # it would be content with noise at once
    whole["model"] = models.out("model")  # whose latents the picture is made of
    inversion = w.add("RefereeOptimizer", "Referee, no prior, no random views", **whole, loss=loss)
    show = w.add("PreviewImage", RESULTS["inversion"], images=inversion.out("image"))
    w.place("To compare: inversion alone", [inversion], [show], colour=GREY)


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
    given = [node for node in inputs.values() if node["type"] != "SetLatentNoiseMask"]
    w.place("What the optimizer gets", *([given[:2], given[2:]] if preset is EDIT else [given]))
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
    w.place("Sample", [sampled, decode], [save], colour=GREEN)


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
    w.place("Make it better", [prior, *regularizers.values(), save], [optimizer], colour=GREEN)
