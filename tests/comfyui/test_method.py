"""The method inside a real ComfyUI: same results whichever way it is run, whatever happened before."""

import io
import json
import re
import time

import pytest
import torch
from PIL import Image

from comfyui.conftest import CUSTOM, LOOP, PROMPT, Demo, watch
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
    graph = method(steps=30, tail=2, stop_at=0.0001)
    texts = watch(server, graph)["texts"]
    assert any(text.startswith("step 1/30") or text.startswith("step 1/3 ") for text in texts)
    graph = method(steps=5000, patience=3, lr=0.0, lr_end=0.0, noise=0.0, prior=None, averaging=None, augmentation=None)
    assert server.run(graph, seconds=120)


@pytest.mark.parametrize(("width", "height"), [(72, 200), (136, 64)])
def test_any_size_divisible_by_8(latents, width, height):
    graph = Demo()
    latent = graph.add("EmptyLatentImage", width=width, height=height, batch_size=1)[0]
    graph.optimise(latent_image=latent, steps=2)
    assert latents(graph)["run"].shape == (1, 4, height // 8, width // 8)


def test_a_strength_of_zero_is_the_same_as_leaving_the_part_out(latents):
    def prior(graph):
        return graph.add(
            "RefereeSDSGuidance", model=graph.model, positive=graph.positive, negative=graph.negative, cfg=10.0, weight=0.0,
            weight_end=0.0, schedule="cosine", t_min=50, t_max=949,
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
        torch.testing.assert_close(found["zero"], found["without"], rtol=1e-4, atol=1e-4)
    graph = Demo()
    graph.optimise("zero", loss=loss(graph))
    graph.optimise("without")
    graph.optimise("norefereezero", w1=0.0)
    graph.optimise("noreferee", loss=None)
    found = latents(graph)
    assert torch.equal(found["zero"], found["without"])
    assert torch.equal(found["norefereezero"], found["noreferee"])


def test_best_is_not_worse_than_last(server, latents):
    best, last = latents(method(result="best", steps=6))["run"], latents(method(steps=6))["run"]
    assert not torch.equal(best, last)


def test_cancel_stops_within_a_step_and_leaves_nothing_behind(server, latents):
    before = latents(method())["run"]
    prompt_id = server.queue(method(steps=5000, seed=3))
    time.sleep(4)
    assert server.get("/queue")["queue_running"], "the long run ended before it could be cancelled"
    asked = time.monotonic()
    server.post("/interrupt", {})
    with pytest.raises(PromptError, match="interrupted"):
        server.wait(prompt_id, 60)
    assert time.monotonic() - asked < 5
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


def test_loss_combination_and_scores(server):
    graph = Demo(batch=2)
    other = graph.add("RefereeLoss", referee=graph.referee, text="a blue square", itm_weight=1.0, caption_weight=0.0)[0]
    both = graph.add("RefereeCombineLosses", losses__loss_0=graph.loss, losses__loss_1=other, weights="1, 0.5")[0]
    _, image, _ = graph.optimise(loss=both)[:3]
    ranked, _, best, _, report = graph.add("RefereeScore", images=image, loss=both, keep=0)[:5]
    graph.add("PreviewImage", images=ranked)
    graph.add("PreviewAny", source=report)
    graph.add("PreviewAny", source=best)
    texts = [o["text"][0] for o in server.run(graph).values() if "text" in o]
    lines = next(t for t in texts if "image 1" in t).splitlines()
    losses = [float(line.split("loss ")[1].split(" ")[0]) for line in lines]
    assert len(losses) == 2
    assert all("1.itm" in line and "1.caption" in line and "2.itm" in line for line in lines)
    assert min(losses) == pytest.approx(float(next(t for t in texts if "image" not in t)), abs=1e-3)


def test_saved_images_carry_the_scores_beside_the_workflow(server):
    graph = Demo(batch=2)
    _, image, _, scores, _ = graph.optimise(steps=2)[:5]
    graph.add("SaveImage", images=image, filename_prefix="scored")
    optimizer, numbers = scores[0], graph.add("PreviewAny", source=scores)[0][0]
    workflow = {"id": "a graph", "nodes": []}
    body = {"prompt": graph, "client_id": "test", "extra_data": {"extra_pnginfo": {"workflow": workflow}}}
    outputs = server.wait(server.post("/prompt", body)["prompt_id"])["outputs"]
    files = [e for o in outputs.values() for e in o.get("images", []) if e["filename"].startswith("scored")]
    shown = [float(text) for text in outputs[numbers]["text"]]
    for entry in files:
        info = Image.open(io.BytesIO(server.image(entry))).info
        assert json.loads(info["workflow"]) == workflow
        rows = json.loads(info["referee"])[optimizer]
        assert [row["match"] for row in rows] == pytest.approx(shown, abs=1e-4)
        assert all(row["loss"] == pytest.approx(row["itm"] + row["caption"], abs=1e-3) for row in rows)
    assert len(files) == 2
