"""Rounds of sampling, and a model that learns between them, inside ComfyUI without a server."""

import pytest

from comfyui import inside

CODE = (
    inside.PLAYERS
    + """
import comfy.sample, comfy.samplers, comfy.sd, comfy.utils, folder_paths
from comfy_extras.nodes_train import SaveLoRA
from pack.nodes.runs.adapter import Adapter, adapt
from pack.nodes.runs.rounds import Rounds
from pack.referee_core.methods.gradient_guidance import Relative, GuidanceSettings
from pack.referee_core.methods.search import VIEWS

class Quiet:
    # in place of what the user sees
    __enter__ = lambda self: self
    __exit__ = lambda *a: None
    def __init__(self, rounds):
        self.rounds, self.steps = rounds, []
    def update(self, step):
        self.steps.append(step)
    def show(self, text):
        self.text = text
    def closing(self):
        return "done"

STEPS = 3
sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", STEPS)

def make(count=2, name="euler", gradient="prediction", stop_at=0.0, share=0.3, loss=loss):
    def begin(rounds):
        make.shown = Quiet(rounds)
        return make.shown
    settings = GuidanceSettings(gradient, Relative(share))
    return Rounds(
        comfy.samplers.sampler_object(name), vae, loss, replace(VIEWS, count=3), settings, count, 1.0, stop_at, 0.0,
        0.7, begin,
    )

def sample(sampler, model=model, batch=1, seed=5, mask=None, latent=None, callback=None):
    with torch.inference_mode():
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(cond, empty)
        guider.set_cfg(2.0)
        latent = torch.zeros(batch, 4, 8, 8) if latent is None else latent
        noise = comfy.sample.prepare_noise(latent, seed)
        return guider.sample(
            noise, latent, sampler, sigmas, denoise_mask=mask, callback=callback, disable_pbar=True, seed=seed,
        ).clone()

def predicted(model):
    # what a MODEL makes by itself
    return sample(comfy.samplers.sampler_object("euler"), model)

with torch.inference_mode():
    empty = clip.encode_from_tokens_scheduled(clip.tokenize(""))
"""
)

ROUNDS = """
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
    found[f"{name}, {gradient}"] = (
        bool(made.isfinite().all()) and not torch.equal(make.shown.steps[0].z, make.shown.steps[1].z)
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
"""

ADAPT = """
with torch.inference_mode():
    untouched = predicted(model)
    def learn(rate=0.002, steps=4):
        return adapt(
            model, cond, empty, 2.0, make(), sigmas, {"samples": torch.zeros(2, 4, 8, 8)}, 5, 2, rate, steps,
        )
    adapted, lora, latent = learn()
    found["untouched"] = torch.equal(predicted(model), untouched)
    found["shape"] = list(latent["samples"].shape)
    effect = predicted(adapted)
    found["effect"] = (effect - untouched).abs().max().item()
    SaveLoRA.execute(lora, "adapted")
    (file,) = __import__("pathlib").Path(folder_paths.get_output_directory()).glob("adapted*.safetensors")
    read, _ = comfy.sd.load_lora_for_models(model, None, comfy.utils.load_torch_file(str(file), safe_load=True), 1.0, 0)
    file.unlink()
    found["read back"] = (predicted(read) - effect).abs().max().item()
    found["again"] = all(torch.equal(lora[key], other) for key, other in learn()[1].items())
    found["nothing"] = (predicted(learn(rate=0.0)[0]) - untouched).abs().max().item()
    found["layers"] = sorted({key.split(".lora_")[0] for key in lora if ".lora_" in key}) == sorted(
        f"diffusion_model.{name}" for name, module in model.model.diffusion_model.named_modules()
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))
    )

    # what it has learned: these latents are predicted better than before
    adapter = Adapter(model, 4, 0.003, 60, 1)
    guider = comfy.samplers.CFGGuider(adapter.patcher)
    guider.set_conds(cond, empty)
    seen = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    class Teacher(comfy.samplers.Sampler):
        def sample(self, guider, sigmas, extra_args, *rest, **options):
            values = []
            for last in (False, True):
                x = seen + 0.5 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
                values.append((guider(x, torch.full([2], 0.5), **extra_args) - seen).square().mean().item())
                if not last:
                    adapter.learn(seen, guider, extra_args)
            found["learned"] = values
            return seen
    guider.sample(seen, seen, Teacher(), sigmas, seed=1)
try:
    adapt(model, cond, empty, 2.0, comfy.samplers.sampler_object("euler"), sigmas, {"samples": seen}, 5, 2, 1e-3, 1)
except ValueError as error:
    found["refused"] = str(error)
"""


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found():
    return inside.run(CODE + ROUNDS)


@pytest.fixture(scope="module")
def adapted():
    return inside.run(CODE + ADAPT)


def test_the_first_round_is_plain_sampling_and_the_best_comes_out(found):
    assert found["first"] and found["changes"] and found["best"]


def test_the_referee_is_asked_once_a_round(found):
    assert found["asked"] == pytest.approx([1 / 3, 2 / 3, 1])


def test_each_round_is_shown(found):
    rows, text = found["shown"]
    assert rows == [[i, 3, ["caption", "itm", "loss"]] for i in range(3)]
    assert text == "3 rounds, done" and found["bar"]


def test_the_loss_falls_round_after_round(found):
    first, second, third = found["falls"]
    assert second < first and third < first


def test_no_more_rounds_than_needed(found):
    assert found["stops"] == [1, "1 rounds, done"]


def test_the_same_seed_makes_the_same_picture_and_nothing_stays_behind(found):
    assert found["repeats"] and found["plain again"] and found["pushed off"]


def test_an_image_of_a_batch_goes_as_alone(found):
    assert found["batch"] < 1e-3


@pytest.mark.parametrize("way", ["heun, prediction", "dpmpp_sde, prediction", "euler, look-ahead"])
def test_any_sampler_and_gradient(found, way):
    assert found[way]


def test_a_mask_keeps_what_it_keeps(found):
    kept, moved = found["masked"]
    assert kept < inside.ROUNDING < 0.1 < moved


def test_cancelling(found):
    assert found["cancelled"] == ["InterruptProcessingException", 0]
    assert found["after cancelling"]


def test_the_lora_is_read_back_with_the_same_effect(adapted):
    assert adapted["effect"] > 1e-3
    assert adapted["read back"] < 1e-6
    assert adapted["layers"]


def test_the_model_itself_is_as_before(adapted):
    assert adapted["untouched"] and adapted["nothing"] == 0
    assert adapted["again"] and adapted["shape"] == [2, 4, 8, 8]


def test_it_learns_what_it_is_taught(adapted):
    before, after = adapted["learned"]
    assert after < 0.8 * before


def test_another_sampler_is_refused(adapted):
    assert "'sampler' is not a Referee Rounds" in adapted["refused"]
