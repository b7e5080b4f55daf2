"""Gradients through changed VAEs, MODELs and latent formats."""

import copy
from dataclasses import replace

import comfy.latent_formats
import comfy.sd
import comfy.utils
import torch
from comfy.ldm.wan.vae import WanVAE

from pack.nodes.bridge.gradients import block as d
from pack.nodes.bridge.gradients.model import DifferentiableModel
from pack.nodes.bridge.gradients.vae import Decoder
from pack.nodes.bridge.models.demo import load_model, load_vae
from pack.nodes.bridge.sampling import latents
from pack.nodes.runs import optimizer
from pack.nodes.runs import referee_can_play as sampler
from pack.referee_core.methods.referee_can_play import LoopSettings
from pack.referee_core.plots import gradient_view
from pack.referee_core.record import History
from programs.players import cond, loss, model, play, prior, vae

found = {}


def message(f, *args):
    try:
        f(*args)
        return ""
    except ValueError as error:
        return str(error)


def gap(a, b):
    return (a.float() - b.float()).abs().max().item()


def picture(vae, z):  # as VAE Decode shows it, [B, 3, H, W]
    with torch.inference_mode():
        image = vae.decode(z)
        return image.reshape(-1, *image.shape[-3:]).movedim(-1, 1).clone()


def check(name, vae, z, tolerance=1e-2):
    """Against ComfyUI's own decode, and along the gradient against differences of it."""
    decoder, h = Decoder(vae), 0.1
    before = [p for p in vae.first_stage_model.parameters()]
    with d.differentiable(decoder, shape=z.shape) as block:
        leaf = z.clone().requires_grad_()
        image = decoder(leaf)
        toward = torch.cos(torch.arange(image.numel())).view(image.shape)
        (g,) = torch.autograd.grad((image * toward).sum(), leaf)
        block.refresh()
        (again,) = torch.autograd.grad((decoder(leaf) * toward).sum(), leaf)
        with torch.no_grad():

            def difference(h):
                up, down = (decoder(z + s * h * g / g.norm()).double() for s in (1, -1))
                return ((up - down) * toward).sum().item() / (2 * h)

            slope = (4 * difference(h / 2) - difference(h)) / 3  # Richardson: no error of second order
    after = [p for p in vae.first_stage_model.parameters()]
    found[name] = {
        "picture": gap(image.detach().clamp(0, 1), picture(vae, z)),
        "again": torch.equal(g, again),
        "slope": g.norm().item() / slope,
        "back": all(a is b for a, b in zip(before, after, strict=True)),
    }


def tamper(vae):
    """What other nodes do to a VAE: a module without parameters, a closure, another forward, norms of other groups."""
    module = vae.first_stage_model
    colour, old = torch.tensor([0.9, 0.8, 1.1]).view(3, 1, 1), module.decoder.conv_out
    weight, bias = old.weight, old.bias
    module.decoder.conv_out = torch.nn.Identity()
    module.decoder.conv_out.forward = lambda x: torch.nn.functional.conv2d(x, weight.to(x), bias.to(x), padding=1)
    decode = module.decode
    module.decode = lambda z: decode(z) * colour.to(z)
    for part in module.decoder.mid.modules():
        if isinstance(part, torch.nn.GroupNorm):
            part.num_groups = 2
    return vae


z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
check("plain", vae, z)
with torch.inference_mode():
    tampered = tamper(load_vae())
check("tampered", tampered, z)


def in_half(vae):
    with torch.inference_mode():
        vae.first_stage_model.half()
        vae.vae_dtype = torch.float16
    return vae


half = in_half(load_vae())
found["half is precise"] = [str(Decoder(half).dtype), str(half.first_stage_model.decoder.conv_in.weight.dtype)]
check("half", half, z)
with torch.inference_mode():
    check_half = in_half(tamper(load_vae()))
check("tampered in half", check_half, z)
found["tampering shows"] = gap(picture(vae, z), picture(tampered, z))

with torch.inference_mode():
    compiled = load_vae()
    compiled.first_stage_model.decoder = torch.compile(compiled.first_stage_model.decoder, backend="aot_eager")
check("compiled", compiled, z)

# a latent format with statistics of its own, made in inference mode
with torch.inference_mode():

    class Statistics(comfy.latent_formats.SD15):
        mean, std = torch.linspace(-1, 1, 4).view(1, 4, 1, 1), torch.linspace(1, 2, 4).view(1, 4, 1, 1)

        def process_in(self, latent):
            return (latent - self.mean) / self.std

        def process_out(self, latent):
            return latent * self.std + self.mean

    statistics = Statistics()
special = model.clone()
special.add_object_patch("latent_format", statistics)


def small_play(**changes):
    return play(latent={"samples": torch.zeros(1, 4, 8, 8)}, at_once=4, **changes)


plain = small_play()
result = small_play(prior=replace(prior, model=special))
found["format"] = [bool(result.isfinite().all()), gap(result, plain)]

# something in the guider's call loads the VAE anew, and replaces a module of it
reloaded = []


def reload(apply, args):
    reloaded.append(len(reloaded))
    for name, p in list(vae.first_stage_model.named_parameters()):
        comfy.utils.set_attr_param(vae.first_stage_model, name, p.clone())
    old = vae.first_stage_model.decoder.conv_out
    new = torch.nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1)
    new.load_state_dict(old.state_dict())
    vae.first_stage_model.decoder.conv_out = new
    return apply(args["input"], args["timestep"], **args["c"])


reloading = model.clone()
reloading.set_model_unet_function_wrapper(reload)
found["reloaded"] = [torch.equal(small_play(prior=replace(prior, model=reloading)), plain), len(reloaded)]
found["after the reload"] = torch.equal(small_play(), plain)

# gradients through the MODEL itself
x, sigma = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2)), torch.tensor([1.5])
text = cond[0][0].clone()


def predict(network, x, text, options):
    return network.apply_model(x, sigma, c_crossattn=text, transformer_options=options.get("transformer_options", {}))


def slopes(checkpointed=False):
    through = DifferentiableModel(model)
    options = through.options(model.model_options)
    with d.differentiable(through, shape=x.shape):
        with d.ExitStack() as undo:
            if checkpointed:
                through.checkpoint(undo)
            leaves = [x.clone().requires_grad_(), text.clone().requires_grad_()]
            found["model value"] = predict(model.model, *leaves, options).detach().sum().item()
            return torch.autograd.grad(predict(model.model, *leaves, options).square().sum(), leaves)


with torch.inference_mode(False):
    twin = load_model().model  # of ordinary tensors
    twin.requires_grad_(False)
    leaves = [x.clone().requires_grad_(), text.clone().requires_grad_()]
    expected = torch.autograd.grad(predict(twin, *leaves, {}).square().sum(), leaves)
found["model"] = [gap(a, b) / b.abs().max().item() for a, b in zip(slopes(), expected, strict=True)]
found["model twice"] = [gap(a, b) / b.abs().max().item() for a, b in zip(slopes(True), expected, strict=True)]


def bad_attention(*args, **kwargs):
    raise AssertionError("a kernel without gradients")


sage = model.clone()
sage.model_options["transformer_options"]["optimized_attention_override"] = bad_attention
chosen = DifferentiableModel(sage).options(sage.model_options)["transformer_options"]["optimized_attention_override"]
own = sage.model_options["transformer_options"]["optimized_attention_override"]
found["attention"] = [chosen is not bad_attention, own is bad_attention]


class GGMLTensor(torch.nn.Parameter):
    pass


quantised = copy.copy(model)
quantised.model = torch.nn.Module()
quantised.model.diffusion_model = torch.nn.Linear(2, 2)
quantised.model.diffusion_model.weight = GGMLTensor(torch.ones(2, 2))
found["quantised"] = message(DifferentiableModel, quantised)
quantised.model.diffusion_model = torch.nn.Identity()
found["elsewhere"] = message(DifferentiableModel, quantised)

# one frame of a video VAE
with torch.inference_mode():
    torch.manual_seed(0)
    made = WanVAE(dim=8, z_dim=16, num_res_blocks=2, temperal_downsample=[False, True, True])
    state = made.state_dict()  # ComfyUI leaves it unset
    for k, v in state.items():
        v.copy_(torch.ones(v.shape) if k.endswith("gamma") else torch.randn(v.shape) * v[0].numel() ** -0.5)
    wan = comfy.sd.VAE(sd={k: v.clone() for k, v in state.items()}, dtype=torch.float32)
frame = torch.randn(2, 16, 1, 4, 4, generator=torch.Generator().manual_seed(3))
check("wan", wan, frame)
wan_decoder = Decoder(wan)
found["wan messages"] = [message(wan_decoder.check_latent, torch.zeros(1, 16, n, 4, 4)) for n in (1, 2)]
with torch.inference_mode():
    found["wan flat"] = gap(wan_decoder(frame[:, :, 0]), wan_decoder(frame))
history, setup = History(), sampler.Setup(wan, loss, settings=LoopSettings(steps=1, tail=0))
with torch.inference_mode():
    result, image = optimizer.run(setup, None, {"samples": frame}, 1, history.add, "last", history)
found["wan pictures"] = [list(image.shape), list(gradient_view(history).shape)[:1]]
found["wan run"] = [list(result["samples"].shape), bool(image.isfinite().all()), gap(result["samples"], frame)]


# which latent format
class Of:
    def __init__(self, latent_format):
        self.latent_format = latent_format

    def get_model_object(self, name):
        return self.latent_format


def vae_of(channels, dim=2, ratio=8):
    vae = copy.copy(load_vae())
    vae.latent_channels, vae.latent_dim, vae.upscale_ratio = channels, dim, ratio
    return vae


F = comfy.latent_formats


def choose(*args):
    latent_format, note = latents.choose_latent_format(*args)
    return [type(latent_format).__name__, note]


found["chosen"] = {
    "4": choose(vae_of(4)),
    "SDXL": choose(vae_of(4), Of(F.SDXL())),
    "SD3": choose(vae_of(16), Of(F.SD3())),
    "Wan": choose(wan),
    "refiner": choose(vae_of(32, 3), Of(F.HunyuanImage21Refiner())),
    "tiny Flux 2": choose(vae_of(128), Of(F.Flux2())),
    "x4": choose(vae_of(4, 2, 4), Of(F.SD_X4())),
    "Wan 2.2": choose(vae_of(48, 3, (None, 16, 16)), Of(F.Wan22())),
}
found["refused"] = {
    "16": message(choose, vae_of(16)),
    "128": message(choose, vae_of(128)),
    "families": message(choose, vae_of(16), Of(F.SD15())),
    "prior": message(choose, vae_of(16), Of(F.SD15()), "prior"),
    "factor": message(choose, vae_of(128, 3, (None, 32, 32)), Of(F.Flux2())),
}
