"""Prompts that the referee wrote: one, and many."""

from .. import workflow_notes as notes
from ..workflow import GREEN, GREY, Node, Workflow
from .parts import DEMO, PLAIN, SEED, encoded, sd15

LEARNED = "a red circle, a yellow cross and a blue square"
LIST = "\n".join(
    f"a {one} {shape} to the left of a {other} {thing}"
    for one, shape, other, thing in (
        ("red", "circle", "blue", "square"),
        ("green", "cross", "yellow", "triangle"),
        ("blue", "triangle", "red", "cross"),
        ("yellow", "square", "green", "circle"),
        ("cyan", "circle", "red", "triangle"),
        ("red", "cross", "cyan", "square"),
        ("white", "triangle", "blue", "circle"),
        ("purple", "square", "green", "cross"),
    )
)
DEMO_LEARNING = {"learning_rate": 0.1, "last_steps": 6, "noises": 8}  # as in benchmarks/ipgo.py
NEW = "a green square to the left of a red circle"


def optimize_prompt(w: Workflow) -> None:
    w.notes(What_this_does=notes.PROMPT_ABOUT)
    models = w.add("RefereeDemoModels", "The pack's small models")
    prompt = w.add("PrimitiveStringMultiline", "The prompt", value=LEARNED)
    start = w.add("EmptyLatentImage", "Two noises a round", width=DEMO["size"], height=DEMO["size"], batch_size=2)
    positive, negative = encoded(w, models.out("clip"), prompt)
    w.place("Models and prompt", [models, prompt, positive, negative])
    loss = w.add("RefereeLoss", "The prompt, for the referee", referee=models.out("referee"), text=prompt)
    given = {"positive": positive, "negative": negative, "vae": models.out("vae"), "loss": loss, "latent_image": start}
    learning = {"rounds": 20, "steps": 10, "cfg": PLAIN["cfg"], "scheduler": PLAIN["scheduler"], **DEMO_LEARNING}
    learned = w.add("RefereePromptOptimizer", model=models, **given, seed=SEED, **learning)
    report = w.add("PreviewAny", "What the referee says", source=learned.out("report"))
    w.place("Learn", [start, loss], [learned], colour=GREEN)
    w.place("What was learned", [report])
    _compare(w, models, models.out("vae"), learned, positive, negative, {"seed": SEED + 1000, **PLAIN})


def optimize_prompt_sd15(w: Workflow) -> None:
    checkpoint, prompt, loader = sd15(w, notes.PROMPT_SD15_ABOUT)
    positive, negative = encoded(w, checkpoint.out("clip"), prompt)
    start = w.add("EmptyLatentImage", "One noise a round", width=512, height=512)
    w.place("Models and prompt", [checkpoint, prompt, loader], [positive, negative])
    loss = w.add("RefereeLoss", "The prompt, for the referee", referee=loader, text=prompt, caption_weight=0.0)
    vae = checkpoint.out("vae")
    given = {"positive": positive, "negative": negative, "vae": vae, "loss": loss, "latent_image": start}
    learning = {"steps": 30, "cfg": 7.0, "last_steps": 2, "noises": 8, "other_noises": 4}
    learned = w.add("RefereePromptOptimizer", model=checkpoint, **given, seed=SEED, **learning)
    save = w.add("RefereeSavePrompt", tokens=learned.out("tokens"))
    report = w.add("PreviewAny", "What the referee says", source=learned.out("report"))
    w.place("Learn", [start, loss, save], [learned], colour=GREEN)
    w.place("What was learned", [report])
    sampling = {"seed": SEED + 1000, "steps": 30, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal"}
    _compare(w, checkpoint, vae, learned, positive, negative, sampling, size=512)


def train_prompts(w: Workflow) -> None:
    w.notes(What_this_does=notes.PROMPTS_ABOUT)
    models = w.add("RefereeDemoModels", "The pack's small models")
    new = w.add("PrimitiveStringMultiline", "A prompt that is not in the list", value=NEW)
    start = w.add("EmptyLatentImage", "Two noises a round", width=DEMO["size"], height=DEMO["size"], batch_size=2)
    positive, negative = encoded(w, models.out("clip"), new)
    w.place("Models and prompt", [models, new, positive, negative, start])
    parts = {"clip": models.out("clip"), "vae": models.out("vae"), "referee": models.out("referee")}
    learning = {"rounds": 60, "steps": 10, "cfg": PLAIN["cfg"], "scheduler": PLAIN["scheduler"], **DEMO_LEARNING}
    learned = w.add(
        "RefereePromptTrainer", model=models, **parts, prompts=LIST, latent_image=start, seed=SEED, **learning
    )
    report = w.add("PreviewAny", "What the referee says", source=learned.out("report"))
    tokens = w.add("RefereeApplyPrompt", tokens=learned, conditioning=positive, model=models)
    w.place("Learn", [learned], [report, tokens], colour=GREEN)
    _compare(w, models, models.out("vae"), tokens, positive, negative, {"seed": SEED + 1000, **PLAIN})


def _compare(
    w: Workflow, model: Node, vae, learned: Node, plain: Node, negative: Node, sampling: dict, size: int = DEMO["size"]
) -> None:
    """KSampler with the tokens and without."""
    start = w.add("EmptyLatentImage", "Another noise", width=size, height=size)
    for title, positive, colour in (("With the tokens", learned, GREEN), ("To compare: plain", plain, GREY)):
        inputs = {"positive": positive, "negative": negative, "latent_image": start, **sampling}
        sampled = w.add("KSampler", title, model=model, **inputs)
        decode = w.add("VAEDecode", samples=sampled, vae=vae)
        if positive is learned:
            show = w.add("SaveImage", "The result", images=decode, filename_prefix="referee/prompt")
            w.place(title, [start, sampled], [decode, show], colour=colour)
        else:
            show = w.add("PreviewImage", "Without the tokens", images=decode)
            w.place(title, [sampled], [decode, show], colour=colour)
