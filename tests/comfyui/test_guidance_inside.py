"""Guidance inside ComfyUI, without a server: kinds of models, gradients, batches, masks, cancelling."""

import pytest

from comfyui import inside

KINDS = ("eps", "v", "flow", "flow with noise_scale")
STAGES = ("decoding", "judging", "backward", "the model's backward")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ahead():
    return inside.run("guidance_look_ahead")


@pytest.fixture(scope="module")
def found():
    return inside.run("guidance_runs")


@pytest.fixture(scope="module")
def cancelled():
    return inside.run("guidance_cancelled", stages=STAGES)


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
