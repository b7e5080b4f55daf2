"""What a block for gradients leaves alone: blocks in the middle of blocks, attention of other packs, patches that keep
their state, devices, a process without a server."""

import pytest

from comfyui import inside


@pytest.fixture(scope="module")
def found() -> dict:
    return inside.run("blocks")


def test_a_block_inside_a_suspended_one_leaves_it_suspended(found):
    assert found["outer stands in"] and found["suspended"] and found["inner is back"] and found["still suspended"]
    assert found["outer is back"]


def test_what_comfyui_does_to_a_model_meanwhile_stays(found):
    assert found["kept"] == ["torch.float16", 0]


def test_kernels_without_a_backward_pass_are_left_for_the_time_of_the_block(found):
    assert max(found["gradients"]) < inside.ROUNDING and found["put back"]


def test_a_missing_gradient_is_named(found):
    assert "No gradient passes through the VAE" in found["named"] and "attention" in found["named"]


def test_a_patch_can_keep_its_state(found):
    forgot, *kept = found["calls"]
    assert forgot == 0 and kept == [4, 4]


def test_another_card_is_not_the_same_place(found):
    assert found["whole"] == [True, True, False] and found["elsewhere"] == [False, False]


def test_a_script_without_a_server_runs_a_node(found):
    assert not found["server"] and found["script"] == [1, 128, 128, 3]


def test_an_image_without_a_finite_loss_takes_the_best_step_from_no_other(found):
    assert found["rows"] == [True, True, True]


def test_the_default_format_of_numbers_does_not_matter(found):
    assert found["default dtype"] == 0
