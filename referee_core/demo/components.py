"""The demo's networks for the diffusers host."""

import torch

from ..hosts.diffusers import Components
from . import storage
from .models import NOISE_SCHEDULE, build_text_encoder, build_unet, build_vae, prompt_ids


def load_components() -> Components:
    """The demo's autoencoder, UNet and text encoder with the weights of this repository, frozen. Needs diffusers and
    transformers."""
    from diffusers import DDIMScheduler

    vae, unet, text_encoder = (
        build().eval().requires_grad_(False) for build in (build_vae, build_unet, build_text_encoder)
    )
    vae.load_state_dict(storage.load("vae"))
    unet.load_state_dict(storage.load("unet"))
    prefixed = any(k.startswith("text_model.") for k in text_encoder.state_dict())  # until transformers 5
    state = storage.load("text_encoder")
    text_encoder.load_state_dict(state if prefixed else {k.removeprefix("text_model."): v for k, v in state.items()})

    @torch.no_grad()
    def encode(prompt: str) -> torch.Tensor:
        return text_encoder(prompt_ids([prompt])).last_hidden_state

    return Components(unet, vae, DDIMScheduler(**NOISE_SCHEDULE), encode)
