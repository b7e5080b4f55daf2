"""What a node says when its run fails or is refused is in the page's corner: ComfyUI says only which node it was."""

import pytest

from comfyui.browser.shown import TOAST, put_in_a_row

CLEAR = "() => app.graph.nodes[1].widgets.forEach(w => { if (w.name === 'text') w.value = '' })"


@pytest.mark.parametrize("kind", ["RefereeLoss", "RefereeStatements"])  # refused before the run, fails in it
def test_an_empty_text_is_said_in_words_until_the_next_run(any_editor, kind):
    page = any_editor.page
    put_in_a_row(any_editor, "RefereeDemoModels", kind, "PreviewAny")
    page.evaluate(CLEAR)
    for _ in range(2):
        page.evaluate("app.queuePrompt(0)")
        page.wait_for_timeout(3000)
        (said,) = page.locator(TOAST).all_inner_texts()  # the earlier one is gone
        assert "The input 'text' is empty: write what the picture should show." in said
