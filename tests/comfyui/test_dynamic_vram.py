"""ComfyUI's dynamic VRAM, where weights come to the card only while they are used: gradients pass all the same.

Everything is ComfyUI's own but the pager of comfy-aimdo, which needs a real card: here it never keeps a page.
"""

import pytest

from comfyui import inside

pytestmark = [inside.NEEDS_CARD, pytest.mark.slow]


@pytest.fixture(scope="module")
def found():
    return inside.run("dynamic_vram")


def test_paged_models_give_the_same_latent(found):
    assert found["dynamic"] == [True, True] and min(found["paged"]) > 0
    assert max(found["first"], found["second"]) < inside.ROUNDING


@pytest.mark.parametrize("gradient", ["prediction", "look-ahead"])
def test_a_guided_run_copies_a_weight_once_and_keeps_none(found, gradient):
    off, three, six = found[gradient]
    assert off < inside.ROUNDING and 1e6 < six < 1.2 * three  # small weights are loaded anew in each step
    assert found["look-ahead, left"] < found["prediction, left"] + 1e5


def test_no_copy_of_the_vae_stays_behind(found):
    assert found["on the card after the second"] <= found["on the card after the first"]


def test_what_others_changed_in_a_paged_vae_is_kept(found):
    assert min(found["the change shows"]) > 0.05
    assert max(found["changed"]) < inside.ROUNDING
