"""Guidance on a card that does not hold model, VAE and referee together."""

import comfy.model_management as mm
import torch

from pack.nodes.bridge.gradients import memory
from pack.nodes.bridge.gradients.model import DifferentiableModel
from pack.nodes.bridge.gradients.vae import Decoder
from pack.referee_core.methods.gradient_guidance import GuidanceSettings, Relative
from programs import card  # before the players, who then stand on it
from programs.guidance import guide, sample
from programs.players import loss, model, referee, vae

found = {}

vram = card.memory

memory.RESERVE = 0
patchers, shape = (vae.patcher, referee.patcher, model), torch.Size([1, 4, 8, 8])
sizes = [p.model_size() for p in patchers]
passages = {"prediction": [Decoder(vae)], "look-ahead": [Decoder(vae), DifferentiableModel(model)]}


def on(size, run):
    vram.size = int(size)
    mm.unload_all_models()
    return run()


def compare(gradient, through):
    guided, _ = guide(model, GuidanceSettings(gradient, Relative(0.1)))
    work = memory.count_least_bytes(loss.loss) + sum(p.memory_required(shape, checkpointing=True) for p in through)
    roomy, plain = on(2**40, lambda: sample(guided)), on(2**40, lambda: sample(model))
    tight = on(work + 1.1 * sum(sizes) - (0.5 * sizes[2] if len(through) == 1 else 0), lambda: sample(guided))
    loaded = model.loaded_size() / sizes[2]
    return (roomy - tight).abs().max().item(), (roomy - plain).abs().max().item(), loaded


for gradient, through in passages.items():
    found[gradient] = compare(gradient, through)
