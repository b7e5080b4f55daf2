"""What a node says when its run fails or is refused is in the page's corner: ComfyUI says only which node it was."""

import pytest

from comfyui.browser.shown import TOAST, put_in_a_row

CLEAR = "() => app.graph.nodes[1].widgets.forEach(w => { if (w.name === 'text') w.value = '' })"


@pytest.mark.parametrize("kind", ["RefereeLoss", "RefereeStatements"])  # refused before the run, fails in it
def test_an_empty_text_is_said_in_words_until_the_next_run(any_editor, kind):
    page = any_editor.page
    put_in_a_row(any_editor, "RefereeDemoModels", kind, "PreviewAny")
    page.evaluate(CLEAR)
    toasts = page.locator(TOAST)
    for _ in range(2):
        toasts.evaluate_all("all => all.forEach(toast => { toast.dataset.earlier = '' })")
        page.evaluate("app.queuePrompt(0)")
        page.locator(f"{TOAST}:not([data-earlier])").wait_for(timeout=20_000)
        page.locator(f"{TOAST}[data-earlier]").wait_for(state="detached")
        (said,) = toasts.all_inner_texts()
        assert "The input 'text' is empty: write what the picture should show." in said
