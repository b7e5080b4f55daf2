"""Guidance inside ComfyUI, without a server: kinds of models, gradients, batches, masks, cancelling."""

import pytest

from comfyui import inside

KINDS = ("eps", "v", "flow", "flow with noise_scale")
STAGES = ("decoding", "judging", "backward", "the model's backward")

CODE = (
    inside.PLAYERS
    + """
import comfy.sample, comfy.samplers
from comfy_extras import nodes_model_advanced as advanced
from comfy.patcher_extension import WrappersMP
from pack.nodes.runs import guidance as bridge
from pack.referee_core.methods.gradient_guidance import Constant, Judged, Relative, GuidanceSettings

class Quiet:
    # in place of what the user sees
    __enter__ = lambda self: self
    __exit__ = lambda *a: None
    def __init__(self, steps):
        self.steps = []
    def update(self, step):
        self.steps.append(step)
    def show(self, text):
        self.text = text
    def closing(self):
        return "done"

def guide(model, settings=GuidanceSettings(), end=1.0, views=3, loss=loss):
    # the guided MODEL, and its guidance; what it showed last is guidance.shown
    def begin(steps):
        guidance.shown = Quiet(steps)
        return guidance.shown
    guidance = bridge.Guidance(vae, loss, replace(bridge.VIEWS, count=views), settings, 0.0, end, begin)
    with torch.inference_mode():
        return guidance.attach(model), guidance

def sample(model, sampler="euler", steps=3, batch=1, seed=5, mask=None, latent=None, noise=None, size=8):
    with torch.inference_mode():
        latent = torch.zeros(batch, 4, size, size) if latent is None else latent
        noise = comfy.sample.prepare_noise(latent, seed) if noise is None else noise
        return comfy.sample.sample(
            model, noise, steps, 2.0, sampler, "normal", cond, empty, latent, noise_mask=mask, seed=seed,
        ).clone()

with torch.inference_mode():
    empty = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    KINDS = {
        "eps": model,
        "v": advanced.ModelSamplingDiscrete().patch(model, "v_prediction", False)[0],
        "flow": advanced.ModelSamplingSD3().patch(model, 3.0)[0],
    }
    scaled = advanced.ModelSamplingSD3().patch(model, 3.0)[0]
    scaled.get_model_object("model_sampling").noise_scale = 2.0
    KINDS["flow with noise_scale"] = scaled
"""
)

LOOK_AHEAD = """
for kind, patcher in KINDS.items():
    # the first guided call, caught: the gradient by x in k-space, against differences of the whole way
    guided, guidance = guide(patcher, GuidanceSettings("look-ahead", Constant(1e-6)))
    caught = {}
    def catch(z, x, sigma, judged, settings, predict=None, mask=None, own=bridge.guided):
        made = own(z, x, sigma, judged, settings, predict, mask)
        if not caught:
            states = [g.get_state() for g in judged.streams]
            def value(x):
                for g, state in zip(judged.streams, guidance.begun):
                    g.set_state(state)
                with torch.no_grad():
                    predicted = predict(x)
                return judged(predicted)[0].double().sum().item()
            g, h = made.gradient, 0.1 * x.norm().item() / 100
            along = g / g.norm()
            def difference(h):
                return (value(x + h * along) - value(x - h * along)) / (2 * h)
            slope = (4 * difference(h / 2) - difference(h)) / 3
            off = (predict(x) - z).abs().max() / z.abs().max()
            caught.update(slope=g.norm().item() / slope, off=off.item())
            for g, state in zip(judged.streams, states):
                g.set_state(state)
        return made
    begun = bridge.Run.streams_of
    def remember(run, x):
        streams = begun(run, x)
        guidance.begun = [g.get_state() for g in streams]
        return streams
    bridge.Run.streams_of, own = remember, bridge.guided
    bridge.guided = catch
    # from the middle on, where the model knows what it sees
    sample(guided, steps=4)
    bridge.guided, bridge.Run.streams_of = own, begun
    found[kind] = caught
"""

THE_REST = """
plain = sample(model)
guided, guidance = guide(model)
one = sample(guided)
found["shown"] = [(s.index, s.steps, sorted(s.scalars["loss"])) for s in guidance.shown.steps], guidance.shown.text
found["repeats"] = torch.equal(sample(guided), one) and not torch.equal(one, plain)
found["put away"] = guidance.run is None
found["plain again"] = torch.equal(sample(model), plain)

# a batch: image i as alone, with the seed that it has
noise = torch.cat([comfy.sample.prepare_noise(torch.zeros(1, 4, 8, 8), s) for s in (5, 6)])
batch = sample(guided, noise=noise, batch=2)
each = torch.cat([sample(guided, seed=s) for s in (5, 6)])
found["batch"] = [((batch.roll(k, 0) - each).norm() / each.norm()).item() for k in (0, 1)]

# samplers that call the model more often, and with noise of their own
for name in ("heun", "dpm_2_ancestral", "dpmpp_sde", "uni_pc", "lcm", "ddim"):
    made = sample(guided, name)
    found[name] = bool(made.isfinite().all()) and not torch.equal(made, sample(model, name))

# two in a row
twice, second = guide(guided, GuidanceSettings("prediction", Relative(0.02)))
both = sample(twice)
found["two"] = [torch.equal(both, other) for other in (one, sample(guide(model, second.settings)[0]), sample(twice))]
ahead, _ = guide(guided, GuidanceSettings("look-ahead", Relative(0.02)))
found["look-ahead behind it"] = torch.equal(sample(ahead), sample(ahead)) and not torch.equal(sample(ahead), one)

# a mask: what it keeps is kept, and the gradient lies inside
mask = torch.zeros(1, 1, 64, 64)
mask[..., :32] = 1
start = 0.2 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
masked = sample(guided, mask=mask, latent=start)
found["masked"] = {
    "kept": (masked - start)[..., 4:].abs().max().item(), "moved": (masked - start)[..., :4].abs().max().item(),
    "guided": torch.equal(masked, sample(model, mask=mask, latent=start)),
}

# whatever was loaded first, and after it was thrown out
mm.unload_all_models()
found["after unloading"] = torch.equal(sample(guided), one)
mm.unload_all_models()
mm.load_models_gpu([vae.patcher, referee.patcher])
found["companions first"] = torch.equal(sample(guided), one)
mm.unload_all_models()
mm.load_models_gpu([model])
found["model first"] = torch.equal(sample(guided), one)

half, guidance = guide(model, end=0.5)
sample(half, steps=6)
found["half"] = [s.index for s in guidance.shown.steps]

def message(f):
    try:
        f()
        return ""
    except Exception as error:
        return str(error)

def bare():
    # who asks the model without a sampler
    with torch.inference_mode():
        x, sigma = torch.zeros(1, 4, 8, 8), torch.ones(1)
        conds = {"model": model.model, "denoised": x, "input": x, "sigma": sigma, "model_options": guided.model_options}
        guided.model_options["sampler_post_cfg_function"][-1](conds)
found["bare"] = message(bare)
"""

CANCEL = """
import gc
decoder, network = vae.first_stage_model.decoder, referee.referee.network
modules = (vae.first_stage_model, network, model.model)

def state():
    parts = [part for module in modules for part in module.modules()]
    tensors = [t for part in parts for t in (*part._parameters.values(), *part._buffers.values()) if t is not None]
    return (
        [(id(t), t.requires_grad, t.is_inference(), t.data_ptr()) for t in tensors],
        [(part.__dict__.get("forward"), part.__dict__.get("optimized_attention"), part.training) for part in parts],
        (referee.referee.checkpointing, torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    )

for at in STAGES:
    guided, guidance = guide(model, GuidanceSettings("look-ahead", Relative(0.1)))
    first = sample(guided)
    before, pressed, decodes = state(), [], []
    def press(*_):
        if not pressed:
            pressed.append(at)
            mm.interrupt_current_processing()
    part, how = {
        "decoding": (decoder.conv_out, "register_forward_pre_hook"),
        "judging": (network.vision, "register_forward_pre_hook"),
        "backward": (network.vision, "register_full_backward_hook"),
        "the model's backward": (model.model.diffusion_model.out[2], "register_full_backward_hook"),
    }[at]
    hooks = [getattr(part, how)(press), decoder.register_forward_pre_hook(lambda *_: decodes.append(1))]
    ended = "to its end"
    try:
        sample(guided)
    except BaseException as error:
        ended = type(error).__name__
    for hook in hooks:
        hook.remove()
    gc.collect()
    found[at] = dict(ended=ended, pressed=len(pressed), decodes=len(decodes), restored=state() == before)
    found[at]["put_away"] = guidance.run is None
    found[at]["next"] = torch.equal(sample(guided), first)
"""


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ahead():
    return inside.run(CODE + LOOK_AHEAD)


@pytest.fixture(scope="module")
def found():
    return inside.run(CODE + THE_REST)


@pytest.fixture(scope="module")
def cancelled():
    return inside.run(CODE + f"STAGES = {STAGES!r}\n" + CANCEL)


@pytest.mark.parametrize("kind", KINDS)
def test_the_look_ahead_gradient_is_that_of_the_whole_way(ahead, kind):
    assert ahead[kind]["off"] < inside.ROUNDING  # the model asked again says what it has said
    assert ahead[kind]["slope"] == pytest.approx(1, rel=0.05)


def test_the_same_seed_makes_the_same_picture_and_nothing_stays_behind(found):
    assert found["repeats"] and found["plain again"] and found["put away"]


def test_each_guided_step_is_shown(found):
    rows, text = found["shown"]
    assert rows == [[i, 3, ["caption", "itm", "loss"]] for i in range(3)]
    assert text == "guided 3 times, done"


def test_an_image_of_a_batch_is_guided_as_alone(found):
    own, of_the_other = found["batch"]
    assert own < 0.01 * of_the_other  # steps as long as a share of the way make much of little roundings


@pytest.mark.parametrize("sampler", ["heun", "dpm_2_ancestral", "dpmpp_sde", "uni_pc", "lcm", "ddim"])
def test_any_sampler(found, sampler):
    assert found[sampler]


def test_two_in_a_row_act_both(found):
    assert found["two"] == [False, False, True]
    assert found["look-ahead behind it"]


def test_a_mask_keeps_what_it_keeps(found):
    assert found["masked"]["kept"] < inside.ROUNDING < 0.1 < found["masked"]["moved"]
    assert not found["masked"]["guided"]


@pytest.mark.parametrize("order", ["after unloading", "companions first", "model first"])
def test_whatever_was_loaded_before(found, order):
    assert found[order]


def test_the_rest_of_the_way_is_unguided(found):
    assert found["half"] == [0, 1, 2]


def test_without_a_sampler_it_says_so(found):
    assert "works inside ComfyUI's samplers" in found["bare"]


@pytest.mark.parametrize("at", STAGES)
def test_cancelling_ends_within_a_step_and_puts_everything_back(cancelled, at):
    seen = cancelled[at]
    assert seen["ended"] == "InterruptProcessingException" and seen["pressed"] == 1
    assert seen["decodes"] == 1
    assert seen["restored"] and seen["put_away"] and seen["next"]
