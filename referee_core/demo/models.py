"""The small networks of the demo world, in their usual classes: sizes, builders, and the words they know.

Diffusers and transformers are needed to build the diffusion networks here (training, the diffusers host); ComfyUI
builds its own classes from the same configurations.
"""

from typing import Any

import torch
from torch import nn

from ..referees.blip2.config import Blip2Config
from ..referees.blip2.text import SPECIAL, Tokenizer
from .captions import NUMBERS, PHRASES, PLURALS, VAGUE
from .world import COLOURS, SHAPES, SIZE

RELATING = sorted({word for phrase in PHRASES.values() for word in phrase.split()})
VOCABULARY = [*SPECIAL, "a", "an", "and", ",", *RELATING, *NUMBERS, VAGUE, *COLOURS, *SHAPES, *PLURALS.values()]
MAX_TEXT_TOKENS = 24

REFEREE = Blip2Config(
    image_size=SIZE,
    patch_size=16,
    vision_dim=144,
    vision_depth=4,
    vision_heads=4,
    vision_mlp_dim=576,
    dim=128,
    layers=4,
    heads=4,
    mlp_dim=384,
    cross_attention_every=1,
    queries=8,
    vocab_size=len(VOCABULARY),
    max_positions=MAX_TEXT_TOKENS,
    max_text_tokens=MAX_TEXT_TOKENS,
)
NORM_GROUPS = 8
"""Groups of every GroupNorm in the two diffusers networks. At these widths SD's 32 would leave one channel a group,
which erases the mean of each channel and with it the colours."""

VAE: dict[str, Any] = dict(
    block_out_channels=(32, 32, 64, 64),
    layers_per_block=1,
    latent_channels=4,
    norm_num_groups=NORM_GROUPS,
    sample_size=SIZE,
    scaling_factor=0.18215,
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
)
UNET: dict[str, Any] = dict(
    sample_size=SIZE // 8,
    block_out_channels=(64, 64),
    layers_per_block=1,
    cross_attention_dim=128,
    attention_head_dim=4,  # the number of heads, as in SD 1.5's own configuration
    norm_num_groups=NORM_GROUPS,
    down_block_types=("CrossAttnDownBlock2D",) * 2,
    up_block_types=("CrossAttnUpBlock2D",) * 2,
)
TEXT_ENCODER: dict[str, Any] = dict(
    vocab_size=len(VOCABULARY),
    hidden_size=128,
    intermediate_size=256,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=MAX_TEXT_TOKENS,
    hidden_act="quick_gelu",
    bos_token_id=VOCABULARY.index("[CLS]"),
    eos_token_id=VOCABULARY.index("[SEP]"),
    pad_token_id=VOCABULARY.index("[SEP]"),
)
NOISE_SCHEDULE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)


def build_vae() -> nn.Module:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return AutoencoderKL(**VAE)


def build_unet() -> nn.Module:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return UNet2DConditionModel(**UNET)


def build_text_encoder() -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**TEXT_ENCODER))


def prompt_ids(captions: list[str]) -> torch.Tensor:
    """Token ids of prompts for the diffusion model's text encoder: [CLS] words [SEP] and [SEP] to the full length.

    Returns: long tensor [B, MAX_TEXT_TOKENS].
    """
    start, end = VOCABULARY.index("[CLS]"), VOCABULARY.index("[SEP]")
    tokenizer = Tokenizer(VOCABULARY, MAX_TEXT_TOKENS)
    rows = []
    for text in captions:
        words = tokenizer.words(text)[0][: MAX_TEXT_TOKENS - 2]
        rows.append([start, *words] + [end] * (MAX_TEXT_TOKENS - 1 - len(words)))
    return torch.tensor(rows)
