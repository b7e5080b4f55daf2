"""The method inside a real ComfyUI: same results whichever way it is run, whatever happened before."""

import io
import re
import time

import pytest
import torch
from PIL import Image

from comfyui.conftest import CUSTOM, LOOP, PROMPT, Demo, queue_until, watch
from scripts.server import PromptError


def method(**changes) -> Demo:
    graph = Demo()
    graph.optimise(**changes)
    return graph


def test_same_seed_same_image_after_other_models_came_between(server, latents):
    first = latents(method())["run"]
    assert torch.isfinite(first).all()
    other = latents(method(seed=2))["run"]
    assert not torch.equal(first, other)
    plain = Demo()
    sampled = plain.add(
        "KSampler", model=plain.model, seed=1, steps=2, cfg=5.0, sampler_name="euler", scheduler="normal",
        positive=plain.positive, negative=plain.negative, latent_image=plain.latent, denoise=1.0,
    )[0]  # fmt: skip
    plain.add("PreviewImage", images=plain.add("VAEDecode", samples=sampled, vae=plain.vae)[0])
    server.post("/free", {"unload_models": True})
    server.run(plain)
    server.post("/free", {"unload_models": True, "free_memory": True})
    assert torch.equal(latents(method())["run"], first)


@pytest.mark.parametrize("left_out", ["prior", "loss", "augmentation", "averaging"])
def test_each_part_can_be_left_out(latents, left_out):
    result = latents(method(**{left_out: None}))["run"]
    assert torch.isfinite(result).all()
    assert not torch.equal(result, latents(method())["run"])


def test_sampler_custom_advanced_gives_the_optimizers_latent(latents):
    graph = Demo()
    graph.optimise("optimizer")
    sampler = graph.add(
        "RefereeSampler", vae=graph.vae, loss=graph.loss, augmentation=graph.augmentation, averaging=graph.averaging,
        weight=800.0, weight_end=400.0, schedule="cosine", t_min=50, t_max=949, **LOOP,
    )[0]  # fmt: skip
    sampled = graph.add(
        "SamplerCustomAdvanced",
        noise=graph.add("RandomNoise", noise_seed=1)[0],
        guider=graph.add("CFGGuider", model=graph.model, positive=graph.positive, negative=graph.negative, cfg=10.0)[0],
        sampler=sampler,
        sigmas=graph.add("BasicScheduler", model=graph.model, scheduler="normal", steps=4, denoise=1.0)[0],
        latent_image=graph.latent,
    )[0]
    graph.save(sampled, "sampler")
    found = latents(graph)
    assert torch.equal(found["optimizer"], found["sampler"])


def test_a_mask_keeps_the_rest_bit_for_bit(latents):
    graph = Demo()
    picture = graph.add("EmptyImage", width=128, height=128, batch_size=1, color=0x8090A0)[0]
    encoded = graph.add("VAEEncode", pixels=picture, vae=graph.vae)[0]
    mask = graph.add("SolidMask", value=0.0, width=128, height=128)[0]
    half = graph.add("SolidMask", value=1.0, width=64, height=128)[0]
    mask = graph.add("MaskComposite", destination=mask, source=half, x=0, y=0, operation="add")[0]
    masked = graph.add("SetLatentNoiseMask", samples=encoded, mask=mask)[0]
    graph.save(encoded, "before")
    graph.optimise("after", latent_image=masked)
    found = latents(graph)
    before, after = found["before"], found["after"]
    assert torch.equal(after[..., 8:], before[..., 8:])
    assert (after[..., :8] - before[..., :8]).abs().mean() > 0.05


def test_each_image_of_a_batch_goes_the_way_of_its_own_seed(latents):
    graph = Demo(batch=2)
    graph.optimise(seed=5)
    pair = latents(graph)["run"]
    assert pair.shape == (2, 4, 16, 16)
    for i in range(2):
        alone = latents(method(seed=5 + i))["run"][0]
        assert (pair[i] - alone).norm() / alone.norm() < 5e-3  # Adam makes much of little roundings
        assert (pair[1 - i] - alone).norm() / alone.norm() > 0.2


def test_a_run_can_be_resumed(latents):
    whole = latents(method(steps=6, tail=0, lr_end=0.3))["run"]
    graph = Demo()
    outputs = graph.optimise("first", steps=3, tail=0, lr_end=0.3)
    graph.optimise("second", steps=6, tail=0, lr_end=0.3, resume=outputs[2])
    found = latents(graph)
    assert not torch.equal(found["first"], whole)
    # the prior's weight follows a cosine over the steps of each run, so only nearly the same way
    assert (found["second"] - whole).norm() < 0.5 * (found["first"] - whole).norm()


def test_stopping_early(server):
    """Then comes the tail, and the progress bar ends where the run does."""
    reached = watch(server, method(steps=30, tail=2, stop_at=0.00001))["progress"]
    assert reached[-2:] == [(3, 3), (30, 30)]  # the last one with the finished picture
    still = {"lr": 0.0, "lr_end": 0.0, "noise": 0.0, "prior": None, "averaging": None, "augmentation": None}
    reached = watch(server, method(steps=5000, patience=3, **still))["progress"]
    assert reached[-2:] == [(4, 4), (5000, 5000)]  # a first loss and three that are no better; no tail without a prior


@pytest.mark.parametrize(("width", "height"), [(72, 200), (136, 64)])
def test_any_size_divisible_by_8(latents, width, height):
    graph = Demo()
    latent = graph.add("EmptyLatentImage", width=width, height=height, batch_size=1)[0]
    graph.optimise(latent_image=latent, steps=2)
    assert latents(graph)["run"].shape == (1, 4, height // 8, width // 8)


def test_a_strength_of_zero_is_the_same_as_leaving_the_part_out(latents):
    def prior(graph):
        return graph.add(
            "RefereeSDSGuidance", model=graph.model, positive=graph.positive, negative=graph.negative, cfg=10.0,
            weight=0.0, weight_end=0.0, schedule="cosine", t_min=50, t_max=949,
        )[0]  # fmt: skip

    def augmentation(graph):
        zero = {k: 0.0 if isinstance(v, float) else v for k, v in CUSTOM.items()} | {"preset__count": 1}
        return graph.add("RefereeAugmentation", **zero)[0]

    def averaging(graph):
        return graph.add("RefereeEMARestart", decay=0.0, start=2, interval=2)[0]

    def loss(graph):
        one = graph.add("RefereeLoss", referee=graph.referee, text=PROMPT, itm_weight=1.0, caption_weight=1.0)[0]
        return graph.add("RefereeCombineLosses", losses__loss_0=graph.loss, losses__loss_1=one, weights="1, 0")[0]

    for name, part in {"prior": prior, "augmentation": augmentation, "averaging": averaging}.items():
        graph = Demo()
        graph.optimise("zero", **{name: part(graph)})
        graph.optimise("without", **{name: None})
        found = latents(graph)
        torch.testing.assert_close(found["zero"], found["without"], rtol=1e-3, atol=1e-3)
    graph = Demo()
    graph.optimise("zero", loss=loss(graph))
    graph.optimise("without")
    graph.optimise("norefereezero", w1=0.0)
    graph.optimise("noreferee", loss=None)
    found = latents(graph)
    assert torch.equal(found["zero"], found["without"])
    assert torch.equal(found["norefereezero"], found["noreferee"])


def test_best_is_the_latent_of_the_lowest_loss_on_the_way(server):
    """Without augmentation a step's loss is that of the picture before it, which is the last one of a shorter run."""
    constant = {
        "prior": None,
        "averaging": None,
        "augmentation": None,
        "tail": 0,
        "lr": 3.0,
        "lr_end": 3.0,
        "noise": 1.0,
    }
    graph = Demo()
    reports = [graph.optimise(steps=1, **constant | {"lr": 0.0, "lr_end": 0.0, "noise": 0.0})[4]]
    reports += [graph.optimise(steps=steps, **constant)[4] for steps in range(1, 5)]
    reports.append(graph.optimise(steps=4, result="best", **constant)[4])
    shown = [graph.add("PreviewAny", source=report)[0][0] for report in reports]
    outputs = server.run(graph)
    *on_the_way, last, best = (float(outputs[node]["text"][0].split("loss ")[1].split(" ")[0]) for node in shown)
    assert best == pytest.approx(min(on_the_way), abs=1e-3)
    assert best < last


def test_cancel_stops_within_a_step_and_leaves_nothing_behind(server, latents):
    before = latents(method())["run"]
    graph = Demo()
    optimizer = graph.optimise(steps=5000, seed=3)[0][0]
    prompt_id = queue_until(server, graph, optimizer, steps=2)
    asked = time.monotonic()
    server.post("/interrupt", {})
    with pytest.raises(PromptError, match="interrupted"):
        server.wait(prompt_id, 60)
    assert time.monotonic() - asked < 20  # all the steps take many minutes
    server.post("/free", {"unload_models": True, "free_memory": True})
    assert torch.equal(latents(method())["run"], before)


def test_picture_and_status_are_shown_while_it_runs(server):
    shown = watch(server, method(seed=11, steps=12))
    assert any(
        re.fullmatch(r"step 1/12 · match [01]\.\d\d · loss \d+\.\d\d · restart in \d · \d+:\d\d left", text)
        for text in shown["texts"]
    )
    assert re.fullmatch(r"done in \d+:\d\d · match [01]\.\d\d · loss \d+\.\d\d", shown["texts"][-1])
    sizes = [Image.open(io.BytesIO(picture)).size for picture in shown["pictures"]]
    assert len(sizes) >= 2 and set(sizes) == {(512, 512)}  # ComfyUI enlarges previews
