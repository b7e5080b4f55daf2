"""Referee from CLIP: a Qwen3-VL as ComfyUI holds it, against transformers' own class with the same weights."""

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
        ("text", "it reads text only"),
        ("no head", "its answers are gibberish"),
        ("cut", "it is cut off"),
        ("flux", "it sees no pictures as loaded here"),
    ],
)
def test_what_cannot_judge_is_refused(found, case, words):
    assert words in found["refused"][case] and "qwen3vl_4b" in found["refused"][case]


def test_an_empty_text_is_refused(found):
    assert "text for the referee is empty" in found["empty"]
