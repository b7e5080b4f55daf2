"""How many attempts go at a time on a card."""

import comfy.model_management as mm
import comfy.samplers
import torch

from pack.nodes.bridge.gradients.memory import ENOUGH_VIEWS, count_least_bytes
from pack.nodes.bridge.judging.judge import Judge
from pack.nodes.bridge.sampling.batches import most_at_once
from pack.nodes.runs.search import Attempts
from programs import card  # before the players, who then stand on it
from programs.players import cond, loss, model, vae

found = {}

vram = card.memory
vram.size = 2**30


class Silent:
    finish_asked, best = False, None

    def step(self, *a):
        pass

    sampled = step


guider, sizes, limit = comfy.samplers.CFGGuider(model), [], 5
guider.set_conds(cond, cond)
guider.set_cfg(3.0)
inner = guider.inner_sample


def spy(noise, *args, **kwargs):
    sizes.append(len(noise))
    if len(noise) > limit:  # more than ComfyUI reckons with
        torch.empty(vram.free + 1, dtype=torch.uint8, device=card.CARD)
    return inner(noise, *args, **kwargs)


guider.inner_sample = spy
sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 1)
start = {"samples": torch.zeros(1, 4, 16, 16)}


def attempts(at_once, stops=False):
    """The latents of five seeds, and how many of them were begun in each batch."""
    sizes.clear()
    mm.unload_all_models()
    with torch.inference_mode():
        made = Attempts(guider, comfy.samplers.sampler_object("euler"), sigmas, start, vae, at_once, stops, 0, Silent())
        latents = [picture.latent.clone() for picture in made(range(1, 6), None)]
    return latents, {"sizes": list(sizes), "notes": made.notes}


def off(latents):
    return max((a - b).abs().max().item() for a, b in zip(latents, alone, strict=True))


alone, found["one"] = attempts(1)
_, found["may stop"] = attempts(0, stops=True)
together, found["all"] = attempts(0)
limit = 2
short, found["short"] = attempts(5)
found["off"] = off(together), off(short)
limit = 0
try:
    attempts(5)
except torch.OutOfMemoryError as error:
    found["hopeless"] = str(error)
vram.size = int(model.model_size() + 1.5 * 3.5 * model.memory_required([2, 4, 16, 16]))
mm.unload_all_models()
found["most"] = most_at_once(model, (1, 4, 16, 16))


def judged(size):
    """What it says after three attempts on a card of this size, and how much it took for loading."""
    vram.size, judge = size, Judge(loss)
    mm.unload_all_models()
    with torch.inference_mode():
        made = Attempts(guider, comfy.samplers.sampler_object("euler"), sigmas, start, vae, 1, False, 0, Silent())
        for picture in made(range(1, 4), None):
            judge(picture, torch.Generator().manual_seed(0))
    return {"said": judge.cost(), "turns": judge.turns, "reloads": judge.reloads}


limit = 5
weights = model.model_size() + vae.patcher.model_size() + loss.patchers[0].model_size()
work = count_least_bytes(loss.loss) * ENOUGH_VIEWS + model.memory_required([2, 4, 16, 16])
found["roomy"] = judged(2**30)
found["turns"] = judged(int(weights - 0.5 * loss.patchers[0].model_size() + work))
