"""Referee Can Play without ComfyUI: the components of a diffusers pipeline in, a picture out.

With the small models of this repository, in a minute on a CPU:
    python -m docs.diffusers_script "a red circle and a blue square"
With Stable Diffusion and BLIP-2:
    python -m docs.diffusers_script "a green bench and a blue bowl" --pipeline PATH_OR_NAME --referee blip2.safetensors
"""

import argparse

import torch
from PIL import Image

from referee_core.augment import PAPER as VIEWS
from referee_core.augment import Augmentation
from referee_core.averaging import EMARestart
from referee_core.demo import components as demo
from referee_core.demo.storage import path
from referee_core.hosts.diffusers import from_pipeline
from referee_core.losses import bind
from referee_core.methods.referee_can_play import PAPER, LoopSettings, referee_can_play
from referee_core.plots import to_image
from referee_core.priors.sds import SDS
from referee_core.record import LOSS
from referee_core.referees.blip2.weights import COMPACT, load
from referee_core.schedules import Schedule


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompt")
    parser.add_argument("--pipeline", help="a StableDiffusionPipeline; without it, the models of this repository")
    parser.add_argument("--referee", help="a file that python -m referee_core.referees.blip2 wrote")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--output", default="referee.png")
    arguments = parser.parse_args()
    if bool(arguments.pipeline) != bool(arguments.referee):
        parser.error("--pipeline and --referee go together")
    tail = min(PAPER.tail, arguments.steps - 1)

    if arguments.pipeline:
        from diffusers import StableDiffusionPipeline

        device = "cuda" if torch.cuda.is_available() else "cpu"
        half = {"torch_dtype": torch.bfloat16} if device == "cuda" else {}
        models = from_pipeline(StableDiffusionPipeline.from_pretrained(arguments.pipeline, **half).to(device))
        referee = load(arguments.referee, COMPACT)
        referee.network.to(device)
        referee.checkpointing = True
        size, cfg, views = 512, 30.0, VIEWS
        weight, settings = (
            Schedule(800.0, 400.0),
            LoopSettings(steps=arguments.steps, tail=tail, micro_batch=10),
        )
    else:
        models, referee = demo.load_components(), load(path("referee"))
        size, cfg, views = 128, 5.0, Augmentation(count=16, rotation=15, colour=0.04, erasing=0.06)
        weight = Schedule(2000.0, 2000.0)
        settings = LoopSettings(steps=arguments.steps, lr=Schedule(0.2, 0.05), noise=0.05, tail=tail)

    decode = models.decoder()
    steps = referee_can_play(
        models.noise(size, size, arguments.seed),
        decode,
        bind(referee, arguments.prompt, itm=1.0, caption=1.0),
        SDS(models.guided(arguments.prompt, cfg=cfg), weight),
        views,
        EMARestart(),
        settings,
        arguments.seed,
    )
    for step in steps:
        if LOSS in step.scalars and step.index % 10 == 0:
            print(f"step {step.index + 1}/{step.steps}: loss {step.scalars[LOSS]['loss'].item():.3f}")
    with torch.no_grad():
        picture: Image.Image = to_image(decode(step.z)[0].clamp(0, 1))
    picture.save(arguments.output)
    print(arguments.output)


if __name__ == "__main__":
    main()
