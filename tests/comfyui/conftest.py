"""A real ComfyUI process on the CPU, shared by the tests of this folder, and the graphs they run."""

import asyncio
import json
import os
import struct
import uuid
from pathlib import Path

import aiohttp
import pytest
from safetensors.torch import load_file

from scripts.environment import find_comfyui
from scripts.server import Graph, Server

TEXT, PICTURES = 3, (1, 4)  # binary events of ComfyUI's websocket
PROMPT = "a red circle and a blue square"
CUSTOM = {
    "preset": "custom", "preset__count": 3, "preset__keep": 0, "preset__rotation": 15.0, "preset__translation": 0.1,
    "preset__perspective": 0.2, "preset__colour": 0.05, "preset__erasing": 0.1, "preset__noise": 0.1,
    "preset__flip": False, "preset__crop": 0.0,
}  # fmt: skip
LOOP = {
    "preset": "paper",
    "w1": 2.0,
    "lr": 0.3,
    "lr_end": 0.15,
    "noise": 0.1,
    "tail": 1,
    "views_at_once": 10,
    "stop_at": 0.0,
    "patience": 0,
}


class Demo(Graph):
    """The demo's models and everything that a run of the method needs."""

    def __init__(self, text: str = PROMPT, size: int = 128, batch: int = 1):
        super().__init__()
        self.model, self.clip, self.vae, self.referee = self.add("RefereeDemoModels")[:4]
        self.positive = self.add("CLIPTextEncode", clip=self.clip, text=PROMPT)[0]
        self.negative = self.add("CLIPTextEncode", clip=self.clip, text="")[0]
        self.latent = self.add("EmptyLatentImage", width=size, height=size, batch_size=batch)[0]
        self.loss = self.add("RefereeLoss", referee=self.referee, text=text, itm_weight=1.0, caption_weight=1.0)[0]
        self.augmentation = self.add("RefereeAugmentation", **CUSTOM)[0]
        self.averaging = self.add("RefereeEMARestart", decay=0.5, start=2, interval=2)[0]
        self.prior = self.add(
            "RefereeSDSGuidance", model=self.model, positive=self.positive, negative=self.negative, cfg=10.0,
            weight=800.0, weight_end=400.0, schedule="cosine", t_min=50, t_max=949,
        )[0]  # fmt: skip

    def optimise(self, save_as: str | None = None, **changes) -> list:
        """A Referee Optimizer with every part plugged in; ``part=None`` leaves one out."""
        inputs = dict(
            vae=self.vae, latent_image=self.latent, loss=self.loss, prior=self.prior, augmentation=self.augmentation,
            averaging=self.averaging, seed=1, steps=4, result="last", record_every=2, **LOOP,
        )  # fmt: skip
        inputs = {k: v for k, v in (inputs | changes).items() if v is not None}
        outputs = self.add("RefereeOptimizer", **inputs)
        self.save(outputs[0], save_as or "run")
        return outputs

    def save(self, latent: list, name: str) -> None:
        self.add("SaveLatent", samples=latent, filename_prefix=name)


def watch(server: Server, graph: Graph) -> dict[str, list]:
    """Run a graph and collect what the browser is sent meanwhile: texts on nodes, pictures (JPEG or PNG files), and the
    progress bars' (value, max)."""

    async def listen() -> dict[str, list]:
        seen, client = {"texts": [], "pictures": [], "progress": []}, uuid.uuid4().hex
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{server.url}/ws?clientId={client}") as socket,
        ):
            server.queue(graph, client)
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    kind, length = struct.unpack(">II", message.data[:8])
                    if kind == TEXT:
                        seen["texts"].append(message.data[8 + length :].decode())
                    elif kind in PICTURES:
                        start = max(message.data.find(b"\xff\xd8\xff"), message.data.find(b"\x89PNG"))
                        seen["pictures"].append(message.data[start:])
                    continue
                kind, data = (json.loads(message.data)[key] for key in ("type", "data"))
                if kind == "progress":
                    seen["progress"].append((data["value"], data["max"]))
                elif kind in ("execution_success", "execution_error", "execution_interrupted"):
                    return seen
        raise RuntimeError("the server closed the connection")

    return asyncio.run(asyncio.wait_for(listen(), 300))


def queue_until(server: Server, graph: Graph, node: str, steps: int = 1, workflow: str = "") -> str:
    """Queue a graph and return its id once a node has so many steps of its progress bar behind it."""

    async def listen() -> str:
        client = uuid.uuid4().hex
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{server.url}/ws?clientId={client}") as socket,
        ):
            asked = server.queue(graph, client, workflow)
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    kind, data = (json.loads(message.data)[key] for key in ("type", "data"))
                    if kind == "progress" and data["node"] == node and data["value"] >= steps:
                        return asked
                    assert kind not in ("execution_success", "execution_error"), f"it ended before: {data}"
        raise RuntimeError("the server closed the connection")

    return asyncio.run(asyncio.wait_for(listen(), 300))


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    comfyui = find_comfyui()
    assert comfyui is not None, "no ComfyUI: run scripts/test.py, or set COMFYUI_PATH"
    with Server(
        comfyui, tmp_path_factory.mktemp("comfyui"), tuple(os.environ.get("REFEREE_COMFYUI_ARGS", "--cpu").split())
    ) as server:
        yield server


@pytest.fixture
def latents(server):
    """``latents(graph)`` runs a graph and returns the latents it saves, by name."""

    def run(graph: Demo) -> dict:
        outputs = server.run(graph)
        found = {}
        for output in outputs.values():
            for entry in output.get("latents", []):
                path = Path(server.base, "output", entry["subfolder"], entry["filename"])
                found[entry["filename"].split("_")[0]] = load_file(path)["latent_tensor"]
        return found

    return run
