"""Nodes that another node makes and calls, without a graph and without hidden inputs; and the checks they share."""

import pytest

from comfyui import inside


@pytest.fixture(scope="module")
def found():
    return inside.run("called_by_nodes")


@pytest.mark.parametrize("prepared", ["False", "True"])
def test_nodes_can_be_called_by_other_nodes(found, prepared):
    text, best, shape = found[prepared]
    assert text == "a red circle"
    assert best == pytest.approx(found["plain"], abs=1e-4)
    assert shape == [1, 64, 64, 3]


def test_titles_are_found_inside_subgraphs_too(found):
    assert found["titles"] == {"6": "Mine", "7": "", "5:2": "Inner", "5:9": "", "6:2": "", "None": ""}


def test_bad_inputs_are_named(found):
    errors = found["errors"]
    assert errors["good"] is None and errors["rgba"] is None
    assert "'latent_image'" in errors["finite"] and "image 2, 3 of 3" in errors["finite"]
    assert "'images'" in errors["mask"] and "[1, 8, 8]" in errors["mask"]
    assert "'images'" in errors["grey"] and "[1, 8, 8, 1]" in errors["grey"]
    assert "'images'" in errors["none"] and "no picture" in errors["none"]
