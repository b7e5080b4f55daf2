"""Inverse Sampler on the demo's models: against the core on diffusers' own classes, and what it leaves behind."""

import comfy.sample
import comfy.samplers
import torch
from comfy.samplers import CFGGuider

from pack.nodes.bridge.measuring import KINDS
from pack.nodes.bridge.sampling.denoiser import noise_level
from pack.nodes.restore import FIXED, PRESETS, RefereeInverseSampler, RefereeResidual
from pack.nodes.runs import p2l as bridge
from pack.referee_core.demo.components import load_components
from pack.referee_core.hosts.diffusers import GuidedUNet
from pack.referee_core.methods.p2l import P2LSettings, Restoration, p2l
from pack.referee_core.randomness import generators
from programs.players import clip, model, vae

found = {}
STEPS, SEED = 4, 3
with torch.inference_mode():
    empty = clip.encode_from_tokens_scheduled(clip.tokenize(""))
picture = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
picture = torch.nn.functional.avg_pool2d(picture, 33, 1, 16)
MEASUREMENT = KINDS["super-resolution"](0.01, factor=4)
measured = MEASUREMENT.make(128, 128).degrade(picture, generators([0], ("m",))["m"]).movedim(1, -1)
sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", STEPS)
weights = {name: p.clone() for name, p in model.model.named_parameters()}


class Quiet:
    lines: list = []

    def __init__(self, steps=0):
        self.rows = []
        self.lines.clear()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def update(self, step):
        self.rows.append(step)

    def show(self, text):
        self.lines.append(text)

    def closing(self):
        return "done"


def restore(settings, measured=measured, latent=None, seed=SEED, measurement=MEASUREMENT, noise=None):
    setup = bridge.Setup(measurement, measured, vae, settings, Quiet)
    guider = CFGGuider(model)
    guider.set_conds(empty, empty)
    guider.set_cfg(1.0)
    with torch.inference_mode():
        latent = torch.zeros(len(measured), 4, 16, 16) if latent is None else latent
        noise = torch.cat([comfy.sample.prepare_noise(row[None], seed + i) for i, row in enumerate(latent)])
        return guider.sample(noise, latent, bridge.InverseSampler(setup), sigmas, seed=seed).clone()


settings = {name: P2LSettings(**numbers, **FIXED.get(name, {})) for name, numbers in PRESETS.items()}
made = {name: restore(one) for name, one in settings.items()}
found["finite"] = {name: bool(z.isfinite().all()) for name, z in made.items()}
found["same again"] = torch.equal(restore(settings["P2L, few steps"]), made["P2L, few steps"])
found["differ"] = min(float((a - b).abs().max()) for i, a in enumerate(made.values()) for b in list(made.values())[:i])
found["weights"] = all(torch.equal(p, weights[name]) for name, p in model.model.named_parameters())
found["line"] = Quiet.lines[-1]

# the same by the core on diffusers' classes
models = load_components()
null, decode = models.encode(""), models.decoder()
scale = models.vae.config.scaling_factor


def encode(image):
    with torch.no_grad():
        return models.vae.encode(image * 2 - 1).latent_dist.mean * scale


sampling = model.get_model_object("model_sampling")


def condition(prompts):
    network = GuidedUNet(models.unet, models.scheduler.alphas_cumprod, prompts[0], null, 1.0)

    def predict(x, level):
        t = sampling.timestep(level).view(-1)
        alpha = network.alphas[t.long()].to(x).view(-1, 1, 1, 1)
        return network(x * alpha, t)

    return predict


levels = [noise_level(sampling, sigma.float().view(1)) for sigma in sigmas[:-1].clone()]
noise = comfy.sample.prepare_noise(torch.zeros(1, 4, 16, 16), SEED).clone()
x = sampling.noise_scaling(sigmas[0].clone(), noise, torch.zeros_like(noise), True)
task = Restoration(MEASUREMENT.make(128, 128), measured.movedim(-1, 1), condition, decode, encode, levels)
for name in ("P2L, few steps", "LDPS"):
    *_, last = p2l(task, x, [null], settings[name], generators([SEED], ("fresh noise",))["fresh noise"])
    with torch.inference_mode():
        theirs = decode(last.z)
        ours = vae.decode(made[name]).movedim(-1, 1)
    found[f"as in the core, {name}"] = float((theirs.clamp(0, 1) - ours).abs().max())

# a batch: each as alone
two = torch.cat([measured, measured.flip(2)])
both = restore(settings["LDPS"], two)
alone = restore(settings["LDPS"], two[1:], seed=SEED + 1)
found["as alone"] = float((both[1:] - alone).abs().max())

# what the nodes give
with torch.inference_mode():
    RefereeInverseSampler.hidden = RefereeResidual.hidden = type(
        "Hidden", (), {"unique_id": None, "extra_pnginfo": None}
    )
    sampler, latent = RefereeInverseSampler.execute(MEASUREMENT, measured, vae, {"preset": "LDPS", "rho": 1.0}).result
    enlarged = torch.nn.functional.interpolate(measured.movedim(-1, 1), scale_factor=4, mode="bicubic").clamp(0, 1)
    found["latent"] = float((latent["samples"] - vae.encode(enlarged.movedim(1, -1))).abs().max())
    found["rho"] = sampler.setup.settings.rho
    mask = torch.zeros(1, 128, 128)
    mask[:, 40:80, 30:90] = 1
    hole = KINDS["inpainting"](0.0, mask=mask)
    whole = picture.movedim(1, -1)
    holed = hole.make(128, 128).A(picture).movedim(1, -1)
    painted = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(1))
    kept, left, deviations, report = RefereeResidual.execute(painted, hole, holed, 5.0).result
    known = mask[0] == 0
    found["known"] = [
        torch.equal(kept[0][known], holed[0][known]),
        torch.equal(kept[0][~known], painted[0][~known]),
        deviations[0],
        float((left - 0.5).abs().max()),
    ]
    _, left, deviations, report = RefereeResidual.execute(whole, MEASUREMENT, measured, 5.0).result
    found["true picture"] = [deviations[0], report, list(left.shape)]

# what does not fit
refused = {}


def refuse(name, call):
    try:
        with torch.inference_mode():
            call()
        refused[name] = ""
    except ValueError as error:
        refused[name] = str(error)


one = settings["LDPS"]
refuse("size", lambda: restore(one, latent=torch.zeros(1, 4, 8, 8)))
refuse("count", lambda: restore(one, two, latent=torch.zeros(3, 4, 16, 16)))
refuse(
    "crop", lambda: RefereeInverseSampler.execute(MEASUREMENT, measured[:, :31], vae, {"preset": "LDPS", "rho": 1.0})
)
refuse("images", lambda: RefereeResidual.execute(whole[:, :64], MEASUREMENT, measured, 5.0))
refuse("nan", lambda: RefereeInverseSampler.execute(MEASUREMENT, measured * torch.nan, vae, {"preset": "LDPS"}))


def masked():
    setup = bridge.Setup(MEASUREMENT, measured, vae, one, Quiet)
    guider = CFGGuider(model)
    guider.set_conds(empty, empty)
    latent = torch.zeros(1, 4, 16, 16)
    guider.sample(latent, latent, bridge.InverseSampler(setup), sigmas, denoise_mask=torch.ones(1, 1, 128, 128), seed=0)


refuse("mask", masked)
found["refused"] = refused
