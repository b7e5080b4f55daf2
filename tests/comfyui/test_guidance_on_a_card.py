"""Guidance, rounds and an adapter on a card of main memory that does not hold model, VAE and referee together."""

import pytest

from comfyui import inside

pytestmark = [inside.NEEDS_CARD, pytest.mark.slow]


@pytest.fixture(scope="module")
def found():
    return inside.run("guidance_on_a_card")


@pytest.mark.parametrize("gradient", ["prediction", "look-ahead"])
def test_where_not_all_fits_the_picture_is_the_same(found, gradient):
    off, guided, loaded = found[gradient]
    assert off < 1e-2 < 0.1 < guided
    assert (loaded < 1) == (gradient == "prediction")  # the look-ahead needs the whole model


def test_an_adapter_learns_on_a_card_and_when_the_referee_pushes_the_model_off():
    found = inside.run("adapter_on_a_card")
    assert found["learned"] > 1e-4 and found["off"] < 1e-6
    assert found["where"] == ["cpu"]
