"""The guided model's answer for each image of a batch, and a call for each."""

import comfy.controlnet
import comfy.samplers
import torch

from programs.guided_model import Adapter, circle, controlnet, model, negative, noise, setting, square, under

found = {}

hints = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
masks = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(2))
rows = [[torch.cat([circle[0][0], square[0][0], negative[0][0]]), {}]]


def with_control(control):
    return setting(circle, {"control": control, "control_apply_to_uncond": True})


class Lists(comfy.samplers.CFGGuider):  # conditioning in a list of its own, as Dual Model CFG Guider has it
    def inner_sample(self, noise, latent, device, *args, **kwargs):
        conds = {"negative": self.conds["negative"]}
        self.own = comfy.samplers.process_conds(self.inner_model, noise, conds, device)["negative"]
        return super().inner_sample(noise, latent, device, *args, **kwargs)

    def predict_noise(self, x, timestep, model_options, seed=None):
        return comfy.samplers.sampling_function(
            self.inner_model, x, timestep, self.own, self.conds["positive"], self.cfg, model_options, seed
        )


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


def compare(name, positive):
    def ask(denoiser, plain):
        levels = denoiser.noise_levels(torch.tensor([900, 100, 900])).level
        for _ in range(2):  # what is kept from the first is right the second time
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
            (ours - torch.stack(expected)).abs().max().item(),
            (naive - torch.stack(expected)).abs().max().item(),
            min((expected[i] - expected[j]).abs().max().item() for i, j in ((0, 1), (1, 2), (0, 2))),
        ]

    guider = lists() if positive is None else None
    under(ask, model, positive, batch=3, guider=guider)


for name, positive in cases.items():
    compare(name, positive)
