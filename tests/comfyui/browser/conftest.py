"""The pack in a real browser: headless Chromium on ComfyUI with the installed frontend, and with others."""

import os
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.environment import find_comfyui
from scripts.make_screenshots import FLAGS, QUIET, READY, chromium
from scripts.server import Server

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright")

FRONTENDS = [Path(p) for p in os.environ.get("REFEREE_FRONTENDS", "").split(os.pathsep) if p]
"""Folders "static" of other versions of the package comfyui-frontend-package, unpacked."""


class Editor:
    """ComfyUI's editor, empty; ``errors`` collects what goes wrong in the pack's own script."""

    def __init__(self, browser, server: Server):
        self.server, self.errors = server, []
        self.page = browser.new_page(viewport={"width": 1800, "height": 1200})
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._hear)
        for name, value in QUIET.items():
            server.post(f"/settings/{name}", value)
        self.page.goto(server.url)
        self._wait()

    def _hear(self, message) -> None:
        refused = message.text.startswith("PromptExecutionError")  # by the server; the pack's script only hands it on
        if message.type == "error" and "eferee" in message.text and not refused:
            self.errors.append(message.text)

    def _wait(self) -> None:
        self.page.wait_for_function(f"!!({READY})", timeout=90_000)
        self.page.wait_for_timeout(1000)

    def reload(self) -> None:
        self.page.reload()
        self._wait()

    def load(self, workflow: dict) -> None:
        self.page.evaluate("w => app.loadGraphData(w)", workflow)
        self.page.wait_for_function("n => app.graph.nodes.length === n", arg=len(workflow["nodes"]))
        self.page.wait_for_timeout(500)

    def template(self, name: str) -> None:
        """Find a bundled graph by its name in the templates dialog, and open it by a click."""
        self.page.evaluate("() => { window.before = app.graph.nodes[0] }")
        self.page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
        self.page.get_by_text("ComfyUI-Referee", exact=True).first.click()
        self.page.locator('input[placeholder^="Search"]').last.fill(name)
        self.page.locator(f'[data-testid="template-workflow-{name}"]').first.click()
        self.page.wait_for_function("app.graph.nodes.length && app.graph.nodes[0] !== window.before")
        self.page.wait_for_timeout(1500)

    def sent(self) -> dict:
        """The prompt that Queue would send."""
        return self.page.evaluate("async () => JSON.parse(JSON.stringify((await app.graphToPrompt()).output))")

    def queue(self) -> None:
        self.before = self.server.get("/history")
        self.page.evaluate("app.queuePrompt(0)")

    def wait(self) -> dict:
        """Until what was queued has ended; its entry in the history."""
        end = time.monotonic() + 600
        while len(after := self.server.get("/history")) == len(self.before):
            assert time.monotonic() < end, "the run did not end"
            self.page.wait_for_timeout(300)
        self.page.wait_for_timeout(1000)
        (entry,) = (after[key] for key in after.keys() - self.before.keys())
        return entry

    def run(self) -> dict:
        """Queue the graph and wait for its success; its entry in the history."""
        self.queue()
        entry = self.wait()
        failed = dict(entry["status"]["messages"]).get("execution_error")
        assert failed is None, failed["exception_message"]
        return entry


@pytest.fixture(scope="package")
def browser():
    if chromium() is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def opened(browser, server: Server):
    """An editor, closed in the end; nothing may have gone wrong in the pack's own script."""
    editor = Editor(browser, server)
    yield editor
    editor.page.close()
    assert editor.errors == []


@pytest.fixture
def editor(browser, server):
    with opened(browser, server) as editor:
        yield editor


@pytest.fixture(scope="package", params=[None, *FRONTENDS], ids=lambda p: p.parents[1].name if p else "installed")
def any_server(request, tmp_path_factory):
    """A server with each frontend."""
    if request.param is None:
        yield request.getfixturevalue("server")
    else:
        flags = ("--cpu", "--front-end-root", str(request.param))
        with Server(find_comfyui(), tmp_path_factory.mktemp("frontend"), flags) as server:
            yield server


@pytest.fixture
def any_editor(browser, any_server):
    """The editor of each frontend."""
    with opened(browser, any_server) as editor:
        yield editor
