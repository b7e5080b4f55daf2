"""Gradients through each kind of model, and differences of its predictions."""

from contextlib import ExitStack

import comfy.model_management as mm
import comfy.sampler_helpers
import comfy.samplers
import torch

from pack.nodes.bridge.gradients.block import differentiable
from pack.nodes.bridge.gradients.model import DifferentiableModel
from programs.small_models import MODELS, build, known, prompt

found = {}


def slopes(name):
    """Along a direction: differences of ComfyUI's own predictions, and our gradient's, kept and computed twice."""
    wan = name == "Wan 2.1"  # it computes in single precision only
    dtype, h = (torch.float32, 0.02) if wan else (torch.float64, 0.01)
    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        patcher = build(name, dtype)
        mm.load_models_gpu([patcher])
        patcher.pre_run()
        x, along, weights = (torch.randn(1, *MODELS[name][2], generator=generator, dtype=dtype) for _ in range(3))
        conds = {"positive": comfy.sampler_helpers.convert_cond(prompt(name, 2))}
        conds = comfy.samplers.process_conds(patcher.model, x, conds, x.device, x, None, None)["positive"]
        level = torch.tensor([patcher.model.model_sampling.percent_to_sigma(0.4)], dtype=dtype)

    def value(x, options):
        made = comfy.samplers.sampling_function(patcher.model, x, level, None, conds, 1.0, options)
        return (made * weights.clone()).sum()

    plain = {"transformer_options": {}}
    with torch.inference_mode():
        mm.in_training = True  # the kernels for inference know no double precision
        up, down, far_up, far_down = (value(x + s * h * along, plain).item() for s in (1, -1, 2, -2))
        mm.in_training = False
    expected = (8 * (up - down) - (far_up - far_down)) / (12 * h)
    slopes = [expected]
    for twice in (False, True):
        through = DifferentiableModel(patcher)
        with torch.inference_mode(), differentiable(through, shape=x.shape), ExitStack() as undo:
            if twice:
                through.checkpoint(undo)
            leaf = x.clone().requires_grad_()
            (g,) = torch.autograd.grad(value(leaf, through.options(plain)), leaf)
            slopes.append((g * along).sum().item())
    return [*slopes, mm.in_training]


found |= {name: slopes(name) for name in known()}
