"""Runs of rounds: what is shown, batches, samplers, masks, cancelling."""

import comfy.model_management as mm
import comfy.sample
import comfy.samplers
import torch

from programs.players import model, referee, vae
from programs.rounds import STEPS, make, sample

found = {}

plain = sample(comfy.samplers.sampler_object("euler"))
calls, asked = [], []
hooks = [
    model.model.diffusion_model.register_forward_pre_hook(lambda *_: calls.append(1)),
    vae.first_stage_model.decoder.register_forward_pre_hook(lambda *_: asked.append(len(calls))),
]
bar = []
one = sample(make(), callback=lambda step, x0, x, total: bar.append((step, total)))
for hook in hooks:
    hook.remove()
shown = make.shown
found["bar"] = bar == [(i, 3 * STEPS) for i in range(3 * STEPS)]
found["asked"] = [a / len(calls) for a in asked]
found["first"] = torch.equal(model.model.process_latent_out(shown.steps[0].z), plain)
found["shown"] = [(s.index, s.steps, sorted(s.scalars["loss"])) for s in shown.steps], shown.text
losses = torch.stack([s.scalars["loss"]["loss"] for s in shown.steps])
best = shown.steps[int(losses.argmin())].z
found["best"] = torch.equal(one, model.model.process_latent_out(best))
found["repeats"] = torch.equal(sample(make()), one)
found["plain again"] = torch.equal(sample(comfy.samplers.sampler_object("euler")), plain)
found["changes"] = not torch.equal(shown.steps[0].z, shown.steps[1].z)

sample(make(share=0.1), batch=8)
losses = torch.stack([s.scalars["loss"]["loss"] for s in make.shown.steps])
found["falls"] = losses.mean(1).tolist()
sample(make(stop_at=1e-6))
found["stops"] = len(make.shown.steps), make.shown.text

alone = sample(make(count=1), seed=6)
noise = torch.cat([comfy.sample.prepare_noise(torch.zeros(1, 4, 8, 8), s) for s in (5, 6)])
own, comfy.sample.prepare_noise = comfy.sample.prepare_noise, lambda *_: noise
together = sample(make(count=1), batch=2)
comfy.sample.prepare_noise = own
found["batch"] = (together[1:] - alone).abs().max().item()

for name, gradient in (("heun", "prediction"), ("dpmpp_sde", "prediction"), ("euler", "look-ahead")):
    made = sample(make(name=name, gradient=gradient))
    found[f"{name}, {gradient}"] = bool(made.isfinite().all()) and not torch.equal(
        make.shown.steps[0].z, make.shown.steps[1].z
    )

mask = torch.zeros(1, 1, 64, 64)
mask[..., :32] = 1
start = 0.2 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
masked = sample(make(), mask=mask, latent=start)
found["masked"] = (masked - start)[..., 4:].abs().max().item(), (masked - start)[..., :4].abs().max().item()

# the referee pushes the model off, which comes back
before = mm.load_models_gpu


def forgetful(models, **options):
    if model not in models:
        mm.unload_all_models()
    return before(models, **options)


mm.load_models_gpu = forgetful
found["pushed off"] = torch.equal(sample(make()), one)
mm.load_models_gpu = before

pressed = []


def press(*_):
    if not pressed:
        pressed.append(1)
        mm.interrupt_current_processing()


hook = referee.referee.network.vision.register_forward_pre_hook(press)
try:
    sample(make())
    found["cancelled"] = "to its end"
except BaseException as error:
    found["cancelled"] = type(error).__name__, len(make.shown.steps)
hook.remove()
found["after cancelling"] = torch.equal(sample(make()), one)
