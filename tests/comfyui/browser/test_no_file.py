"""A server without any model: its folders are there, and the nodes say what to download and where to put it."""

import pytest

from comfyui.browser.conftest import opened
from comfyui.browser.shown import TOAST, put_in_a_row
from scripts.environment import find_comfyui
from scripts.server import PromptError, Server

LOADER = ("RefereeLoader", "RefereeLoss", "PreviewAny")  # with what makes ComfyUI run it
NAME = "app.graph.nodes[0].widgets.find(w => w.name === 'referee_name')"


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    base, models = tmp_path_factory.mktemp("bare"), tmp_path_factory.mktemp("models")
    with Server(find_comfyui(), base, ("--cpu", "--models-directory", str(models))) as server:
        server.models = models
        yield server


@pytest.fixture
def bare_editor(browser, bare):
    with opened(browser, bare) as editor:
        yield editor


def test_the_folders_are_made(bare):
    assert {"referee", "referee_prompts"} <= {path.name for path in bare.models.iterdir()}


@pytest.mark.slow
def test_a_models_folder_that_cannot_be_written_is_left_alone(tmp_path):
    with Server(find_comfyui(), tmp_path, ("--cpu", "--models-directory", "/proc")) as server:
        assert "RefereeLoader" in server.get("/object_info/RefereeLoader")
        assert "IMPORT FAILED" not in server.log and "/proc/referee" not in server.log


@pytest.mark.parametrize("kinds", [LOADER, pytest.param(("RefereeConvert",), marks=pytest.mark.slow)], ids=str)
def test_the_node_says_so_and_the_run_says_what_to_do(bare_editor, bare, kinds):
    put_in_a_row(bare_editor, *kinds)
    page = bare_editor.page
    assert page.evaluate(f"{NAME}.value") == "models/referee is empty: see (i)"
    assert page.evaluate(f"{NAME}.options.values.length") == 1
    bare_editor.queue()
    bare_editor.wait()
    for part in (
        "Download model.safetensors (4.7 GB) from https://huggingface.co/Salesforce/blip2-itm-vit-g",
        f"put it into {bare.models / 'referee'}",
        "Load Demo Models needs no file",
    ):
        assert page.locator(TOAST, has_text=part).is_visible()


@pytest.mark.slow
def test_load_prompt_tokens_says_so_too(bare_editor, bare):
    put_in_a_row(bare_editor, "RefereeLoadPrompt", "RefereeSavePrompt")
    name = NAME.replace("referee_name", "prompt_name")
    assert bare_editor.page.evaluate(f"{name}.value") == "models/referee_prompts is empty"
    bare_editor.queue()
    bare_editor.wait()
    assert bare_editor.page.locator(TOAST, has_text="Learn tokens with Optimize Prompt").is_visible()


@pytest.mark.slow
def test_a_file_that_is_put_there_can_be_chosen(bare_editor, bare):
    put_in_a_row(bare_editor, *LOADER)
    file = bare.models / "referee" / "model.safetensors"
    file.write_bytes(b"")
    try:
        bare_editor.page.evaluate("app.refreshComboInNodes()")
        assert bare_editor.page.evaluate(f"{NAME}.options.values") == [file.name]
    finally:
        file.unlink()


def test_a_name_that_is_missing_is_still_comfyuis_to_report(bare_editor, bare):
    put_in_a_row(bare_editor, *LOADER)
    bare_editor.page.evaluate(f"() => {{ {NAME}.value = 'model.safetensors' }}")
    with pytest.raises(PromptError) as error:
        bare.queue(bare_editor.sent())
    ((found,),) = (node["errors"] for node in error.value.details["node_errors"].values())
    assert (found["type"], found["extra_info"]["input_name"]) == ("value_not_in_list", "referee_name")
