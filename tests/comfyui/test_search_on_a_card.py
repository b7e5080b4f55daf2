"""How many attempts of a search go at a time on a card of main memory, and what happens where they do not fit."""

import pytest

from comfyui import inside

CODE = (
    """
from pack.tests.comfyui import card
vram = card.plug_in()
vram.size = 2**30
"""
    + inside.PLAYERS
    + """
import comfy.samplers
from pack.nodes.bridge.sampling.batches import most_at_once
from pack.nodes.runs.search import Attempts

class Silent:
    finish_asked, best = False, None
    def step(self, *a): pass
    sampled = step

guider, sizes, limit = comfy.samplers.CFGGuider(model), [], 5
guider.set_conds(cond, cond)
guider.set_cfg(3.0)
inner = guider.inner_sample

def spy(noise, *args, **kwargs):
    sizes.append(len(noise))
    if len(noise) > limit:  # more than ComfyUI reckons with
        torch.empty(vram.free + 1, dtype=torch.uint8, device=card.CARD)
    return inner(noise, *args, **kwargs)

guider.inner_sample = spy
sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 1)
start = {"samples": torch.zeros(1, 4, 16, 16)}

def attempts(at_once, stops=False):
    # the latents of five seeds, and how many of them were begun in each batch
    sizes.clear()
    mm.unload_all_models()
    with torch.inference_mode():
        made = Attempts(guider, comfy.samplers.sampler_object("euler"), sigmas, start, vae, at_once, stops, 0, Silent())
        latents = [picture.latent.clone() for picture in made(range(1, 6), None)]
    return latents, {"sizes": list(sizes), "notes": made.notes}

def off(latents):
    return max((a - b).abs().max().item() for a, b in zip(latents, alone, strict=True))

alone, found["one"] = attempts(1)
_, found["may stop"] = attempts(0, stops=True)
together, found["all"] = attempts(0)
limit = 2
short, found["short"] = attempts(5)
found["off"] = off(together), off(short)
limit = 0
try:
    attempts(5)
except torch.OutOfMemoryError as error:
    found["hopeless"] = str(error)
vram.size = int(model.model_size() + 1.5 * 3.5 * model.memory_required([2, 4, 16, 16]))
mm.unload_all_models()
found["most"] = most_at_once(model, (1, 4, 16, 16))
"""
)

pytestmark = [inside.NEEDS_CARD, pytest.mark.slow]


@pytest.fixture(scope="module")
def found():
    return inside.run(CODE)


def test_as_many_as_fit_unless_one_may_be_the_last(found):
    assert found["one"]["sizes"] == [1] * 5 and found["all"]["sizes"] == [5]
    assert found["may stop"]["sizes"] == [1, 1, 2, 1]  # no more than were tried before
    assert found["most"] == 3


def test_where_memory_runs_out_fewer_go_on_and_nothing_is_lost(found):
    assert found["short"] == {"sizes": [5, 2, 2, 1], "notes": ["memory ran out, 2 at a time"]}


def test_a_batch_gives_what_each_gives_alone(found):
    assert max(found["off"]) < inside.ROUNDING


def test_where_one_does_not_fit_the_error_says_what_to_do(found):
    message = found["hopeless"]
    assert "Memory ran out in sampling" in message and "lower at_once" in message
