"""The methods on the models that people use: small instances of ComfyUI's own classes, with random weights."""

import pytest

from comfyui import inside
from scripts.environment import find_comfyui

NAMES = (
    "SD 1.5", "SD 2.1", "SDXL", "SD3", "Flux", "Flux.2", "Chroma", "Z-Image", "Qwen-Image", "Krea 2", "Wan 2.1",
)  # fmt: skip
SINGLE = ("Krea 2", "Wan 2.1")  # which compute, in part or as a whole, in single precision whatever they are given


@pytest.fixture(scope="module")
def slopes():
    return inside.run("model_slopes")


@pytest.fixture(scope="module")
def methods():
    return inside.run("model_methods")


def of(name: str, found: dict):
    """What was found for a kind of model; ComfyUI 0.30 and newer have them all."""
    if name not in found and inside.version(find_comfyui()) < (0, 30):
        pytest.skip("this ComfyUI is older than the model")
    return found[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_through_the_model_is_that_of_differences(slopes, name):
    expected, kept, twice, in_training = of(name, slopes)
    assert abs(expected) > 1
    assert kept == pytest.approx(expected, rel=1e-3 if name in SINGLE else 1e-4)
    assert twice == pytest.approx(kept, rel=1e-5 if name in SINGLE else 1e-10)
    assert not in_training


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_guidance_search_and_optimizer_run(methods, name):
    made = of(name, methods)
    for gradient in ("prediction", "look-ahead"):
        finite, moved, guided = made[gradient]
        assert finite and moved > 1e-3 and guided == 2
    assert made["plain again"]
    same, match = made["search"]
    assert same and 0 <= match <= 1
    finite, spread = made["optimizer"]
    assert finite and spread > 0.1


@pytest.fixture(scope="module")
def prompts():
    return inside.run("model_prompts")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_prompts_are_learned(prompts, name):
    """Tokens stand around any text stream; a gradient reaches them; model and prompt stay."""
    made = of(name, prompts)
    before, after, about_stays = made["shapes"]
    assert after[0] == before[0] and after[2] == before[2] and after[1] - before[1] in (0, 6) and about_stays
    assert len(made["norms"]) == 2 and min(made["norms"]) > 0
    assert made["finite"] and made["same"] and made["moved"] > 0
    assert made["report"][1].startswith("no tokens") and len(made["report"]) == 5


@pytest.fixture(scope="module")
def restored():
    return inside.run("model_restore")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_restored(restored, name):
    """Each preset runs, moves the result away from plain sampling, and leaves the model as it was."""
    made = of(name, restored)
    assert len(made["presets"]) == 6
    for preset, (finite, moved, same_shape) in made["presets"].items():
        assert finite and same_shape and moved > 1e-3, preset
    assert made["guess"] and made["plain again"]
