"""Patched models, asked in one order and another."""

import importlib
import logging

import comfy.context_windows
import comfy.hooks
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper

from programs.guided_model import circle, model, noise, setting, under

found = {}

importlib.import_module("comfy_extras.nodes_post_processing")  # before nodes_latent: each imports the other


def node(module, name, *args, **kwargs):
    cls = getattr(importlib.import_module("comfy_extras.nodes_" + module), name)
    out = cls.execute(*args, **kwargs) if hasattr(cls, "execute") else getattr(cls(), cls.FUNCTION)(*args, **kwargs)
    return out[0]


def windows():
    m = model.clone()
    m.model_options["context_handler"] = comfy.context_windows.IndexListContextHandler(
        comfy.context_windows.get_matching_context_schedule("standard_uniform"),
        comfy.context_windows.get_matching_fuse_method("pyramid"),
        context_length=4,
        context_overlap=2,
        dim=3,
    )
    return m


def compiled():
    m = model.clone()
    set_torch_compile_wrapper(m, backend="eager")
    return m


def patched(function):
    m = model.clone()
    m.set_model_sampler_post_cfg_function(function)
    return m


def closure():
    last = None

    def remember(args):
        nonlocal last
        before, last = last, args["denoised"]
        return last if before is None else (last + before) / 2

    return patched(remember)


class Remember:
    def __init__(self):
        self.calls, self.seen = 0, {"x": []}

    def __call__(self, args):
        self.calls += 1
        self.seen["x"].append(args["denoised"])
        return args["denoised"] / self.calls + sum(self.seen["x"]) / 10


def with_object():
    return patched(Remember())


def zero_star(use_zero_init):
    def cfg_zerostar(args):
        sigmas = args["model_options"]["transformer_options"]["sample_sigmas"]
        match = (sigmas == args["timestep"][0]).nonzero()  # fails where two steps have the same level
        step = match.item() if len(match) else 1
        return 0 * args["cond"] if use_zero_init and step <= 0 else args["cond"]

    m = model.clone()
    m.set_model_sampler_cfg_function(cfg_zerostar)
    return m


class SpotDiffusion:
    def __call__(self, function, args):
        return function(args["input"], args["timestep"], **args["c"])


def spot():
    m = model.clone()
    m.set_model_unet_function_wrapper(SpotDiffusion())
    return m


class TeaCache:
    def apply(self, model):
        return patched(lambda args: args["denoised"])


class AnimateDiffLoader(TeaCache):
    def apply(self, model):
        return patched(lambda args: args["denoised"])


def keyframed(frames_too=True):
    g, hook = torch.Generator().manual_seed(0), comfy.hooks.WeightHook()
    hook.weights = {
        k: ("diff", (0.1 * torch.randn(v.shape, generator=g),))
        for k, v in model.model.state_dict().items()
        if k.endswith("to_k.weight")
    }
    hook.need_weight_init = False
    frames, group = comfy.hooks.HookKeyframeGroup(), comfy.hooks.HookGroup()
    for strength, start in ((1.0, 0.0), (0.5, 0.3), (0.0, 0.5)) if frames_too else ():
        frames.add(comfy.hooks.HookKeyframe(strength, start))
    group.add(hook)
    group.set_keyframes_on_hooks(frames)
    return setting(circle, {"hooks": group})


MODELS = {
    "EasyCache": lambda: node("easycache", "EasyCacheNode", model, 3.0, 0.0, 1.0, False),
    "LazyCache": lambda: node("easycache", "LazyCacheNode", model, 3.0, 0.0, 1.0, False),
    "Adaptive Projected Guidance": lambda: node("apg", "APG", model, 1.0, 5.0, 0.5),
    "Hook keyframes": lambda: model,
    "Context windows": windows,
    "Self-Attention Guidance": lambda: node("sag", "SelfAttentionGuidance", model, 0.5, 2.0),
    "Perturbed-Attention Guidance": lambda: node("pag", "PerturbedAttentionGuidance", model, 3.0),
    "HyperTile": lambda: node("hypertile", "HyperTile", model, 32, 2, 0, False),
    "Token merging": lambda: node("tomesd", "TomePatchModel", model, 0.3),
    "FreeU": lambda: node("freelunch", "FreeU", model, 1.1, 1.2, 0.9, 0.2),
    "FreeU_V2": lambda: node("freelunch", "FreeU_V2", model, 1.3, 1.4, 0.9, 0.2),
    "PatchModelAddDownscale": lambda: node(
        "model_downscale", "PatchModelAddDownscale", model, 3, 2.0, 0.0, 0.35, True, "bicubic", "bicubic"
    ),
    "RescaleCFG": lambda: node("model_advanced", "RescaleCFG", model, 0.7),
    "FreSca": lambda: node("fresca", "FreSca", model, 1.0, 1.25, 2),
    "Tangential Damping CFG": lambda: node("tcfg", "TCFG", model),
    "Positive-Biased Guidance": lambda: node("mahiro", "Mahiro", model),
    "CFGZeroStar": lambda: node("cfg", "CFGZeroStar", model),
    "CFGNorm": lambda: node("cfg", "CFGNorm", model, 0.5),
    "Epsilon Scaling": lambda: node("eps", "EpsilonScaling", model, 1.005),
    "Temporal Score Rescaling": lambda: node("eps", "TemporalScoreRescaling", model, 0.95, 1.0),
    "Normalized Attention Guidance": lambda: node("nag", "NAGuidance", model, 5.0, 0.5, 1.5),
    "Skip Layer Guidance": lambda: node(
        "slg", "SkipLayerGuidanceDiT", model, 3.0, 0.01, 0.15, "7", "7", rescaling_scale=0.5
    ),
    "LatentApplyOperationCFG": lambda: node(
        "latent", "LatentApplyOperationCFG", model, node("latent", "LatentOperationSharpen", 3, 1.0, 0.1)
    ),
    "UNetSelfAttentionMultiply": lambda: node(
        "attention_multiply", "UNetSelfAttentionMultiply", model, 1.2, 1.0, 1.0, 1.0
    ),
    "torch.compile": compiled,
    "Differential Diffusion": lambda: node("differential_diffusion", "DifferentialDiffusion", model),
    "a closure (Automatic CFG, WaveSpeed)": closure,
    "an object (Tiled Diffusion, Dynamic Thresholding)": with_object,
    "CFG Zero Star/Init without zero-init": lambda: zero_star(False),
    "CFG Zero Star/Init": lambda: zero_star(True),
    "SpotDiffusion": spot,
    "TeaCache": lambda: TeaCache().apply(model),
    "AnimateDiff": lambda: AnimateDiffLoader().apply(model),
}

messages = []


class Listen(logging.Handler):
    def emit(self, record):
        messages.append(record.getMessage())


logging.getLogger().addHandler(Listen())

HIGH, LOW = torch.tensor([900]), torch.tensor([150])
x, y = noise(1, 4, 8, 8), noise(1, 4, 8, 8, seed=1)


def run(m, asked, ours=True, positive=circle, mask=None):
    answers = []

    def ask(denoiser, plain):
        for z, t in asked:
            torch.manual_seed(0)
            level = denoiser.noise_levels(t).level
            with torch.inference_mode():
                answers.append((denoiser if ours else plain)(z, level).clone())

    under(ask, m, positive, mask=mask)
    return answers


def apart(first, second):
    return max((a - b).abs().max().item() for a, b in zip(first, second, strict=True))


def make(name):
    with torch.inference_mode():
        return MODELS[name]()


for name in MODELS:
    positive = keyframed() if name == "Hook keyframes" else circle
    messages.clear()
    try:
        off = []
        for ours in (True, False):
            m = make(name)
            first, *after = run(m, [(y, LOW), (x, HIGH)] * 2, ours, positive)
            (anew,) = run(m if ours else make(name), [(x, HIGH)], ours, positive)  # ours leaves nothing behind in m
            off.append(apart(after, [anew, first, anew]))
        if name == "Differential Diffusion":
            run(m, [(x, LOW)], mask=torch.ones(1, 8, 8))
        found[name] = {"off": off[0], "plain": off[1], "log": [t for t in messages if "Referee" in t]}
    except ValueError as error:
        found[name] = {"error": str(error)}

positive, constant = keyframed(), keyframed(False)
alone = [run(model, [(x, HIGH), (y, LOW)], positive=p) for p in (circle, constant)]
low, high, again = run(model, [(y, LOW), (x, HIGH), (y, LOW)], positive=positive)
found["keyframes"] = [apart([high], alone[1][:1]), apart([low, again], [alone[0][1]] * 2)]
found["keyframes"] += [apart(alone[0][i : i + 1], alone[1][i : i + 1]) for i in range(2)]
