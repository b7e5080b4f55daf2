"""A prompt as statements."""

import pytest

from referee_core.statements import read_answer, read_lines, split_statements


@pytest.mark.parametrize(
    "text, statements",
    [
        ("three blue circles", ["three blue circles"]),
        ("a red circle and a blue square", ["a red circle", "a blue square"]),
        ("a cross, a red circle, and two blue squares", ["a cross", "a red circle", "two blue squares"]),
        ("a cat to the left of a dog", ["a cat", "a dog", "a cat to the left of a dog"]),
        ("The cat is above the dog.", ["The cat", "the dog", "The cat is above the dog"]),
        ("A cat on a mat. It rains.", ["A cat", "a mat", "A cat on a mat", "It rains"]),
        ("a cat on the left and a dog on the right", ["a cat on the left", "a dog on the right"]),
        ("a black and white photo of a dog", ["a black and white photo of a dog"]),
        ("a horse, in the style of Van Gogh", ["a horse, in the style of Van Gogh"]),
        ("a cat; a cat", ["a cat"]),
        ("  . ", []),
    ],
)
def test_rules_split_a_prompt_at_its_things_and_places(text, statements):
    assert split_statements(text) == statements


def test_written_lines_are_taken_as_they_are():
    assert read_lines("a cat and a dog\n\n  a mat \na mat") == ["a cat and a dog", "a mat"]


@pytest.mark.parametrize(
    "answer, statements",
    [
        ("a red circle\na blue square<|im_end|>", ["a red circle", "a blue square"]),
        (
            "Statements:\n1. a red circle\n2) a red circle\n- 3 stars\n\u2022 a 2 euro coin",
            ["a red circle", "3 stars", "a 2 euro coin"],
        ),
        ("<think>\na circle?\n</think>\n\na circle\n<end_of_turn>", ["a circle"]),
        ("<think>\n\n</think>\n", []),
        (" \n", []),
    ],
)
def test_a_models_answer_is_read_line_by_line(answer, statements):
    assert read_answer(answer) == statements
