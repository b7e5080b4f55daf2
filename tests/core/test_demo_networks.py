"""The networks that ship with the pack do what the README says, measured on held-out captions and pictures."""

import torch

from referee_core.demo import storage
from referee_core.demo.models import build_vae
from referee_core.referees.blip2.weights import load as load_referee
from training import common, diffusion, referee, vae


def frozen(network: torch.nn.Module, name: str) -> torch.nn.Module:
    prefix = "text_model." if name == "text_encoder" else ""
    known = set(network.state_dict())
    state = {k if k in known else k.removeprefix(prefix): v for k, v in storage.load(name).items()}
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def test_all_files_together_are_small():
    assert sum(f.stat().st_size for f in storage.FOLDER.glob("*.safetensors")) < 12.5e6


def test_vae_reconstructs():
    figures = vae.measure(frozen(build_vae(), "vae"), count=100)
    assert figures["psnr_db"] >= 27
    assert figures["judge_on_pictures"] >= 0.99
    assert figures["judge_on_reconstructions"] >= 0.97


def test_referee_tells_swapped_attributes_apart():
    figures = referee.measure(load_referee(storage.path("referee")).network, count=200)
    assert figures["itm_accuracy_swap"] >= 0.95
    assert figures["caption_prefers_truth"] >= 0.95


def test_diffusion_model_paints_single_objects():
    painter = diffusion.Painter()
    frozen(painter.unet, "unet")
    frozen(painter.text_encoder, "text_encoder")
    assert diffusion.measure(painter.eval(), common.frozen_vae())["paints_single_right"] >= 0.8
