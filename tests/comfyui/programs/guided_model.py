"""The demo's model under guidance, asked in the middle of a run."""

import comfy.cldm.cldm
import comfy.controlnet
import comfy.samplers
import node_helpers
import torch

from pack.nodes.bridge.models.demo import _set_groups, load_clip, load_model
from pack.nodes.bridge.sampling.denoiser import GuidedDenoiser

torch.set_num_threads(1)  # small tensors, and other tests beside


class Ask(comfy.samplers.Sampler):
    def __init__(self, ask):
        self.ask = ask

    def sample(self, guider, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=0):
        with torch.inference_mode(False):
            self.ask(GuidedDenoiser(guider, extra_args, denoise_mask), lambda x, s: guider(x, s, **extra_args))
        return noise


def under(ask, model, positive, batch=1, mask=None, cfg=5.0, latent=None, guider=None):
    """Call ``ask(denoiser, plain guider)`` in the middle of a run."""
    if guider is None:
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    zero = torch.zeros(batch, 4, 8, 8)
    with torch.inference_mode():
        sigmas = torch.linspace(1, 0, 5)
        guider.sample(zero, zero if latent is None else latent, Ask(ask), sigmas, denoise_mask=mask, seed=0)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


with torch.inference_mode():
    model, clip = load_model(), load_clip()
    circle, square, negative = (
        clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a red circle", "a blue square", "")
    )
setting = node_helpers.conditioning_set_values


def controlnet(hints, start=0.0, end=1.0, seed=0, before=None):
    config = dict(model.model.model_config.unet_config)
    config["transformer_depth"] = [1] * sum(config["num_res_blocks"])  # building a network empties the list
    del config["transformer_depth_output"], config["out_channels"]
    net = comfy.cldm.cldm.ControlNet(**config, hint_channels=3)
    _set_groups(net)
    g = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.data = 0.15 * torch.randn(p.shape, generator=g) if p.ndim > 1 else torch.zeros_like(p)
    control = comfy.controlnet.ControlNet(net.eval(), load_device=torch.device("cpu"))
    control.set_cond_hint(hints, 1.0, (start, end)).set_previous_controlnet(before)
    return control


class Adapter(torch.nn.Module):  # in the place of a T2I-Adapter's network
    unshuffle_amount = 8

    def forward(self, hint):
        features = torch.nn.functional.avg_pool2d(hint, 8).mean(1, keepdim=True)
        return {"input": [3 * features.repeat(1, width, 1, 1)]}


width = model.model.model_config.unet_config["model_channels"]
