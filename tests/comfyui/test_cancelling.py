"""Cancel is pressed inside each stage of a step: the run ends there, and nothing of it is left."""

import pytest

from comfyui import inside

pytestmark = pytest.mark.slow

STAGES = ("denoising", "decoding", "judging", "backward", "recomputing")  # the last: a checkpointed VAE, going back


@pytest.fixture(scope="module")
def found():
    return inside.run("cancelling", stages=STAGES)


@pytest.mark.parametrize("at", STAGES)
def test_no_further_step_is_begun(found, at):
    assert found[at]["ended"] == "InterruptProcessingException"
    assert found[at]["pressed"] == 1 and not found[at]["pending"]
    assert found[at]["steps"] <= 2
    assert found[at]["decodes"] == (1 if at == "denoising" else 2)


@pytest.mark.parametrize("at", STAGES)
def test_everything_is_put_back_and_the_next_run_is_the_same(found, at):
    assert found[at]["restored"]
    assert found[at]["next"]


@pytest.mark.parametrize("at", STAGES)
def test_nothing_of_the_cancelled_step_stays_in_memory(found, at):
    assert (found[at]["made"] > 0) == (at != "denoising")  # which comes first, before VAE and referee
    assert found[at]["alive"] == 0
