"""What several graphs share: settings, and pieces of a graph."""

from .. import workflow_files as needed
from ..demo import SHEETS
from ..workflow import Node, Workflow

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


def checkpoint_sd15(w: Workflow, about: str, referee: bool = False) -> Node:
    """Notes, placed, and the checkpoint, not yet. referee: whether its files are listed too."""
    w.notes(What_this_does=about, Files=needed.FILES + needed.REFEREE_FILES * referee + needed.REFRESH)
    checkpoint = w.add("CheckpointLoaderSimple", "Stable Diffusion 1.5", ckpt_name=needed.CHECKPOINT)
    checkpoint["properties"]["models"] = needed.downloads(needed.CHECKPOINT_PAGE, needed.CHECKPOINT, "checkpoints")
    return checkpoint


def sd15(w: Workflow, about: str, preset: dict = PAPER, referee: bool = True) -> tuple[Node, Node, Node | None]:
    """Notes, checkpoint, prompt and referee, not yet placed."""
    checkpoint = checkpoint_sd15(w, about, referee)
    prompt = w.add("PrimitiveStringMultiline", "The prompt", value=preset["prompt"])
    if not referee:
        return checkpoint, prompt, None
    return checkpoint, prompt, referee_loader(w)


def referee_loader(w: Workflow) -> Node:
    loader = w.add("RefereeLoader", "BLIP-2, the referee", referee_name=needed.REFEREE)
    loader["properties"]["models"] = needed.downloads(needed.REFEREE_PAGE, needed.REFEREE, "referee")
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
