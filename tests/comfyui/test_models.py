"""The methods on the models that people use: small instances of ComfyUI's own classes, with random weights."""

from pathlib import Path

import pytest

from comfyui import inside
from scripts.environment import find_comfyui

MAKERS = (Path(__file__).parent / "small_models.py").read_text()
NAMES = (
    "SD 1.5", "SD 2.1", "SDXL", "SD3", "Flux", "Flux.2", "Chroma", "Z-Image", "Qwen-Image", "Krea 2", "Wan 2.1",
)  # fmt: skip
PICTURES = tuple(name for name in NAMES if name not in ("Flux.2", "Qwen-Image", "Krea 2", "Wan 2.1"))
"""Those whose pictures an autoencoder of Stable Diffusion's kind decodes."""
SINGLE = ("Krea 2", "Wan 2.1")  # which compute, in part or as a whole, in single precision whatever they are given

SLOPES = """
from contextlib import ExitStack
import comfy.sampler_helpers
from pack.nodes.bridge.gradients.block import differentiable
from pack.nodes.bridge.gradients.model import DifferentiableModel

def slopes(name):
    # along a direction: differences of ComfyUI's own predictions, and our gradient's, kept and computed twice
    wan = name == "Wan 2.1"  # it computes in single precision only
    dtype, h = (torch.float32, 0.02) if wan else (torch.float64, 0.01)
    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        patcher = build(name, dtype)
        mm.load_models_gpu([patcher])
        patcher.pre_run()
        x, along, weights = (torch.randn(1, *MODELS[name][2], generator=generator, dtype=dtype) for _ in range(3))
        conds = {"positive": comfy.sampler_helpers.convert_cond(prompt(name, 2))}
        conds = comfy.samplers.process_conds(patcher.model, x, conds, x.device, x, None, None)["positive"]
        level = torch.tensor([patcher.model.model_sampling.percent_to_sigma(0.4)], dtype=dtype)

    def value(x, options):
        made = comfy.samplers.sampling_function(patcher.model, x, level, None, conds, 1.0, options)
        return (made * weights.clone()).sum()

    plain = {"transformer_options": {}}
    with torch.inference_mode():
        mm.in_training = True  # the kernels for inference know no double precision
        up, down, far_up, far_down = (value(x + s * h * along, plain).item() for s in (1, -1, 2, -2))
        mm.in_training = False
    expected = (8 * (up - down) - (far_up - far_down)) / (12 * h)
    found = [expected]
    for twice in (False, True):
        through = DifferentiableModel(patcher)
        with torch.inference_mode(), differentiable(through, shape=x.shape), ExitStack() as undo:
            if twice:
                through.checkpoint(undo)
            leaf = x.clone().requires_grad_()
            (g,) = torch.autograd.grad(value(leaf, through.options(plain)), leaf)
            found.append((g * along).sum().item())
    return [*found, mm.in_training]

found["slopes"] = {name: slopes(name) for name in known()}
"""

METHODS = """
import comfy.sample
from pack.nodes.bridge.judging import judge as judging
from pack.nodes.runs import guidance, search as searching
from pack.nodes.runs.search_panel import SearchProgress
from pack.referee_core.methods import search as core
from pack.referee_core.methods.gradient_guidance import GuidanceSettings, Relative

class Quiet:
    __enter__ = lambda self: self
    __exit__ = lambda *a: None
    def __init__(self, steps):
        self.guided = 0
    def update(self, step):
        self.guided += 1
    def show(self, text):
        pass
    def closing(self):
        return ""

def methods(name):
    with torch.inference_mode():
        patcher, vae = build(name, torch.float32), autoencoder(MODELS[name][2][0])
        positive, negative = prompt(name, 2), prompt(name, 3)
        latent = torch.zeros(1, *MODELS[name][2])
        noise = comfy.sample.prepare_noise(latent, 5)
        def sample(model):
            made = comfy.sample.sample(model, noise, 2, 2.0, "euler", "simple", positive, negative, latent, seed=5)
            return made.clone()
        plain, out = sample(patcher), {}
        for gradient in ("prediction", "look-ahead"):
            shown = Quiet(2)
            guide = guidance.Guidance(
                vae, loss, replace(guidance.VIEWS, count=1), GuidanceSettings(gradient, Relative(0.1)), 0.0, 1.0,
                lambda steps: shown,
            )
            made = sample(guide.attach(patcher))
            out[gradient] = [bool(made.isfinite().all()), (made - plain).abs().max().item(), shown.guided]
        out["plain again"] = torch.equal(sample(patcher), plain)
        guider = comfy.samplers.CFGGuider(patcher)
        guider.set_conds(positive, negative)
        guider.set_cfg(2.0)
        sigmas = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), "simple", 2)
        attempts = searching.Attempts(
            guider, comfy.samplers.sampler_object("euler"), sigmas, {"samples": latent}, vae, 1, False, 0,
            SearchProgress(None, 1, 2, 0.0, None),
        )
        settings = core.SearchSettings(attempts=1, stop_at=0.0)
        *_, tried = core.search(attempts, judging.Judge(loss), settings, 5)
        out["search"] = [torch.equal(tried[0].picture.latent, plain),
                         tried[0].verdict.match]
        moved = play(vae=vae, prior=replace(prior, model=patcher, positive=positive, negative=negative),
                     latent={"samples": torch.randn(latent.shape, generator=torch.Generator().manual_seed(1))})
        out["optimizer"] = [bool(moved.isfinite().all()), moved.std().item()]
    return out

found["methods"] = {name: methods(name) for name in known() if name in PICTURES}
"""


@pytest.fixture(scope="module")
def slopes():
    return inside.run(f"{inside.PLAYERS}\n{MAKERS}\n{SLOPES}")["slopes"]


@pytest.fixture(scope="module")
def methods():
    return inside.run(f"{inside.PLAYERS}\n{MAKERS}\nPICTURES = {PICTURES!r}\n{METHODS}")["methods"]


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_through_the_model_is_that_of_differences(slopes, name):
    if name not in slopes and inside.version(find_comfyui()) < (0, 30):  # which has them all
        pytest.skip("this ComfyUI is older than the model")
    expected, kept, twice, in_training = slopes[name]
    assert abs(expected) > 1
    assert kept == pytest.approx(expected, rel=1e-3 if name in SINGLE else 1e-4)
    assert twice == pytest.approx(kept, rel=1e-5 if name in SINGLE else 1e-10)
    assert not in_training


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_guidance_search_and_optimizer_run(methods, name):
    made = methods[name]
    for gradient in ("prediction", "look-ahead"):
        finite, moved, guided = made[gradient]
        assert finite and moved > 1e-3 and guided == 2
    assert made["plain again"]
    same, match = made["search"]
    assert same and 0 <= match <= 1
    finite, spread = made["optimizer"]
    assert finite and spread > 0.1
