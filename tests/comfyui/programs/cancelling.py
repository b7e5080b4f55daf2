"""Runs in which Cancel is pressed inside each stage of a step."""

import gc
import weakref

import comfy.model_management as mm
import torch

from pack.nodes.runs import referee_can_play as sampler
from programs import given
from programs.players import model, play, referee, vae

found = {}

modules = (vae.first_stage_model, referee.referee.network, model.model)
decoder, network = vae.first_stage_model.decoder, referee.referee.network


def state():
    """All that a run swaps or switches."""
    parts = [part for module in modules for part in module.modules()]
    tensors = [t for part in parts for t in (*part._parameters.values(), *part._buffers.values()) if t is not None]
    return (
        [(id(t), t.requires_grad, t.is_inference(), t.data_ptr()) for t in tensors],
        [(part.__dict__.get("forward"), part.__dict__.get("optimized_attention"), part.training) for part in parts],
        [(p.load_device, p.loaded_size(), p.current_loaded_device(), p.model.model_lowvram) for p in patchers],
        (referee.referee.checkpointing, torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    )


def cancel(at):
    """One run in whose second step Cancel is pressed inside a stage."""
    steps, decodes, kept, pressed = [], [], [], []

    def press(*_):
        if len(steps) == 1 and not pressed and (at != "recomputing" or torch._C._current_graph_task_id() != -1):
            pressed.append(at)
            mm.interrupt_current_processing()

    def keep(module, inputs, output):
        if len(steps) == 1 and isinstance(output, torch.Tensor):
            kept.append(weakref.ref(output))

    inside = {
        "denoising": model.model.diffusion_model.time_embed,
        "decoding": decoder.conv_out,
        "judging": network.vision,
        "backward": network.vision,
        "recomputing": decoder.mid.block_1.conv1,
    }[at]
    hooks = [part.register_forward_hook(keep) for part in (*decoder.modules(), *network.modules())]
    hooks.append(decoder.register_forward_pre_hook(lambda *_: decodes.append(1)))
    hooks.append((inside.register_full_backward_hook if at == "backward" else inside.register_forward_pre_hook)(press))
    ended = "to its end"
    try:
        play(steps=3, on_step=steps.append)
    except BaseException as error:
        ended = type(error).__name__
    for hook in hooks:
        hook.remove()
    seen = dict(ended=ended, pressed=len(pressed), pending=mm.processing_interrupted())
    seen |= dict(steps=len(steps), decodes=len(decodes))
    steps.clear()
    gc.collect()
    return seen | dict(made=len(kept), alive=sum(t() is not None for t in kept))


patchers = (vae.patcher, referee.patcher, model)
first = play()
for at in given["stages"]:
    if at == "recomputing":
        mm.is_device_cpu = lambda device: False
        sampler.Decoder.memory_required = lambda *a, **k: 2.0**60
        first = play()
    before = state()
    found[at] = cancel(at)
    found[at] |= {"restored": state() == before, "next": torch.equal(play(), first)}
