"""What is chosen where memory is short, and that the result stays the same. The card is a CPU that claims to be one."""

import pytest

from comfyui import inside


@pytest.fixture(scope="module")
def found():
    return inside.run("memory")


def test_views_at_a_time_follow_from_free_memory(found):
    assert found["plans"] == [[30, False], [15, False], [8, False], [30, True], [1, True], [1, True]]
    assert found["few"] == [[4, False], [4, True]]


def test_checkpointing_begins_where_memory_is_short_and_ends_with_the_run(found):
    assert found["cpu"] == [10, False, False]
    assert found["roomy"][:3] == [12, False, False]
    assert found["tight"][1:3] == [False, False] and 8 <= found["tight"][0] <= 12
    assert found["short"][1:3] == [True, True] and 1 <= found["short"][0] <= 3
    assert found["hopeless"][:3] == [1, True, True]


def test_the_result_does_not_depend_on_memory(found):
    for name in ("roomy", "tight", "short", "hopeless"):
        assert found[name][3] < 1e-2  # Adam makes a rounding error of a small gradient as large as the gradient


def test_the_users_number_of_views_is_kept(found):
    assert found["asked"][0] == 2
