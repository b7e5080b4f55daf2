"""The networks that ship with the pack do what the README says, measured on held-out captions and pictures."""

import random
from functools import cache
from pathlib import Path

import pytest
import torch

from referee_core.demo import storage
from referee_core.demo.models import build_vae
from referee_core.demo.world import OBJECTS
from referee_core.referees.blip2.weights import load as load_referee
from training import common, diffusion, made, referee, vae
from training.pictures import paint
from training.where import SIDE, Where

MISTAKES = ("swap", "relation", "number", "missing", "surplus")


def frozen(network: torch.nn.Module, name: str) -> torch.nn.Module:
    prefix = "text_model." if name == "text_encoder" else ""
    known = set(network.state_dict())
    state = {k if k in known else k.removeprefix(prefix): v for k, v in storage.load(name).items()}
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


@cache
def judging() -> torch.nn.Module:
    return load_referee(storage.path("referee")).network


def test_all_files_together_are_small():
    assert sum(f.stat().st_size for f in storage.FOLDER.glob("*.safetensors")) < 16e6


@pytest.mark.slow
def test_vae_reconstructs():
    figures = vae.measure(frozen(build_vae(), "vae"), count=100)
    assert figures["psnr_db"] >= 29
    assert figures["judge_on_pictures"] >= 0.99
    assert figures["judge_on_reconstructions"] >= 0.97


@pytest.mark.slow
def test_referee_tells_every_mistake_from_the_truth():
    shares = {"pair": 1, "relation": 1, "three": 1, "number": 1}
    figures = referee.measure(judging(), paint(random.Random("new pictures"), 300, held_out=True, shares=shares))
    assert {kind: figures[f"itm_accuracy_{kind}"] for kind in MISTAKES if figures[f"itm_accuracy_{kind}"] < 0.97} == {}
    assert figures["caption_prefers_truth"] >= 0.97


@pytest.mark.slow
def test_referee_judges_made_pictures(tmp_path: Path):
    """What samplers, guidance by the referee itself and optimisation make of held-out prompts."""
    pictures = made.mined(tmp_path, {"sampled": 12, "guided": 6, "optimised": 4}, held_out=True)
    figures = referee.measure(judging(), pictures)
    assert {kind: figures[f"itm_accuracy_{kind}"] for kind in MISTAKES if figures[f"itm_accuracy_{kind}"] < 0.9} == {}
    assert figures["itm_accuracy_asked"] >= 0.75


@pytest.mark.slow
def test_diffusion_model_paints_single_objects():
    painter = diffusion.Painter()
    frozen(painter.unet, "unet")
    frozen(painter.text_encoder, "text_encoder")
    assert diffusion.measure(painter.eval(), common.frozen_vae(), count=16)["paints_single_right"] >= 0.6


def test_where_a_thing_is():
    """Against the drawing: the patches that an object covers for the most part, and those without it."""
    where, rng = Where(judging()), random.Random("where")
    pictures = paint(rng, 24, held_out=True, shares={"pair": 1, "three": 1})
    right = total = 0
    for i in range(len(pictures)):
        for thing in pictures.objects[i]:
            said = where(pictures.floats([i]), thing)[0].flatten()
            covered = pictures.cover[i, :, 1 + OBJECTS.index(thing)].float()
            clear = (covered > 0.8) | (covered == 0)
            right += int(((said > 0.5) == (covered > 0.5))[clear].sum())
            total += int(clear.sum())
    assert said.shape == (SIDE * SIDE,)
    assert right / total >= 0.99


def test_where_has_gradients():
    images = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)).requires_grad_()
    Where(judging())(images, OBJECTS[0]).sum().backward()
    assert images.grad.abs().sum() > 0
