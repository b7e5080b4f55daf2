"""What a server that runs for days meets."""

import os
import re
import signal
from pathlib import Path

import pytest
import torch

from comfyui import inside
from comfyui.conftest import Demo, queue_until
from scripts.environment import find_comfyui
from scripts.server import PromptError, Server


def method(**changes) -> Demo:
    graph = Demo()
    graph.optimise(**{"steps": 2, **changes})
    return graph


def resident(server) -> int:
    """Memory of the server's process in kB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{server.process.pid}/status").read_text())[1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_twenty_runs_in_a_row_leave_memory_flat(server):
    for seed in range(6):
        server.run(method(seed=1000 + seed))
    before = resident(server)
    for seed in range(20):
        server.run(method(seed=2000 + seed))
    assert resident(server) < 1.02 * before


def test_two_graphs_queued_at_once_do_not_meet(server, latents):
    alone = [latents(method(seed=seed))["run"] for seed in (31, 32)]
    server.post("/free", {"unload_models": True, "free_memory": True})
    queued = [server.queue(method(seed=seed)) for seed in (32, 31)]
    for prompt_id in queued:
        server.wait(prompt_id)
    again = [latents(method(seed=seed))["run"] for seed in (31, 32)]
    for a, b in zip(alone, again, strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_a_killed_server_starts_clean(tmp_path):
    comfyui = find_comfyui()
    with Server(comfyui, tmp_path) as first:
        graph = Demo()
        optimizer = graph.optimise(steps=5000)[0][0]
        queue_until(first, graph, optimizer)
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
    with Server(comfyui, tmp_path) as second:
        assert second.get("/queue") == {"queue_running": [], "queue_pending": []}
        assert second.run(method())


def test_cancelling_over_http_leaves_the_next_run_right(server, latents):
    """Whatever stage it hits; each stage for itself is in test_cancelling.py."""
    before = latents(method(seed=41))["run"]
    graph = Demo()
    optimizer = graph.optimise(steps=3000, seed=42)[0][0]
    prompt_id = queue_until(server, graph, optimizer)
    server.post("/interrupt", {})
    with pytest.raises(PromptError, match="interrupted"):
        server.wait(prompt_id, 30)
    assert torch.equal(latents(method(seed=41))["run"], before)


def test_out_of_memory_says_where_and_what_to_lower():
    found = inside.run("out_of_memory")
    assert "VAE" in found["vae"] and "smaller" in found["vae"]
    assert "'model'" in found["model"] and "smaller" in found["model"]
    assert found["after"]
