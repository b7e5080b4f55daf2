"""Search inside ComfyUI, without a server: batches, giving up, cancelling, memory that runs out."""

import pytest

from comfyui import inside


@pytest.fixture(scope="module")
def batches():
    return inside.run("search_batches")


@pytest.fixture(scope="module")
def looks():
    return inside.run("search_looks")


@pytest.fixture(scope="module")
def cancelled():
    return inside.run("search_cancelled")


def test_in_a_batch_each_attempt_gets_the_noise_it_gets_alone(batches):
    in_batches = {name: run for name, run in batches["samplers"].items() if run[0] == [2]}
    assert set(batches["samplers"]) - set(in_batches) == {"dpm_fast"}
    for name, (_, off, apart) in in_batches.items():
        assert off < 1e-2 < 0.1 < apart, name


def test_what_would_differ_in_a_batch_goes_alone(batches):
    groups, off, _ = batches["samplers"]["dpm_fast"]
    assert groups == [1, 1] and off == 0
    assert all(batches["apart"].values()), batches["apart"]
    assert not any(batches["together"].values()), batches["together"]
    assert batches["note"] == [
        "one at a time: with this sampler, conditioning or patches of the model a batch could change each attempt"
    ]


def test_comfyuis_noise_is_put_back(batches):
    assert batches["put back"]


def test_how_many_go_together(batches):
    assert batches["doubling"] == [[1, 1, 2, 3, 2], [4, 4, 1], [5, 4], [1] * 9, [9]]


def test_what_is_given_up_costs_no_further_step(looks):
    given_up = sum(verdict is None for _, verdict in looks["pruned"])
    assert 0 < given_up < 5 and looks["calls"] == 6 * 5 - 3 * given_up
    assert sum("given up after step 3 of 6, predicted loss" in line for line in looks["report"]) == given_up


def test_a_look_on_the_way_changes_nothing_in_what_goes_on(looks):
    assert looks["same"] == [True] * 5
    assert [a for a, _ in looks["full"]] == [a for a, _ in looks["pruned"]]
    for (_, full), (_, verdict) in zip(looks["full"], looks["pruned"], strict=True):
        assert verdict in (None, full)


def test_the_predicted_picture_is_what_the_sampler_predicts_in_that_step(looks):
    assert looks["full"][0][0] == pytest.approx(looks["by hand"], rel=1e-5)


def test_a_look_into_referee_can_play_changes_nothing(looks):
    assert looks["method"] == [True] * 3
    assert len(set(looks["method predicted"])) == 3


def test_what_is_left_of_a_larger_batch_changes_no_attempt(looks):
    same, (note,) = looks["rows"]
    assert same == [True, True] and "'batch_index'" in note and "'noise_mask'" in note
    assert looks["kept"] == [["noise_mask", "samples"], [1, 1, 8, 8]]


def test_a_sampler_with_more_steps_than_levels(looks):
    assert looks["twice"] == [[0.25, 0.5, 0.75, 1.0] * 2, [4, 4]]


@pytest.mark.parametrize("stage", ["sampling", "decoding", "judging", "judging a prediction"])
def test_cancel_acts_in_each_stage(cancelled, stage):
    ended, calls, pending = cancelled[stage]
    assert ended == "InterruptProcessingException" and not pending
    assert calls <= (1 if stage == "judging a prediction" else 2) + (stage == "sampling")


def test_the_run_after_a_cancelled_one_is_the_same(cancelled):
    assert cancelled["next"] == 0
