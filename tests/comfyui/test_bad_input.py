"""Bad input gets a message that says what is wrong, where, and what to do, and the next run works."""

import pytest
import torch
from safetensors.torch import save_file

from comfyui.conftest import LOOP, Demo, watch
from scripts.server import PromptError


def failure(server, graph: Demo) -> str:
    with pytest.raises(PromptError) as error:
        server.run(graph)
    return str(error.value) + str(error.value.details.get("node_errors", ""))


@pytest.mark.parametrize("text", ["", "   ", "...", "(:1.3)"])
def test_empty_prompt(server, text):
    graph = Demo(text=text)
    graph.optimise()
    message = failure(server, graph)
    assert "is empty: write what the picture should show" in message
    assert ("answered 400" in message) == (not text.strip())  # refused before anything runs


def test_long_prompt_shows_what_was_cut(server):
    graph = Demo(text="a red circle and " * 12 + "a blue square")
    graph.optimise(steps=2)
    shown = watch(server, graph)
    assert any("cut off" in text and text.rstrip("'").endswith("a blue square") for text in shown["texts"])


def test_neither_loss_nor_prior(server):
    graph = Demo()
    graph.optimise(loss=None, prior=None)
    message = failure(server, graph)
    assert "'loss'" in message and "'prior'" in message


def test_wrong_channel_count(server):
    graph = Demo()
    graph.optimise(latent_image=graph.add("EmptySD3LatentImage", width=128, height=128, batch_size=1)[0], prior=None)
    message = failure(server, graph)
    assert "'latent_image' has 16 channels" in message


def test_video_latent(server):
    graph = Demo()
    video = graph.add("EmptyHunyuanLatentVideo", width=128, height=128, length=5, batch_size=1)[0]
    graph.optimise(latent_image=video, prior=None)
    assert "video" in failure(server, graph)


def test_a_latent_of_nan(server):
    latents = torch.zeros(3, 4, 8, 8)
    latents[1, 0, 0, 0], latents[2, 3, 7, 7] = torch.nan, -torch.inf
    version = torch.tensor([])
    save_file({"latent_tensor": latents, "latent_format_version_0": version}, server.base / "input" / "nan.latent")
    graph = Demo()
    graph.optimise(latent_image=graph.add("LoadLatent", latent="nan.latent")[0], steps=2)
    message = failure(server, graph)
    assert "'latent_image'" in message and "NaN" in message and "image 2, 3 of 3" in message


def test_a_single_sigma(server):
    graph = Demo()
    sampler = graph.add(
        "RefereeSampler", vae=graph.vae, loss=graph.loss, weight=800.0, weight_end=400.0, schedule="cosine", t_min=50,
        t_max=949, **LOOP,
    )[0]  # fmt: skip
    sigmas = graph.add("BasicScheduler", model=graph.model, scheduler="normal", steps=2, denoise=1.0)[0]
    last = graph.add("SplitSigmas", sigmas=sigmas, step=2)[1]
    guider = graph.add("BasicGuider", model=graph.model, conditioning=graph.positive)[0]
    noise = graph.add("RandomNoise", noise_seed=1)[0]
    inputs = {"noise": noise, "guider": guider, "sampler": sampler, "sigmas": last, "latent_image": graph.latent}
    graph.save(graph.add("SamplerCustomAdvanced", **inputs)[0], "never")
    assert "'sigmas' holds no step" in failure(server, graph)


def test_a_run_too_short_for_its_restarts_says_so(server):
    graph = Demo()
    late = graph.add("RefereeEMARestart", decay=0.9, start=40, interval=60)[0]
    graph.optimise(averaging=late, steps=2)
    assert "no restart: EMA-Restart begins at step 40 of 2" in watch(server, graph)["texts"][-1]


def test_latents_of_other_images(server):
    graph = Demo()
    four = graph.add("EmptyImage", width=64, height=64, batch_size=4, color=255)[0]
    graph.save(graph.add("RefereeScore", images=four, loss=graph.loss, keep=1, latents=graph.latent)[1], "kept")
    message = failure(server, graph)
    assert "'latents' holds 1 and 'images' 4" in message


def test_all_weights_zero(server):
    graph = Demo()
    loss = graph.add("RefereeLoss", referee=graph.referee, text="a red circle", itm_weight=0.0, caption_weight=0.0)[0]
    graph.optimise(loss=loss)
    assert "weight" in failure(server, graph)


def test_timesteps_the_wrong_way_round(server):
    graph = Demo()
    prior = graph.add(
        "RefereeSDSGuidance", model=graph.model, positive=graph.positive, negative=graph.negative, cfg=1.0, weight=1.0,
        weight_end=1.0, schedule="cosine", t_min=500, t_max=400,
    )[0]  # fmt: skip
    graph.optimise(prior=prior)
    message = failure(server, graph)
    assert "'t_min'" in message and "'t_max'" in message


def load_only(name: str) -> Demo:
    graph = Demo()
    referee = graph.add("RefereeLoader", referee_name=name, precision="auto")[0]
    loss = graph.add("RefereeLoss", referee=referee, text="a red circle", itm_weight=1.0, caption_weight=1.0)[0]
    graph.optimise(loss=loss, steps=2)
    return graph


def test_missing_referee_file(server):
    assert "value_not_in_list" in failure(server, load_only("nowhere.safetensors"))


@pytest.mark.parametrize("kind", ["truncated", "pickle", "foreign"])
def test_damaged_referee_file(server, kind, tmp_path):
    path = server.base / "models" / "referee" / f"{kind}.safetensors"
    marker = tmp_path / "executed"
    if kind == "foreign":
        save_file({"weight": torch.zeros(3)}, path)
    elif kind == "truncated":
        save_file({"weight": torch.zeros(3000)}, path)
        path.write_bytes(path.read_bytes()[:500])
    else:

        class Bomb:
            def __reduce__(self):
                return (open, (str(marker), "w"))

        torch.save(Bomb(), path, _use_new_zipfile_serialization=False)
    message = failure(server, load_only(path.name))
    assert path.name in message
    assert {"foreign": "not a BLIP-2", "truncated": "damaged", "pickle": "never executed"}[kind] in message
    assert not marker.exists()


def test_the_server_still_works(server):
    graph = Demo()
    graph.optimise()
    assert server.run(graph)
