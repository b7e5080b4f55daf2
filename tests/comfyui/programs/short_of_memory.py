"""Runs on a card of main memory that is too small for the diffusion model, or for anything at all."""

from contextlib import contextmanager
from dataclasses import replace

import comfy.model_management as mm
import torch

from pack.nodes.bridge.gradients import block as differentiable
from pack.nodes.bridge.gradients import memory
from pack.referee_core.averaging import EMARestart
from programs import card  # before the players, who then stand on it
from programs.players import model, play, prior, referee, vae

found = {}

vram = card.memory


memory.RESERVE = 0
seen, fit_to_memory = {}, differentiable.fit_to_memory


@contextmanager
def spy(passages, loss, device, shape, *views):
    with fit_to_memory(passages, loss, device, shape, *views) as at_once:
        parts = [part for part in model.model.modules() if hasattr(part, "comfy_cast_weights")]
        seen.update(
            needed=passages[0].memory_required(shape, checkpointing=True) + memory.count_least_bytes(loss),
            free=vram.free,
            loaded=[p.loaded_size() for p in patchers],
            whole=[memory.is_whole(p) for p in patchers[:2]],
            cast=sum(part.comfy_cast_weights for part in parts),
            patches=sum(len(part.weight_function) for part in parts),
        )
        yield at_once


def add_lora(model):
    model, g = model.clone(), torch.Generator().manual_seed(0)
    weights = {k: v for k, v in model.model.state_dict().items() if k.endswith("weight") and v.ndim == 2}
    model.add_patches({k: ("diff", (0.05 * torch.randn(v.shape, generator=g),)) for k, v in weights.items()})
    return model


def compare(name, result):
    off = (result - roomy[name]).abs().max().item()
    return seen | {"sizes": sizes, "equal": torch.equal(result, roomy[name]), "off": off}


patchers = (vae.patcher, referee.patcher, model)
sizes = [p.model_size() for p in patchers]
differentiable.fit_to_memory = spy
priors = {"plain": prior, "lora": replace(prior, model=add_lora(model))}
roomy = {name: play(prior=p, at_once=1) for name, p in priors.items()}
found["lora acts"] = (roomy["lora"] - roomy["plain"]).abs().max().item()
endless, small = vram.size, int(seen["needed"] + 1.1 * sum(sizes) - 0.5 * sizes[2])
for state in ("NORMAL_VRAM", "LOW_VRAM", "NO_VRAM"):
    mm.unload_all_models()
    mm.vram_state, vram.size = mm.VRAMState[state], small
    with torch.inference_mode():
        mm.load_models_gpu([model])  # as a KSampler before would
    for name, p in priors.items():
        found[f"{state} {name}"] = compare(name, play(prior=p, at_once=1))
mm.vram_state = mm.VRAMState.NORMAL_VRAM
for name, size in {"vae": sizes[0] // 2, "referee": sum(sizes[:2]) - sizes[1] // 2}.items():
    mm.unload_all_models()
    vram.size = size
    try:
        play()
    except torch.OutOfMemoryError as error:
        found[f"no room for {name}"] = str(error)
mm.unload_all_models()
vram.size = endless
found["after"] = compare("plain", play(at_once=1))
mm.unload_all_models()
mask = torch.zeros(1, 128, 128)
mask[:, 32:96, 32:96] = 1
start = {"samples": torch.ones(2, 4, 16, 16), "noise_mask": mask}
found["every part"] = bool(play(latent=start, averaging=EMARestart(0.5, 1, 1), steps=3).isfinite().all())
found["alone"] = bool(play(prior=None).isfinite().all() and play(loss=None).isfinite().all())
del start
