"""The guided model at random noise levels: each image of a batch, each call and each patch as in a run of its own."""

import pytest

from comfyui import inside
from scripts.environment import find_comfyui

GUIDED = """
import comfy.cldm.cldm, comfy.controlnet, comfy.hooks, comfy.model_sampling, comfy.samplers, logging, node_helpers, torch
from pack.nodes.bridge.demo import _set_groups, load_clip, load_model
from pack.nodes.bridge.denoiser import GuidedDenoiser

class Ask(comfy.samplers.Sampler):
    def __init__(self, ask): self.ask = ask
    def sample(self, guider, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False):
        with torch.inference_mode(False):
            self.ask(GuidedDenoiser(guider, extra_args, denoise_mask), lambda x, s: guider(x, s, **extra_args))
        return noise

def under(ask, model, positive, batch=1, mask=None, cfg=5.0, latent=None, guider=None):
    # ask(denoiser, the plain guider) in the middle of a run
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
    encode = lambda text: clip.encode_from_tokens_scheduled(clip.tokenize(text))
    circle, square, negative = map(encode, ("a red circle", "a blue square", ""))
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
"""

BATCH = (
    GUIDED
    + """
hints = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
masks = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(2))
rows = [[torch.cat([circle[0][0], square[0][0], negative[0][0]]), {}]]

def with_control(control):
    return setting(circle, {"control": control, "control_apply_to_uncond": True})

class Lists(comfy.samplers.CFGGuider):  # one that keeps conditioning in a list of its own, as Dual Model CFG Guider does
    def inner_sample(self, noise, latent, device, *args, **kwargs):
        conds = {"negative": self.conds["negative"]}
        self.own = comfy.samplers.process_conds(self.inner_model, noise, conds, device)["negative"]
        return super().inner_sample(noise, latent, device, *args, **kwargs)
    def predict_noise(self, x, timestep, model_options={}, seed=None):
        return comfy.samplers.sampling_function(
            self.inner_model, x, timestep, self.own, self.conds["positive"], self.cfg, model_options, seed)

def lists():
    guider = Lists(model)
    guider.set_conds(circle, rows)
    return guider

adapter = comfy.controlnet.T2IAdapter(Adapter(), 3, 8, "nearest-exact", torch.device("cpu")).set_cond_hint(hints)
cases = {
    "two ranges": setting(circle, {"start_percent": 0.0, "end_percent": 0.5})
    + setting(square, {"start_percent": 0.5, "end_percent": 1.0}),
    "ControlNet percents": with_control(controlnet(hints[:1], 0.0, 0.5)),
    "a hint an image": with_control(controlnet(hints)),
    "two hints for three images": with_control(controlnet(hints[:2])),
    "ControlNets in a row": with_control(controlnet(hints, 0.5, 1.0, before=controlnet(hints.flip(0), seed=1))),
    "a T2I-Adapter hint an image": with_control(adapter),
    "conditioning an image": rows,
    "a mask an image": setting(circle, {"mask": masks, "mask_strength": 1.0}) + square,
    "a guider's own list": None,
}
x = noise(3, 4, 8, 8)
for name, positive in cases.items():
    def ask(denoiser, plain):
        levels = denoiser.noise_levels(torch.tensor([900, 100, 900])).level
        for turn in range(2):  # what is kept from the first is right the second time
            ours = denoiser(x, levels)
        conds = [c for c in positive or [] if "control" in c[1]]
        expected = []
        with torch.inference_mode():
            for i in range(3):
                for _, c in conds:
                    c["control"].cond_hint = c["control"].control_input = None
                    if c["control"].previous_controlnet is not None:
                        c["control"].previous_controlnet.cond_hint = None
                expected.append(plain(x, levels[i].expand(3))[i])
            naive = plain(x, levels)
        found[name] = [
            (ours - torch.stack(expected)).abs().max().item(), (naive - torch.stack(expected)).abs().max().item(),
            min((expected[i] - expected[j]).abs().max().item() for i, j in ((0, 1), (1, 2), (0, 2))),
        ]
    guider = lists() if positive is None else None
    under(ask, model, positive, batch=3, guider=guider)
"""
)


@pytest.fixture(scope="module")
def batch():
    return inside.run(find_comfyui(), BATCH)


@pytest.mark.parametrize(
    "case",
    [
        "two ranges",
        "ControlNet percents",
        "a hint an image",
        "two hints for three images",
        "ControlNets in a row",
        "a T2I-Adapter hint an image",
        "conditioning an image",
        "a mask an image",
        "a guider's own list",
    ],
)
def test_an_image_sees_what_it_would_see_in_a_call_of_the_whole_batch_at_its_level(batch, case):
    off, _, apart = batch[case]
    assert off < 1e-4
    assert apart > 0.1, "the images differ"
    if case in ("two ranges", "ControlNet percents"):
        assert batch[case][1] > 0.1, "one call of all images is wrong"
