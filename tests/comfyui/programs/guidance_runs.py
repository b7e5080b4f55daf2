"""Guided runs: repeats, batches, samplers, masks, what was loaded before."""

import comfy.model_management as mm
import comfy.sample
import torch

from pack.referee_core.methods.gradient_guidance import GuidanceSettings, Relative
from programs.guidance import guide, sample
from programs.players import model, referee, vae

found = {}

plain = sample(model)
guided, guidance = guide(model)
one = sample(guided)
found["shown"] = [(s.index, s.steps, sorted(s.scalars["loss"])) for s in guidance.shown.steps], guidance.shown.text
found["repeats"] = torch.equal(sample(guided), one) and not torch.equal(one, plain)
found["put away"] = guidance.run is None
found["plain again"] = torch.equal(sample(model), plain)

# a batch: image i as alone, with the seed that it has
noise = torch.cat([comfy.sample.prepare_noise(torch.zeros(1, 4, 8, 8), s) for s in (5, 6)])
batch = sample(guided, noise=noise, batch=2)
each = torch.cat([sample(guided, seed=s) for s in (5, 6)])
found["batch"] = [((batch.roll(k, 0) - each).norm() / each.norm()).item() for k in (0, 1)]

# samplers that call the model more often, and with noise of their own
for name in ("heun", "dpm_2_ancestral", "dpmpp_sde", "uni_pc", "lcm", "ddim"):
    made = sample(guided, name)
    found[name] = bool(made.isfinite().all()) and not torch.equal(made, sample(model, name))

# two in a row
twice, second = guide(guided, GuidanceSettings("prediction", Relative(0.02)))
both = sample(twice)
found["two"] = [torch.equal(both, other) for other in (one, sample(guide(model, second.settings)[0]), sample(twice))]
ahead, _ = guide(guided, GuidanceSettings("look-ahead", Relative(0.02)))
found["look-ahead behind it"] = torch.equal(sample(ahead), sample(ahead)) and not torch.equal(sample(ahead), one)

# a mask: what it keeps is kept, and the gradient lies inside
mask = torch.zeros(1, 1, 64, 64)
mask[..., :32] = 1
start = 0.2 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
masked = sample(guided, mask=mask, latent=start)
found["masked"] = {
    "kept": (masked - start)[..., 4:].abs().max().item(),
    "moved": (masked - start)[..., :4].abs().max().item(),
    "guided": torch.equal(masked, sample(model, mask=mask, latent=start)),
}

# whatever was loaded first, and after it was thrown out
mm.unload_all_models()
found["after unloading"] = torch.equal(sample(guided), one)
mm.unload_all_models()
mm.load_models_gpu([vae.patcher, referee.patcher])
found["companions first"] = torch.equal(sample(guided), one)
mm.unload_all_models()
mm.load_models_gpu([model])
found["model first"] = torch.equal(sample(guided), one)

half, guidance = guide(model, end=0.5)
sample(half, steps=6)
found["half"] = [s.index for s in guidance.shown.steps]


def message(f):
    try:
        f()
        return ""
    except Exception as error:
        return str(error)


def bare():
    """Who asks the model without a sampler."""
    with torch.inference_mode():
        x, sigma = torch.zeros(1, 4, 8, 8), torch.ones(1)
        conds = {"model": model.model, "denoised": x, "input": x, "sigma": sigma, "model_options": guided.model_options}
        guided.model_options["sampler_post_cfg_function"][-1](conds)


found["bare"] = message(bare)
