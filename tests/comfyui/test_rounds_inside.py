"""Rounds of sampling, and a model that learns between them, inside ComfyUI without a server."""

import pytest

from comfyui import inside

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found():
    return inside.run("rounds_runs")


@pytest.fixture(scope="module")
def adapted():
    return inside.run("adapter")


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
