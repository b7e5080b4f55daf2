"""The diffusers host and ComfyUI give the same latent for the same weights, noise and seed."""

import subprocess
import sys

import pytest
import torch
from PIL import Image

from comfyui.conftest import CUSTOM, LOOP, PROMPT, Demo
from referee_core.augment import Augmentation
from referee_core.averaging import EMARestart
from referee_core.demo.components import load_components
from referee_core.demo.models import VAE
from referee_core.demo.storage import path
from referee_core.losses import bind
from referee_core.methods.referee_can_play import LoopSettings, referee_can_play
from referee_core.priors.sds import SDS
from referee_core.referees.blip2.weights import load
from referee_core.schedules import Schedule
from scripts.server import PACK


def test_both_hosts_go_the_same_way(latents):
    graph = Demo()
    graph.optimise(seed=7, steps=6)
    in_comfyui = latents(graph)["run"]

    parts, referee = load_components(), load(path("referee"))
    views = {k.removeprefix("preset__"): v for k, v in CUSTOM.items() if k != "preset"}
    settings = LoopSettings(
        steps=6, tail=LOOP["tail"], w1=LOOP["w1"], lr=Schedule(LOOP["lr"], LOOP["lr_end"]), noise=LOOP["noise"]
    )
    *_, last = referee_can_play(
        parts.noise(128, 128, 7),
        parts.decoder(),
        bind(referee, PROMPT, itm=1.0, caption=1.0),
        SDS(parts.guided(PROMPT, cfg=10.0), Schedule(800.0, 400.0)),
        Augmentation(**views),
        EMARestart(0.5, 2, 2),
        settings,
        seed=7,
    )
    in_diffusers = last.z / VAE["scaling_factor"]
    difference = (in_diffusers - in_comfyui).norm() / in_comfyui.norm()
    assert difference < 5e-3, "Adam's first steps make much of little roundings, but not more than this"


def test_sizes_must_fit_the_autoencoder():
    with pytest.raises(ValueError, match="multiples of 8"):
        load_components().noise(100, 128, 0)


def test_the_example_script_writes_a_picture(tmp_path):
    picture = tmp_path / "out.png"
    command = [sys.executable, "-m", "docs.diffusers_script", PROMPT, "--steps", "3", "--output", str(picture)]
    done = subprocess.run(command, cwd=PACK, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "loss" in done.stdout
    assert Image.open(picture).size == (128, 128)
    assert torch.tensor(Image.open(picture).getextrema()).float().std() > 1
