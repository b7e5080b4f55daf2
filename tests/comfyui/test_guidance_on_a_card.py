"""Guidance, rounds and an adapter on a card of main memory that does not hold model, VAE and referee together."""

import pytest

from comfyui import inside
from comfyui.test_guidance_inside import CODE as GUIDANCE
from comfyui.test_rounds_inside import CODE as ROUNDS

CARD = """
from pack.tests.comfyui import card
vram = card.plug_in()
"""
TIGHT = """
from pack.nodes.bridge.gradients import memory
from pack.nodes.bridge.gradients.model import DifferentiableModel
from pack.nodes.bridge.gradients.vae import Decoder
memory.RESERVE = 0
patchers, shape = (vae.patcher, referee.patcher, model), torch.Size([1, 4, 8, 8])
sizes = [p.model_size() for p in patchers]
passages = {"prediction": [Decoder(vae)], "look-ahead": [Decoder(vae), DifferentiableModel(model)]}

def on(size, run):
    vram.size = int(size)
    mm.unload_all_models()
    return run()

for gradient, through in passages.items():
    guided, _ = guide(model, GuidanceSettings(gradient, Relative(0.1)))
    work = memory.count_least_bytes(loss.loss) + sum(p.memory_required(shape, checkpointing=True) for p in through)
    roomy, plain = on(2**40, lambda: sample(guided)), on(2**40, lambda: sample(model))
    tight = on(work + 1.1 * sum(sizes) - (0.5 * sizes[2] if len(through) == 1 else 0), lambda: sample(guided))
    loaded = model.loaded_size() / sizes[2]
    found[gradient] = (roomy - tight).abs().max().item(), (roomy - plain).abs().max().item(), loaded
"""
ADAPT = """
def learn():
    with torch.inference_mode():
        latent = {"samples": torch.zeros(1, 4, 8, 8)}
        return adapt(model, cond, empty, 2.0, make(), sigmas, latent, 5, 2, 0.002, 3)[1]
def pushed_off():
    # the referee needs the whole card
    before = mm.load_models_gpu
    def forgetful(models, **options):
        if not any(m.model is model.model for m in models):
            mm.unload_all_models()
        return before(models, **options)
    mm.load_models_gpu = forgetful
    try:
        return learn()
    finally:
        mm.load_models_gpu = before
roomy, back_again = learn(), pushed_off()
found["learned"] = max(v.abs().max().item() for k, v in roomy.items() if "lora_up" in k)
found["off"] = max((v - back_again[k]).abs().max().item() for k, v in roomy.items())
found["where"] = sorted({str(v.device) for v in roomy.values()})
"""

pytestmark = [inside.NEEDS_CARD, pytest.mark.slow]


@pytest.fixture(scope="module")
def found():
    return inside.run(CARD + GUIDANCE + TIGHT)


@pytest.mark.parametrize("gradient", ["prediction", "look-ahead"])
def test_where_not_all_fits_the_picture_is_the_same(found, gradient):
    off, guided, loaded = found[gradient]
    assert off < 1e-2 < 0.1 < guided
    assert (loaded < 1) == (gradient == "prediction")  # the look-ahead needs the whole model


def test_an_adapter_learns_on_a_card_and_when_the_referee_pushes_the_model_off():
    found = inside.run(CARD + ROUNDS + ADAPT)
    assert found["learned"] > 1e-4 and found["off"] < 1e-6
    assert found["where"] == ["cpu"]
