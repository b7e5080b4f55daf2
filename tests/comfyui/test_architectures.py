"""Real architectures at full width with random weights, loaded by ComfyUI's own nodes: two steps of the method each.

Slow, and large: SDXL writes 7 GB. The referee has the published widths and vocabulary and is two blocks deep; with
REFEREE_FULL_SIZE=1 in the environment it has its full depth.
"""

import os
from dataclasses import replace

import pytest
import torch

from comfyui import inside
from comfyui.conftest import LOOP
from referee_core.referees.blip2.config import Blip2Config
from referee_core.referees.blip2.model import Blip2
from referee_core.referees.blip2.vocabulary import bert_base_uncased
from referee_core.referees.blip2.weights import save
from scripts.server import Graph

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def make(server):
    """``make(folder, name, kind, ...)`` writes a file under models by a function of random_checkpoints; all go."""
    written = []

    def run(folder: str, name: str, kind: str, *arguments) -> str:
        path = server.base / "models" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path not in written:
            written.append(path)
            inside.run("random_checkpoint", kind=kind, arguments=[str(path), *arguments])
        return name

    yield run
    for path in written:
        path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def referee(server):
    full = os.environ.get("REFEREE_FULL_SIZE")
    config = Blip2Config() if full else replace(Blip2Config(), vision_depth=2, layers=4)
    torch.manual_seed(0)
    network = Blip2(config)
    for p in network.parameters():
        if p.ndim == 1:
            p.data += 0.1 * torch.randn(p.shape)
    path = server.base / "models" / "referee" / "full-width.safetensors"
    save(path, network, bert_base_uncased(), torch.bfloat16)
    return path.name


def run(
    server,
    latents,
    referee,
    graph: Graph,
    model,
    clip,
    vae,
    *,
    size=64,
    latent="EmptyLatentImage",
    positive=None,
    **changes,
):
    """The latent after two steps at ``size`` pixels."""
    encoded = [graph.add("CLIPTextEncode", clip=clip, text=text)[0] for text in ("a red cat", "")]
    start = graph.add(latent, width=size, height=size, batch_size=1)[0]
    loaded = graph.add("RefereeLoader", referee_name=referee, precision="auto")[0]
    loss = graph.add("RefereeLoss", referee=loaded, text="a red cat", itm_weight=1.0, caption_weight=1.0)[0]
    prior = graph.add(
        "RefereeSDSGuidance", model=model, positive=positive(graph, encoded[0]) if positive else encoded[0],
        negative=encoded[1], cfg=7.5, weight=800.0, weight_end=400.0, schedule="cosine", t_min=50, t_max=949,
    )[0]  # fmt: skip
    augmentation = graph.add(
        "RefereeAugmentation", preset="custom", preset__count=2, preset__keep=0, preset__rotation=15.0,
        preset__translation=0.1, preset__perspective=0.2, preset__colour=0.05, preset__erasing=0.1, preset__noise=0.1,
        preset__flip=False, preset__crop=0.0,
    )[0]  # fmt: skip
    inputs = dict(
        vae=vae, latent_image=start, loss=loss, prior=prior, augmentation=augmentation, seed=1, steps=2, result="last",
        record_every=2, **(LOOP | {"tail": 0}),
    )  # fmt: skip
    out = graph.add("RefereeOptimizer", **{k: v for k, v in (inputs | changes).items() if v is not None})[0]
    graph.add("SaveLatent", samples=out, filename_prefix="run")
    return latents(graph)["run"]


def checkpoint(graph: Graph, name: str) -> list:
    return graph.add("CheckpointLoaderSimple", ckpt_name=name)[:3]


@pytest.mark.parametrize(
    ("architecture", "kind", "size"), [("SD15", "EPS", 128), ("SD20", "V_PREDICTION", 64), ("SDXL", "EPS", 64)]
)
def test_checkpoints(server, latents, referee, make, architecture, kind, size):
    name = make("checkpoints", f"{architecture}.safetensors", "checkpoint", architecture)
    before = len(server.log)
    result = run(server, latents, referee, (graph := Graph()), *checkpoint(graph, name), size=size)
    assert f"model_type {kind}\n" in server.log[before:]
    assert result.shape == (1, 4, size // 8, size // 8)
    assert torch.isfinite(result).all() and result.std() > 0.1
    again = run(
        server, latents, referee, (graph := Graph()), *checkpoint(graph, name), size=size, seed=1, record_every=1
    )
    assert torch.equal(again, result)
    server.post("/free", {"unload_models": True, "free_memory": True})


def test_lora_and_controlnet_change_the_prior(server, latents, referee, make):
    name = make("checkpoints", "SD15.safetensors", "checkpoint", "SD15")
    lora, controlnet = (
        make("loras", "lora.safetensors", "lora"),
        make("controlnet", "cn.safetensors", "controlnet"),
    )

    def prior_only(lora_strength: float = 0.0, control_strength: float = 0.0) -> torch.Tensor:
        graph = Graph()
        model, clip, vae = checkpoint(graph, name)
        if lora_strength:
            model = graph.add("LoraLoaderModelOnly", model=model, lora_name=lora, strength_model=lora_strength)[0]

        def controlled(graph, positive):
            hint = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0x804020)[0]
            net = graph.add("ControlNetLoader", control_net_name=controlnet)[0]
            return graph.add(
                "ControlNetApply", conditioning=positive, control_net=net, image=hint, strength=control_strength
            )[0]

        return run(
            server,
            latents,
            referee,
            graph,
            model,
            clip,
            vae,
            loss=None,
            positive=controlled if control_strength else None,
        )

    plain = prior_only()
    assert torch.equal(prior_only(), plain)
    assert (prior_only(lora_strength=1.0) - plain).abs().max() > 1e-4
    assert (prior_only(control_strength=1.0) - plain).abs().max() > 1e-4
    assert torch.equal(prior_only(), plain), "nothing of them is left behind"


def test_a_flow_model_with_16_channels(server, latents, referee, make):
    unet = make("diffusion_models", "sd3.safetensors", "sd3", 128, 128)
    vae = make("vae", "vae16.safetensors", "vae", 16)
    graph = Graph()
    clip = graph.add("RefereeDemoModels")[1]
    model = graph.add("UNETLoader", unet_name=unet, weight_dtype="default")[0]
    decoder = graph.add("VAELoader", vae_name=vae)[0]
    result = run(server, latents, referee, graph, model, clip, decoder, latent="EmptySD3LatentImage")
    assert result.shape == (1, 16, 8, 8)
    assert torch.isfinite(result).all() and result.std() > 0.1
    assert "model_type FLOW" in server.log
