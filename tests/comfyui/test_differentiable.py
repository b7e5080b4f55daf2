"""Gradients through whatever the user has made of VAE, MODEL and latent format; families of models."""

import pytest

from comfyui import inside


@pytest.fixture(scope="module")
def found():
    return inside.run("differentiable")


@pytest.mark.parametrize("name", ["plain", "tampered", "compiled", "wan", "half", "tampered in half"])
def test_the_users_own_vae_is_decoded_and_differentiated(found, name):
    half = "half" in name
    seen = found[name]
    assert seen["picture"] < (0.02 if half else 1e-5)
    assert abs(seen["slope"] - 1) < 0.02
    assert seen["again"] and seen["back"]
    assert found["tampering shows"] > 0.03


def test_gradients_are_computed_in_full_range(found):
    assert found["half is precise"][0] in ("torch.float32", "torch.bfloat16")
    assert found["half is precise"][1] == "torch.float16"


def test_a_latent_format_with_statistics(found):
    finite, difference = found["format"]
    assert finite and difference > 0.1


def test_weights_loaded_in_the_middle_of_a_step(found):
    equal, calls = found["reloaded"]
    assert equal and calls >= 2
    assert found["after the reload"]


def test_gradients_through_the_diffusion_model(found):
    assert max(found["model"]) < inside.ROUNDING
    assert max(found["model twice"]) < inside.ROUNDING
    assert found["attention"] == [True, True]


def test_what_gives_no_gradient_is_refused_by_name(found):
    assert "'model'" in found["quantised"] and "quantised" in found["quantised"]
    assert "'model'" in found["elsewhere"]


def test_one_frame_of_a_video_vae(found):
    assert found["wan messages"][0] == "" and "'latent_image'" in found["wan messages"][1]
    assert found["wan flat"] == 0
    shape, finite, moved = found["wan run"]
    assert shape == [2, 16, 1, 4, 4] and finite and moved > 0.05
    assert found["wan pictures"] == [[2, 32, 32, 3], [3]]


def test_the_latent_format_of_a_run(found):
    names = {name: chosen for name, (chosen, _) in found["chosen"].items()}
    assert names == {
        "4": "SD15",
        "SDXL": "SDXL",
        "SD3": "SD3",
        "Wan": "Wan21",
        "refiner": "HunyuanImage21Refiner",
        "tiny Flux 2": "Flux2",
        "x4": "SD_X4",
        "Wan 2.2": "Wan22",
    }
    assert [name for name, (_, note) in found["chosen"].items() if note] == ["4"]


def test_unknown_or_mixed_families_are_refused(found):
    refused = found["refused"]
    assert all("'model'" in refused[name] for name in ("16", "128", "families", "factor"))
    assert all("'vae'" in refused[name] for name in ("families", "factor", "prior"))
    assert "'prior'" in refused["prior"]
