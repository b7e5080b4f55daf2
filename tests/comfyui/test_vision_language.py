"""Referee from CLIP: a Qwen3-VL, Qwen3.5, Gemma 3 or Gemma 4 as ComfyUI holds it, against transformers' class with
the same weights."""

import math

import pytest

from comfyui import inside


@pytest.fixture(scope="module")
def found():
    return inside.run("vision_language")


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_probability_and_gradient_are_those_of_transformers(found, kind):
    loss_off, slope_off, slopes = found[kind]
    assert loss_off < 1e-4 and slope_off < 1e-4 and min(slopes) > 1e-6


def test_scores_are_the_probability_of_yes(found):
    matches, losses, totals, report = found["scores"]
    for match, loss, total in zip(matches, losses, totals, strict=True):
        assert match == pytest.approx(math.exp(-loss), rel=1e-4) and total == pytest.approx(loss, rel=1e-4)
    assert len(report) == 2 and "match" in report[0] and "yes" in report[0]
    match, loss = found["judged"]
    assert 0 < match < 1 and loss > 0


def test_referee_loss_says_what_its_weights_mean(found):
    assert found["said"] == ["itm_weight is the weight of its 'yes'"]


def test_asking_answers_yes_or_no(found):
    (decisions, answers, sure, report), strict, differs = found["asked"]
    matches = found["scores"][0]
    assert sure == pytest.approx(matches) and decisions == [m >= 0.5 for m in matches]
    assert answers == ["yes" if m >= 0.5 else "no" for m in matches]
    assert report.splitlines()[1] == f"image 2: {answers[1]} ({matches[1]:.2f})"
    assert strict == [m >= max(matches) for m in matches] and differs


@pytest.mark.parametrize(
    "case, words",
    [
        ("qwen3-vl as flux2", "choose the type krea2 or qwen_image"),
        ("qwen3-vl as flux", "choose the type krea2 or qwen_image"),
        ("klein", "loads only the part that reads text"),
        ("qwen3-4b", "it reads text only"),
        ("minimax", "it is cut off"),
        ("mistral", "Mistral reads text only"),
        ("pruned mistral", "the pruned file without its last layers"),
        ("qwen2.5-vl", "its answers are gibberish"),
        ("gemma 2", "it reads text only"),
        ("gemma 3 without eyes", "it reads text only"),
        ("t5gemma", "only encodes text"),
        ("t5", "only encodes text"),
        ("clip-l", "only encodes text"),
        ("sdxl", "only encodes text"),
    ],
)
def test_what_cannot_judge_is_refused(found, case, words):
    assert words in found["refused"][case] and "qwen3vl_4b" in found["refused"][case]


def test_every_gemma_with_eyes_is_found_and_asked_in_its_own_words(found):
    turns = {name: "<start_of_turn>" in template for name, template in found["gemmas"].items()}
    assert turns == {name: not name.startswith("gemma 4 ") for name in turns} and len(turns) == 6
    thoughts = [name for name, template in found["gemmas"].items() if template.endswith("thought\n<channel|>")]
    assert thoughts == ["gemma 4 12b", "gemma 4 31b"]


ROUNDED = 1e-4
"""Of losses and slopes in single precision, summed in another order."""


@pytest.mark.parametrize("kind", ["True", "False"])
def test_questions_asked_together_are_answered_as_each_alone_in_one_reading(found, kind):
    loss_off, slope_off, readings = found[f"together {kind}"]
    assert loss_off < ROUNDED and slope_off < ROUNDED and readings == 1


def test_gemmas_pixels_are_comfyuis_before_they_are_rounded(found):
    half_a_step = 2 * 0.5 / 255  # from -1 to 1
    assert len(found["pixels"]) == 3 and all(0 < off < 1.01 * half_a_step for off in found["pixels"].values())


def test_every_other_type_of_a_qwen3_vl_gives_the_same_answer(found):
    first, *others = found["taken"].values()
    assert len(others) == 5 and all(other == pytest.approx(first, rel=1e-5) for other in others)


def test_a_write_with_out_has_the_gradient_of_the_sum(found):
    assert found["out"] == [True, True, [6.0, 6.0, 6.0]]


def test_rotary_embeddings_have_their_gradient_and_the_kernel_comes_back(found):
    off, back = found["rope"]
    assert off < 1e-6 and back


def test_a_file_without_weights_for_pictures_is_refused_at_its_first_look(found):
    assert "sees nothing in a picture" in found["blind"] and "GGUF" in found["blind"]


def test_an_empty_text_is_refused(found):
    assert "text for the referee is empty" in found["empty"]


@pytest.fixture(scope="module")
def quantised():
    return inside.run("vision_language_quantised")


# A weight of float8_e4m3fn is off by at most 2^-4 of itself, by 2.6 % in the root mean square. The 21 layers of the
# small model in a row add that up to sqrt(21) * 2.6 % = 12 % of a log-odds, whose slope is a quarter: 0.03 for log-odds
# of 1, and twice that is allowed. The slope passes them forth and back, 17 %, about 10 degrees; random layers, of
# whatever width, do not average it out: 6 and 13 were measured. int8 is off by 1 % of a typical weight, and so are the
# numbers that are multiplied by it.
@pytest.mark.slow
@pytest.mark.parametrize(
    "form, loss_off, slope_off, probability_off, degrees",
    [("float8_e4m3fn", 1e-4, 1e-4, 0.06, 15), ("int8_tensorwise", 0.02, 0.07, 0.02, 5)],
)
def test_a_quantised_model_judges_as_its_weights_say(quantised, form, loss_off, slope_off, probability_off, degrees):
    found = quantised[form]
    assert found["quantised"] == 22 and found["same weights after"]
    assert found["off"][0] < loss_off and found["off"][1] < slope_off  # from the values that the file stands for
    assert found["probability off"] < probability_off and max(found["degrees off"]) < degrees  # from the unquantised


@pytest.mark.slow
def test_a_qwen35_judges_as_in_transformers():
    found = inside.run("vision_language_qwen35")
    assert max(found["off"]) < 1e-4 and min(found["slopes"]) > 1e-6 and found["as it was"]
    assert found["together"] == [0.0, 0.0, 3]  # its layers remember what they read: one question at a time
    assert isinstance(found["written"], str)
    assert found["bytes"] > 15e6  # what the three linear layers alone were seen to keep


@pytest.mark.slow
def test_a_gemma_3_judges_as_in_transformers():
    found = inside.run("vision_language_gemma")
    assert found["off"].keys() == {"ltx", "12b", "4b"} and found["hooks"] == 0 and found["side"] == 96
    assert all(loss_off < 1e-4 and slope_off < 1e-4 for loss_off, slope_off in found["off"].values())
    assert min(found["slopes"]) > 1e-6
    assert max(found["together"][:2]) < ROUNDED and found["together"][2] == 1
    assert found["written"] == dict.fromkeys(("ltx", "12b", "4b"), "3 tokens")
    assert found["off as ComfyUI masks"] > 1e-3  # what the tokens of a picture that see all of it make of it


@pytest.mark.slow
def test_a_gemma_4_judges_as_in_transformers():
    found = inside.run("vision_language_gemma4")
    assert found["off"].keys() == found["written"].keys() == {"small", "large", "unified"} and found["hooks"] == 0
    for kind, (loss_off, slope_off) in found["off"].items():
        assert loss_off < 1e-4 and slope_off < 1e-4 and min(found["slopes"][kind]) > 1e-6, kind
        assert max(found["together"][kind][:2]) < ROUNDED and found["together"][kind][2] == 1, kind
        assert found["side"][kind] == 96, "116 pixels were asked for; it reads multiples of 48"


@pytest.mark.slow
def test_the_estimate_of_memory_is_near_what_is_kept():
    found = inside.run("vision_language_memory")
    assert len(found) == 18
    for case, (kept, estimate) in found.items():
        assert 0.7 < estimate / kept < 1.6, case
