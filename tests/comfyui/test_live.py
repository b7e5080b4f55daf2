"""Status line, rows and kept runs, from steps made by hand, inside ComfyUI."""

import pytest

from comfyui.inside import run


@pytest.fixture(scope="module")
def found() -> dict:
    return run("live")


def test_the_status_line(found):
    node, text = found["status"]
    assert node == "12:3"
    assert text.startswith("step 1/10 · match 0.94 · loss 1.20 · restart in 37 · 0:") and text.endswith(" left")


def test_the_status_line_tells_when_memory_ran_out(found):
    text = found["less memory"]
    assert text.startswith("step 10/10 · loss 1.00 · ") and "memory ran out, 2 views at a time" in text


def test_the_closing_line_is_of_the_best_image(found):
    assert found["closing"] == ["12:3", "done in 0:00 · match 0.25 · loss 0.50 · best of 3: image 2"]


def test_a_run_is_kept_with_rows_status_and_picture(found):
    (kept,) = found["kept"]
    assert {name: kept[name] for name in ("workflow", "node", "steps", "status")} == {
        "workflow": "mine", "node": "12:3", "steps": 10, "status": found["closing"][1]
    }  # fmt: skip
    assert kept["picture"].startswith("data:image/jpeg;base64,") and len(kept["picture"]) < 20_000
    norms = {"gradient norm": {"referee": 2.0}}
    assert kept["rows"] == found["sent rows"] == [
        {"step": 0, "marked": False, "scalars": {"loss": {"loss": 5.102}} | norms},
        {"step": 1, "marked": False, "scalars": {"loss": {"loss": 1.0}} | norms},
        {"step": 9, "marked": True, "scalars": {"loss": {"loss": 3.0}} | norms},
        {"step": 9, "marked": False, "scalars": {"loss": {}} | norms},
    ]  # fmt: skip


def test_runs_go_to_the_page_that_asked_and_to_who_names_the_graph(found):
    assert found["to"] == ["page"] and found["unnamed"] == []


def test_a_graph_without_a_name_and_a_node_called_by_another_node_run(found):
    assert found["graphs without a name"] == [""]
    assert found["called"] == [[], []]


def test_hours_are_told_as_hours(found):
    assert found["hours"] == ["0:05", "1:05", "1:00:00", "2:01:05"]


def test_long_and_many_runs_are_bounded(found):
    steps = [row["step"] for row in found["long"]]
    assert [row["step"] for row in found["long"] if row["marked"]] == list(range(36, 10000, 37))
    plain = [row["step"] for row in found["long"][:-1] if not row["marked"]]
    assert steps == sorted(set(steps)) and steps[-1] == 9999
    gaps = {b - a for a, b in zip(plain, plain[1:], strict=False)}
    assert gaps <= {16, 32}, "evenly thin; a marked one may lie between"
    assert found["many"] == [str(i) for i in range(68, 100)]
