"""What newer versions of ComfyUI added, imitated."""

import comfy.latent_formats
import comfy.model_sampling
import comfy.samplers
import torch
from comfy.ldm.wan import vae2_2

from pack.nodes.bridge.gradients.vae import Decoder
from pack.nodes.bridge.judging import judge as judging
from pack.nodes.bridge.models.demo import load_vae
from pack.nodes.bridge.sampling import latents
from pack.nodes.runs import optimizer
from pack.nodes.runs import referee_can_play as sampler
from pack.nodes.runs import search as bridge
from pack.nodes.runs.search_panel import SearchProgress
from pack.referee_core.methods import search as core
from pack.referee_core.methods.referee_can_play import LoopSettings
from pack.referee_core.record import History
from programs.players import cond, loss, model, play, vae

found = {}


def rgba():
    """The pack's VAE with transparency as a fourth channel."""
    with torch.inference_mode():
        made = load_vae()
        old = made.first_stage_model.decoder.conv_out
        conv = made.first_stage_model.decoder.conv_out = type(old)(old.in_channels, 4, 3, padding=1)
        conv.weight.copy_(torch.cat([old.weight, torch.zeros_like(old.weight[:1])]))
        conv.bias.copy_(torch.cat([old.bias, torch.ones_like(old.bias[:1])]))
    made.output_channels = 4
    return made


with torch.inference_mode():
    z = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    found["shown"] = list(rgba().decode(z).shape)
    found["decoded"] = torch.equal(Decoder(rgba())(z), Decoder(vae)(z))
found["optimised"] = torch.equal(play(vae=rgba()), play())
setup = sampler.Setup(rgba(), loss, settings=LoopSettings(steps=1, tail=0))
with torch.inference_mode():
    _, image = optimizer.run(setup, None, {"samples": torch.zeros(1, 4, 16, 16)}, 1, lambda *a: None, "last", History())
found["picture"] = list(image.shape)

guider = comfy.samplers.CFGGuider(model)
guider.set_conds(cond, cond)
sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 3)


def searched(vae):
    panel = SearchProgress("1", 2, 3, 0.0, None)
    sample = bridge.Attempts(
        guider,
        comfy.samplers.sampler_object("euler"),
        sigmas,
        {"samples": torch.zeros(1, 4, 16, 16)},
        vae,
        0,
        False,
        0,
        panel,
    )
    with torch.inference_mode():
        for tried in core.search(sample, judging.Judge(loss), core.SearchSettings(attempts=2, stop_at=0.0), 3):
            panel.judged(tried[-1], tried.best[0])
    return [a.verdict.loss for a in tried]


found["searched"] = [searched(rgba()), searched(vae)]


class Wan22(vae2_2.WanVAE):
    def __init__(self):
        torch.nn.Module.__init__(self)


def of(channels):
    made = load_vae()
    made.first_stage_model, made.latent_channels = Wan22(), channels
    return made


def scale(channels):
    try:
        return type(latents.choose_latent_format(of(channels))[0]).__name__
    except ValueError as error:
        return str(error)


found["before"] = [scale(16), scale(48), scale(64)]
comfy.latent_formats.QwenImage21 = type("QwenImage21", (comfy.latent_formats.LatentFormat,), {"latent_channels": 64})
found["after"] = scale(64)
