"""Referee Guidance inside a real ComfyUI: under its samplers, in a row, cancelled, with masks and batches."""

import math
import re

import pytest
import torch

from .conftest import Demo, watch
from .test_bad_input import failure

GRADIENTS = {
    "prediction": {"gradient": "prediction", "gradient__steps": 1},
    "look-ahead": {"gradient": "look-ahead"},
    "naive": {"gradient": "naive"},
}


class Guided(Demo):
    """A KSampler on the demo's models, and a guidance before it."""

    def guide(self, model: list | None = None, share: float = 0.1, **changes) -> list:
        inputs = {
            "model": model or self.model, "vae": self.vae, "loss": self.loss, "augmentation": self.augmentation,
            **GRADIENTS["prediction"], "strength": "relative", "strength__share": share, "start_percent": 0.0,
            "end_percent": 0.7,
        }  # fmt: skip
        return self.add("RefereeGuidance", **{k: v for k, v in (inputs | changes).items() if v is not None})[0]

    def sample(self, model: list, name: str, sampler: str = "euler_ancestral", steps: int = 4, **changes) -> list:
        inputs = dict(
            model=model, positive=self.positive, negative=self.negative, latent_image=self.latent, seed=1,
            sampler_name=sampler, scheduler="normal", steps=steps, cfg=3.0, denoise=1.0,
        )  # fmt: skip
        latent = self.add("KSampler", **inputs | changes)[0]
        self.save(latent, name)
        return latent


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_it_changes_the_picture_and_repeats_bit_for_bit(latents, gradient):
    found = []
    for _ in range(2):
        g = Guided()
        changed = {"gradient__steps": None} | GRADIENTS[gradient]
        g.sample(g.guide(**changed), "guided")
        g.sample(g.model, "plain")
        found.append(latents(g))
    first, second = found
    assert torch.equal(first["guided"], second["guided"])
    difference = (first["guided"] - first["plain"]).norm() / first["plain"].norm()
    assert 0.05 < difference < 2


def test_without_strength_it_is_plain_sampling_bit_for_bit(latents):
    g = Guided()
    g.sample(g.guide(share=0.0), "none")
    g.sample(g.guide(start_percent=0.7, end_percent=0.7), "never")
    g.sample(g.model, "plain")
    found = latents(g)
    assert torch.equal(found["none"], found["plain"])
    assert torch.equal(found["never"], found["plain"])


def test_the_run_is_shown_on_its_node(server):
    g = Guided()
    g.sample(g.guide(), "guided")
    seen = watch(server, g)
    assert any(re.search(r"step \d/4 · match 0\.\d\d · loss", text) for text in seen["texts"])
    assert any("guided 3 times, done in" in text for text in seen["texts"])
    assert seen["pictures"]


def test_under_a_search_each_attempt_is_what_its_seed_gives_alone(server, latents):
    def parts(g: Guided) -> dict:
        model = g.guide()
        guider = g.add("CFGGuider", model=model, positive=g.positive, negative=g.negative, cfg=3.0)[0]
        sigmas = g.add("BasicScheduler", model=model, scheduler="normal", steps=4, denoise=1.0)[0]
        sampler = g.add("KSamplerSelect", sampler_name="euler_ancestral")[0]
        return {"guider": guider, "sigmas": sigmas, "sampler": sampler, "latent_image": g.latent}

    g = Guided()
    found = g.add(
        "RefereeSearch", **parts(g), vae=g.vae, loss=g.loss, seed=7, attempts=3, stop_at=0.0, keep=3, at_once=2,
        prune_at=0.0,
    )  # fmt: skip
    g.save(found[0], "searched")
    g.add("PreviewAny", source=found[3])
    outputs = server.run(g)
    (report,) = next(o["text"] for o in outputs.values() if "text" in o)
    lines = [line for line in report.splitlines() if line.startswith("attempt")]
    assert [line.split(":")[0] for line in lines] == [f"attempt {i} (seed {6 + i})" for i in (1, 2, 3)]
    losses = [float(re.search(r"loss ([\d.]+)", line)[1]) for line in lines]
    searched = latents(g)["searched"]
    for k, index in enumerate(sorted(range(3), key=losses.__getitem__)):
        alone = Guided()
        noise = alone.add("RandomNoise", noise_seed=7 + index)[0]
        made = alone.add("SamplerCustomAdvanced", noise=noise, **parts(alone))[0]
        alone.save(made, "alone")
        made = latents(alone)["alone"]
        assert (made - searched[k : k + 1]).norm() < 0.02 * made.norm()  # rounding, through the referee


@pytest.mark.parametrize("wrong", [{"start_percent": math.nan}, {"share": math.nan}])
def test_what_is_no_number(server, wrong):
    g = Guided()
    g.sample(g.guide(**wrong), "guided")
    message = failure(server, g)
    assert "must be a number, got nan" in message and f"'{next(iter(wrong))}'" in message


def test_the_range_the_wrong_way_round(server):
    g = Guided()
    g.sample(g.guide(start_percent=0.8, end_percent=0.2), "guided")
    message = failure(server, g)
    assert "'start_percent' (0.8) is larger than 'end_percent' (0.2)" in message


def test_rounds_ask_for_a_matching_loss_to_stop_at(server):
    g = Guided()
    captions = g.add("RefereeLoss", referee=g.referee, text="a red circle", itm_weight=0.0, caption_weight=1.0)[0]
    euler = g.add("KSamplerSelect", sampler_name="euler")[0]
    sampler = g.add(
        "RefereeRounds", sampler=euler, vae=g.vae, loss=captions, rounds=1, delta=1.0, gradient="prediction",
        strength="relative", strength__share=0.1, start_percent=0.25, end_percent=0.7, stop_at=0.9,
    )[0]  # fmt: skip
    guider = g.add("CFGGuider", model=g.model, positive=g.positive, negative=g.negative, cfg=3.0)[0]
    sigmas = g.add("BasicScheduler", model=g.model, scheduler="normal", steps=2, denoise=1.0)[0]
    noise = g.add("RandomNoise", noise_seed=1)[0]
    made = g.add(
        "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=sigmas, latent_image=g.latent
    )[0]
    g.save(made, "rounds")
    assert "'stop_at'" in failure(server, g)
