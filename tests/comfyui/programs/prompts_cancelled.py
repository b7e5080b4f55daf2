"""Optimize Prompt, in whose rounds Cancel is pressed; and what is left afterwards."""

import comfy.model_management as mm
import torch

from pack.nodes import prompts
from programs.players import cond, loss, model, referee, vae

found = {}
COMMON = {
    "latent_image": {"samples": torch.zeros(1, 4, 16, 16)}, "seed": 5, "steps": 4, "cfg": 3.0,
    "sampler_name": "euler", "scheduler": "normal", "rounds": 3, "learning_rate": 0.1, "last_steps": 2, "noises": 1,
    "other_noises": 1, "check_every": 1, "stop_at": 0.0, "patience": 0, "tokens": 3, "side": "before", "rank": 16,
    "conformity": 0.001, "record_every": 1,
}  # fmt: skip
modules = (vae.first_stage_model, referee.referee.network, model.model)
asked = []


def optimize():
    with torch.inference_mode():
        prompts.RefereePromptOptimizer.execute(model=model, positive=cond, negative=cond, vae=vae, loss=loss, **COMMON)


def state():
    """All that a run swaps or switches."""
    parts = [part for module in modules for part in module.modules()]
    tensors = [t for part in parts for t in (*part._parameters.values(), *part._buffers.values()) if t is not None]
    return (
        [(id(t), t.requires_grad, t.is_inference(), t.data_ptr()) for t in tensors],
        [(part.__dict__.get("forward"), part.training) for part in parts],
        (
            mm.in_training,
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.random.get_rng_state().sum(),
        ),
    )


def cancel(call, backward):
    """Press Cancel in that call of the diffusion model, or in the backward pass after it."""
    asked.clear()

    def press(*_):
        asked.append(1)
        if len(asked) == call:
            mm.interrupt_current_processing()

    part = model.model.diffusion_model.out
    hook = (part.register_full_backward_hook if backward else part.register_forward_pre_hook)(press)
    ended = "to its end"
    try:
        optimize()
    except BaseException as error:
        ended = type(error).__name__
    hook.remove()
    return ended, len(asked)


optimize()
before = state()
weights = [p.clone() for p in model.model.parameters()]
for stage, call, backward in (("first look", 3, False), ("sampling", 11, False), ("way back", 1, True)):
    ended, calls = cancel(call, backward)
    same = all(torch.equal(p, w) for p, w in zip(model.model.parameters(), weights, strict=True))
    found[stage] = [ended, calls - call, same and str(state()) == str(before), mm.processing_interrupted()]
