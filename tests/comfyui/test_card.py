"""ComfyUI's memory management on a card of main memory: too small for the diffusion model, or for anything at all."""

import pytest

from comfyui import inside

pytestmark = [inside.NEEDS_CARD, pytest.mark.slow]
STATES = ("NORMAL_VRAM", "LOW_VRAM", "NO_VRAM")


@pytest.fixture(scope="module")
def found():
    return inside.run("short_of_memory")


@pytest.mark.parametrize("model", ["plain", "lora"])
@pytest.mark.parametrize("state", STATES)
def test_a_diffusion_model_loaded_in_part_gives_the_same_latent(found, state, model):
    run = found[f"{state} {model}"]
    assert run["loaded"][2] < run["sizes"][2] and run["cast"] > 0
    assert (run["patches"] > 0) == (model == "lora")
    assert found["lora acts"] > 1e-2
    assert run["off"] < inside.ROUNDING


@pytest.mark.parametrize("state", STATES)
def test_it_makes_room_for_what_gradients_pass_through(found, state):
    run = found[f"{state} plain"]
    assert run["whole"] == [True, True]
    assert run["free"] >= run["needed"]


@pytest.mark.parametrize("stage", ["vae", "referee"])
def test_what_fits_by_no_means_is_named(found, stage):
    message = found[f"no room for {stage}"]
    assert "Memory ran out in loading" in message and "smaller precision" in message


def test_a_run_that_did_not_fit_leaves_nothing_behind(found):
    assert found["after"]["equal"]


def test_every_part_of_the_method_runs_on_a_card(found):
    assert found["every part"] and found["alone"]
