"""Optimize Prompt, its files, and Train Prompt Tokens, inside ComfyUI."""

import pytest
import torch
from safetensors.torch import save_file

from comfyui import inside


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompts")
    other, broken = folder / "other.safetensors", folder / "broken.safetensors"
    save_file({"prefix": torch.zeros(2, 3)}, other)
    broken.write_bytes(b"not this")
    return inside.run("prompts", folder=str(folder / "new"), other=str(other), broken=str(broken))


def test_each_look_is_told_and_the_choice(found):
    first, plain, *looks, last = found["report"]
    assert first == "Pictures of other noises, of the prompt:" and plain.startswith("no tokens: match ")
    assert [line.split(":")[0] for line in looks] == ["after round 1", "after round 2"]
    matches = [float(line.split("match ")[1].split(",")[0]) for line in (plain, *looks)]
    if last.startswith("chosen: the tokens after round"):
        assert float(last.split("match ")[1].split(",")[0]) > matches[0]
    else:
        assert last == f"the plain prompt stays: none beat {plain.removeprefix('no tokens: ')}"


def test_the_same_seed_gives_the_same_and_the_model_stays(found):
    longer, plain, image, steps = found["shapes"]
    assert longer[1] in (plain[1], plain[1] + 6) and image == [2, 128, 128, 3] and steps == 2
    assert found["same again"] and found["weights"]


def test_its_history_can_be_plotted(found):
    assert found["plots"] == [3, 3] and "holds no gradients" in found["gradients"]


def test_the_pictures_of_a_look_are_those_of_ksampler(found):
    assert found["as KSampler"] < inside.ROUNDING < 0.1 < found["tokens move the picture"]


def test_areas_times_and_other_conditioning_stay(found):
    area, start, shapes = found["regions"]
    assert area == [8, 16, 0, 0] and start == 0.5 and shapes == [[1, 30, 128]] * 2
    assert found["combined"] and found["mask"] == [1, 30]


def test_no_tokens_are_the_plain_prompt(found):
    assert found["no tokens"]


def test_tokens_go_through_a_file(found):
    assert found["file"] == [True, "DemoModelConfig"]


@pytest.mark.parametrize(
    "case, words",
    [
        ("again", "mine.safetensors exists already"),
        ("nothing", "did better than the prompt alone"),
        ("family", "text encoder of Flux"),
        ("width", "768 numbers a token"),
        ("other file", "other.safetensors holds no tokens"),
        ("broken file", "broken.safetensors is no safetensors file"),
        ("no text", "'positive' holds no encoded text"),
        ("one prompt", "fewer than two different prompts"),
    ],
)
def test_mistakes_are_told(found, case, words):
    assert words in found["errors"][case]


def test_a_list_of_prompts(found):
    report, pictures, steps, attending = found["list"]
    assert report[0] == "Pictures of other noises, of 1 of 3 prompts, not learned from:"
    assert pictures == [2, 128, 128, 3] and steps == 2 and attending in (True, False)


@pytest.mark.parametrize("stage", ["first look", "sampling", "way back"])
def test_cancelling_stops_within_a_step_and_leaves_all_as_it_was(cancelled, stage):
    ended, more_calls, same, pending = cancelled[stage]
    assert ended == "InterruptProcessingException" and more_calls <= 2
    assert same and not pending


@pytest.fixture(scope="module")
def cancelled():
    return inside.run("prompts_cancelled")
