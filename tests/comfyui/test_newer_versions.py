"""What newer versions of ComfyUI added, imitated: VAEs of four channels, their latents, another way of sampling."""

import pytest

from comfyui import inside


@pytest.fixture(scope="module")
def found() -> dict:
    return inside.run("newer_versions")


def test_a_vae_of_four_channels_is_judged_and_shown_by_the_first_three(found):
    assert found["shown"] == [1, 128, 128, 4], "the imitation decodes to RGBA"
    assert found["decoded"] and found["optimised"] and found["picture"] == [1, 128, 128, 3]
    with_alpha, without = found["searched"]
    assert with_alpha == pytest.approx(without, rel=1e-5)


def test_the_scale_of_latents_follows_class_and_channels(found):
    assert found["before"][:2] == ["Wan21", "Wan22"] and "64 channels" in found["before"][2]
    assert found["after"] == "QwenImage21"


def test_a_model_that_turns_images_into_images_is_no_prior():
    assert "turns one image into another" in inside.run("velocity")["refused"]
