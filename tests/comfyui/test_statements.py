"""Referee Loss per Statement: what it asks, and the verdict on each part."""

import re

import pytest

from comfyui import inside
from comfyui.conftest import PROMPT, Demo, watch
from comfyui.test_score import numbers
from comfyui.test_search import Searched


@pytest.mark.parametrize(
    "own, parts", [("", ["a red circle", "a blue square"]), ("a cross\n\na dot ", ["a cross", "a dot"])]
)
def test_a_loss_per_statement_is_the_mean_of_its_parts_and_the_worst(server, own, parts):
    graph = Demo()
    loss, asked, *_ = graph.add(
        "RefereeStatements", referee=graph.referee, text=PROMPT, statements=own, worst_weight=0.5
    )
    image = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0x0000FF)[0]
    single = [
        graph.add("RefereeLoss", referee=graph.referee, text=part, itm_weight=1.0, caption_weight=0.0)[0]
        for part in parts
    ]
    reports = [graph.add("RefereeScore", images=image, loss=one, keep=0)[4] for one in (loss, *single)]
    shown = [graph.add("PreviewAny", source=source)[0][0] for source in (asked, *reports)]
    outputs = server.run(graph)
    statements, whole, *each = (outputs[node]["text"][0].splitlines() for node in shown)
    assert statements == parts and whole[1:] == [f"text {i}: {part}" for i, part in enumerate(parts, 1)]
    whole, first, second = (numbers(row[0]) for row in (whole, *each))
    mean, worst = (first["loss"] + second["loss"]) / 2, max(first["loss"], second["loss"])
    assert whole["loss"] == pytest.approx(mean + 0.5 * worst, abs=2e-3)
    assert [whole["text 1 match"], whole["text 2 match"]] == [first["match"], second["match"]]


def test_it_says_which_statement_the_best_picture_disobeys(server):
    graph = Searched(steps=3)
    asked = {"referee": graph.referee, "text": PROMPT, "statements": "", "worst_weight": 1.0}
    graph.search(loss=graph.add("RefereeStatements", **asked)[0], attempts=2, keep=1)
    shown = watch(server, graph)["texts"]
    assert any(text.startswith("a red circle\na blue square\nThe demo's referee") for text in shown)
    match = re.search(
        r"match ([\d.]+) \(seed \d+\).*\na red circle ([\d.]+) · a blue square ([\d.]+)$", shown[-1], re.S
    )
    assert match and match[1] == min(match[2], match[3])


def test_a_language_model_finds_the_statements_in_place_of_the_rules():
    found = inside.run("statements_by_model")
    statements = "deux cercles rouges\nune étoile\ndeux cercles rouges à gauche d'une étoile"
    assert found["by model"] == found["again"] == [statements, statements]
    assert found["by rules"][0] == "deux cercles rouges à gauche d'une étoile" and found["own lines"][0] == "a cat"
    assert found["no answer"][1].endswith("found no statements: these are the rules'.")
    assert "cannot split a text: it only encodes text" in found["refused"]
