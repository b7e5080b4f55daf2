"""Optimize Prompt on each kind of model: small instances of ComfyUI's own classes, with random weights."""

import comfy.sample
import torch

from pack.nodes import prompts
from programs.players import loss
from programs.small_models import MODELS, autoencoder, build, known, prompt

found = {}
COMMON = {
    "seed": 5, "steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "simple", "rounds": 2,
    "learning_rate": 0.1, "last_steps": 2, "noises": 1, "other_noises": 1, "check_every": 1, "stop_at": 0.0,
    "patience": 0, "tokens": 3, "side": "before and after", "rank": 8, "conformity": 0.001, "record_every": 1,
}  # fmt: skip


def learn(name):
    with torch.inference_mode():
        patcher, vae = build(name, torch.float32), autoencoder(MODELS[name][2])
        positive, negative = prompt(name, 2), prompt(name, 3)
        latent = torch.zeros(1, *MODELS[name][2])
        noise = comfy.sample.prepare_noise(latent, 5)

        def sample(text):
            made = comfy.sample.sample(patcher, noise, 2, 2.0, "euler", "simple", text, negative, latent, seed=5)
            return made.clone()

        plain = sample(positive)
        learned = prompts.RefereePromptOptimizer.execute(
            model=patcher, positive=positive, negative=negative, vae=vae, loss=loss,
            latent_image={"samples": latent}, **COMMON
        ).result  # fmt: skip
        conditioning, _, image, history, report = learned
        shown = [list(conditioning[0][0].shape), sorted(conditioning[0][1]) == sorted(positive[0][1])]
        norms = [float(n) for n in history.curves["gradient norm"]["referee"]]
        return {
            "shapes": [list(positive[0][0].shape), *shown],
            "norms": norms,
            "finite": bool(image.isfinite().all()) and image.shape[-1] == 3,
            "same": torch.equal(sample(positive), plain),
            "moved": float((sample(_longer(positive)) - plain).abs().max()),
            "report": report.splitlines(),
        }


def _longer(positive):
    """The prompt with its own first tokens once more before it."""
    return [[torch.cat([text[:, :3], text], 1), about] for text, about in positive]


found |= {name: learn(name) for name in known()}
