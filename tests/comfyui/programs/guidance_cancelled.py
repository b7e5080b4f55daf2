"""Guided runs in which Cancel is pressed inside each stage."""

import gc

import comfy.model_management as mm
import torch

from pack.referee_core.methods.gradient_guidance import GuidanceSettings, Relative
from programs import given
from programs.guidance import guide, sample
from programs.players import model, referee, vae

found = {}

decoder, network = vae.first_stage_model.decoder, referee.referee.network
modules = (vae.first_stage_model, network, model.model)


def state():
    parts = [part for module in modules for part in module.modules()]
    tensors = [t for part in parts for t in (*part._parameters.values(), *part._buffers.values()) if t is not None]
    return (
        [(id(t), t.requires_grad, t.is_inference(), t.data_ptr()) for t in tensors],
        [(part.__dict__.get("forward"), part.__dict__.get("optimized_attention"), part.training) for part in parts],
        (referee.referee.checkpointing, torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    )


def cancel(at):
    guided, guidance = guide(model, GuidanceSettings("look-ahead", Relative(0.1)))
    first = sample(guided)
    before, pressed, decodes = state(), [], []

    def press(*_):
        if not pressed:
            pressed.append(at)
            mm.interrupt_current_processing()

    part, how = {
        "decoding": (decoder.conv_out, "register_forward_pre_hook"),
        "judging": (network.vision, "register_forward_pre_hook"),
        "backward": (network.vision, "register_full_backward_hook"),
        "the model's backward": (model.model.diffusion_model.out[2], "register_full_backward_hook"),
    }[at]
    hooks = [getattr(part, how)(press), decoder.register_forward_pre_hook(lambda *_: decodes.append(1))]
    ended = "to its end"
    try:
        sample(guided)
    except BaseException as error:
        ended = type(error).__name__
    for hook in hooks:
        hook.remove()
    gc.collect()
    seen = dict(ended=ended, pressed=len(pressed), decodes=len(decodes), restored=state() == before)
    return seen | {"put_away": guidance.run is None, "next": torch.equal(sample(guided), first)}


for at in given["stages"]:
    found[at] = cancel(at)
