"""The guided model at random noise levels: each image of a batch, each call and each patch as in a run of its own."""

import pytest

from comfyui import inside


@pytest.fixture(scope="module")
def batch():
    return inside.run("denoiser")


@pytest.mark.parametrize(
    "case",
    [
        "two ranges",
        "ControlNet percents",
        "a hint an image",
        "two hints for three images",
        "ControlNets in a row",
        "a T2I-Adapter hint an image",
        "conditioning an image",
        "a mask an image",
        "a guider's own list",
    ],
)
def test_an_image_sees_what_it_would_see_in_a_call_of_the_whole_batch_at_its_level(batch, case):
    off, _, apart = batch[case]
    assert off < inside.ROUNDING
    assert apart > 0.1, "the images differ"
    if case in ("two ranges", "ControlNet percents"):
        assert batch[case][1] > 0.1, "one call of all images is wrong"


@pytest.fixture(scope="module")
def samplings():
    return inside.run("ways_of_sampling")


IMAGE_TO_IMAGE = ["IMG_TO_IMG", "IMG_TO_IMG_FLOW", "discrete img_to_img", "discrete img_to_img_flow"]


NAMES = [
    "EPS", "V_PREDICTION", "V_PREDICTION_EDM", "STABLE_CASCADE", "EDM", "FLOW", "V_PREDICTION_CONTINUOUS", "FLUX",
    "FLOW_COSMOS", "V_PREDICTION_DDPM", "discrete eps", "discrete v_prediction", "discrete lcm", "discrete x0",
    "EDM v_prediction", "EDM edm", "EDM edm_playground_v2.5", "EDM eps", "EDM cosmos_rflow", "continuous v", "cascade",
    "SD3 shift", "AuraFlow shift", "Flux shift", "noise scale 8",
]  # fmt: skip
NEWER = ["FLOW_AV"]  # not in every version


def test_every_way_of_sampling_is_looked_at(samplings):
    assert sorted(set(samplings) - set(NEWER)) == sorted(NAMES + IMAGE_TO_IMAGE)


@pytest.mark.parametrize("name", NAMES + NEWER)
def test_score_distillation_pulls_by_the_error_in_the_noise(samplings, name):
    """In ComfyUI's own scaling of x, at the level that ComfyUI means: by eps_hat - eps, 0 for a model that is right."""
    if name not in samplings:
        pytest.skip("a newer version of ComfyUI has it")
    seen = samplings[name]
    assert seen["right"] < 1e-3 and seen["wrong"] < 1e-3
    assert seen["x"] < 1e-6
    assert seen["levels"] == pytest.approx(seen["expected"], rel=1e-5)


@pytest.mark.parametrize("name", IMAGE_TO_IMAGE)
def test_image_to_image_models_are_refused(samplings, name):
    assert "'model' turns one image into another" in samplings[name]["error"]
