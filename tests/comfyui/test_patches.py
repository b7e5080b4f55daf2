"""Patches of the model under score distillation: a prediction asked after others equals the one asked first, or the run
is refused, or the log names the patch. Core's own nodes on the demo model; stand-ins for other packs' ways to remember.
"""

from dataclasses import dataclass

import pytest

from comfyui import inside
from comfyui.test_denoiser import GUIDED
from scripts.server import PACK

SAME, REFUSED, WARNED = "same", "refused", "warned"


@dataclass(frozen=True)
class Patch:
    """A patched model, as an expression; whether its plain answer depends on the last call; what becomes of it here."""

    model: str
    remembers: bool = False
    outcome: str = SAME


PATCHES = {
    "EasyCache": Patch("node('easycache', 'EasyCacheNode', model, 3.0, 0.0, 1.0, False)", remembers=True),
    "LazyCache": Patch("node('easycache', 'LazyCacheNode', model, 3.0, 0.0, 1.0, False)", remembers=True),
    "Adaptive Projected Guidance": Patch("node('apg', 'APG', model, 1.0, 5.0, 0.5)", remembers=True),
    "Hook keyframes": Patch("model", remembers=True),
    "Context windows": Patch("windows()"),
    "Self-Attention Guidance": Patch("node('sag', 'SelfAttentionGuidance', model, 0.5, 2.0)"),
    "Perturbed-Attention Guidance": Patch("node('pag', 'PerturbedAttentionGuidance', model, 3.0)"),
    "HyperTile": Patch("node('hypertile', 'HyperTile', model, 32, 2, 0, False)"),
    "Token merging": Patch("node('tomesd', 'TomePatchModel', model, 0.3)"),
    "FreeU": Patch("node('freelunch', 'FreeU', model, 1.1, 1.2, 0.9, 0.2)"),
    "FreeU_V2": Patch("node('freelunch', 'FreeU_V2', model, 1.3, 1.4, 0.9, 0.2)"),
    "PatchModelAddDownscale": Patch(
        "node('model_downscale', 'PatchModelAddDownscale', model, 3, 2.0, 0.0, 0.35, True, 'bicubic', 'bicubic')"
    ),
    "RescaleCFG": Patch("node('model_advanced', 'RescaleCFG', model, 0.7)"),
    "FreSca": Patch("node('fresca', 'FreSca', model, 1.0, 1.25, 2)"),
    "Tangential Damping CFG": Patch("node('tcfg', 'TCFG', model)"),
    "Positive-Biased Guidance": Patch("node('mahiro', 'Mahiro', model)"),
    "CFGZeroStar": Patch("node('cfg', 'CFGZeroStar', model)"),
    "CFGNorm": Patch("node('cfg', 'CFGNorm', model, 0.5)"),
    "Epsilon Scaling": Patch("node('eps', 'EpsilonScaling', model, 1.005)"),
    "Temporal Score Rescaling": Patch("node('eps', 'TemporalScoreRescaling', model, 0.95, 1.0)"),
    "Normalized Attention Guidance": Patch("node('nag', 'NAGuidance', model, 5.0, 0.5, 1.5)"),
    "Skip Layer Guidance": Patch(
        "node('slg', 'SkipLayerGuidanceDiT', model, 3.0, 0.01, 0.15, '7', '7', rescaling_scale=0.5)"
    ),
    "LatentApplyOperationCFG": Patch(
        "node('latent', 'LatentApplyOperationCFG', model, node('latent', 'LatentOperationSharpen', 3, 1.0, 0.1))"
    ),
    "UNetSelfAttentionMultiply": Patch(
        "node('attention_multiply', 'UNetSelfAttentionMultiply', model, 1.2, 1.0, 1.0, 1.0)"
    ),
    "torch.compile": Patch("compiled()"),
    "Differential Diffusion": Patch("node('differential_diffusion', 'DifferentialDiffusion', model)", outcome=REFUSED),
    "a closure (Automatic CFG, WaveSpeed)": Patch("closure()", remembers=True),
    "an object (Tiled Diffusion, Dynamic Thresholding)": Patch("with_object()", remembers=True),
    "CFG Zero Star/Init without zero-init": Patch("zero_star(False)"),
    "CFG Zero Star/Init": Patch("zero_star(True)", outcome=REFUSED),
    "SpotDiffusion": Patch("spot()", outcome=REFUSED),
    "TeaCache": Patch("TeaCache().apply(model)", outcome=WARNED),
    "AnimateDiff": Patch("AnimateDiffLoader().apply(model)", outcome=WARNED),
}

CODE = (
    GUIDED
    + """
import importlib
import comfy.context_windows
import comfy_extras.nodes_post_processing  # before nodes_latent, which imports it and is imported by it
from comfy_api.torch_helpers import set_torch_compile_wrapper

def node(module, name, *args, **kwargs):
    cls = getattr(importlib.import_module("comfy_extras.nodes_" + module), name)
    out = cls.execute(*args, **kwargs) if hasattr(cls, "execute") else getattr(cls(), cls.FUNCTION)(*args, **kwargs)
    return out[0]

def windows():
    m = model.clone()
    m.model_options["context_handler"] = comfy.context_windows.IndexListContextHandler(
        comfy.context_windows.get_matching_context_schedule("standard_uniform"),
        comfy.context_windows.get_matching_fuse_method("pyramid"), context_length=4, context_overlap=2, dim=3)
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
    hook.weights = {k: ("diff", (0.1 * torch.randn(v.shape, generator=g),))
                    for k, v in model.model.state_dict().items() if k.endswith("to_k.weight")}
    hook.need_weight_init = False
    frames, group = comfy.hooks.HookKeyframeGroup(), comfy.hooks.HookGroup()
    for strength, start in ((1.0, 0.0), (0.5, 0.3), (0.0, 0.5)) if frames_too else ():
        frames.add(comfy.hooks.HookKeyframe(strength, start))
    group.add(hook)
    group.set_keyframes_on_hooks(frames)
    return setting(circle, {"hooks": group})

messages = []
class Listen(logging.Handler):
    def emit(self, record): messages.append(record.getMessage())
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

for name, build in PATCHES.items():
    def make():
        with torch.inference_mode():
            return eval(build)
    positive = keyframed() if name == "Hook keyframes" else circle
    messages.clear()
    try:
        off = []
        for ours in (True, False):
            m = make()
            first, *after = run(m, [(y, LOW), (x, HIGH)] * 2, ours, positive)
            (anew,) = run(m if ours else make(), [(x, HIGH)], ours, positive)  # ours leaves nothing behind in m
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
found["keyframes"] += [apart(alone[0][i:i + 1], alone[1][i:i + 1]) for i in range(2)]
"""
)


@pytest.fixture(scope="module")
def asked():
    models = {name: patch.model for name, patch in PATCHES.items()}
    return inside.run(f"PATCHES = {models!r}\n{CODE}")


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_answers_as_if_asked_first_or_is_named(asked, name):
    patch, seen = PATCHES[name], asked[name]
    if patch.outcome == REFUSED:
        assert "'model' has " in seen["error"] and "does not go with score distillation" in seen["error"]
        return
    assert seen["off"] < inside.ROUNDING
    assert (seen["plain"] > 1e-2) == patch.remembers, "whether it needs help"
    assert bool(seen["log"]) == (patch.outcome == WARNED)
    assert all(name in line for line in seen["log"])


def test_keyframes_of_hooks_follow_the_noise_level(asked):
    early, late, *apart = asked["keyframes"]
    assert max(early, late) < inside.ROUNDING
    assert min(apart) > 1e-2, "the LoRA acts"


@pytest.mark.parametrize("name", PATCHES)
def test_the_page_about_models_lists_the_patch(name):
    assert name in (PACK / "docs" / "models.md").read_text()
