"""Small stand-ins for the heavy collaborators: a smooth referee, a linear decoder, a denoiser in closed form, a BLIP-2
and a UNet with random weights. All compute in double precision, so that comparisons can be tight."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from referee_core.interfaces import NoiseLevel
from referee_core.losses import bind
from referee_core.priors.sds import SDS
from referee_core.referees.base import RefereeBase
from referee_core.referees.blip2.config import Blip2Config
from referee_core.referees.blip2.model import Blip2
from referee_core.referees.blip2.referee import Blip2Referee
from referee_core.referees.blip2.text import SPECIAL
from referee_core.referees.pixels import square

WORDS = ["a", "an", "and", "red", "blue", "cat", "dog", "ball", "run", "##ning", "(", ")", ",", "1", "2"]


class ToyReferee(RefereeBase):
    """Two smooth losses of a picture; ``asked`` lists (number of views, terms) of every
    judgement, ``looked`` the number of views of every look."""

    terms = ("level", "waves")
    probability = None

    def __init__(self):
        self.asked, self.looked = [], []
        self.pattern = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(11), dtype=torch.float64)

    def encode(self, text):
        if not text:
            raise ValueError("The text for the referee is empty.")
        return len(text) / 10

    def prepare(self, images, pooled=False):
        return square(images, 8, pooled)

    def encode_images(self, views):
        self.looked.append(len(views))
        return views

    def losses(self, images, text, terms):
        self.asked.append((len(images), tuple(terms)))
        formulas = {
            "level": lambda: (images - text).square().mean((1, 2, 3)),
            "waves": lambda: 1 + (torch.sin(3 * images) * self.pattern.to(images)).mean((1, 2, 3)),
        }
        return {term: formulas[term]() for term in terms}


class LinearDecoder:
    """Latents [B, 4, h, w] to pictures [B, 3, 2h, 2w], partly outside [0, 1]; ``calls`` counts."""

    def __init__(self):
        self.calls = 0
        self.weight = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(12), dtype=torch.float64)

    def __call__(self, z):
        self.calls += 1
        return 0.5 + 0.25 * F.conv_transpose2d(z, self.weight.to(z), stride=2)


class ToyDenoiser:
    """A variance-preserving schedule and a non-linear guess at z."""

    def noise_levels(self, t):
        angle = math.pi / 2 * (t + 1) / 1001
        return NoiseLevel(angle.cos(), angle.sin(), level=angle)

    def __call__(self, x, level):
        return torch.tanh(x) * (1.5 - level.double().sin().view(-1, 1, 1, 1)).to(x)


@pytest.fixture
def toy_referee():
    return ToyReferee()


@pytest.fixture
def decode():
    return LinearDecoder()


@pytest.fixture
def denoiser():
    return ToyDenoiser()


@pytest.fixture
def latents():
    """Latents of two pictures of 8x8 pixels."""
    return torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(13), dtype=torch.float64)


@pytest.fixture
def toys(toy_referee, decode, denoiser, latents):
    """All that a run needs."""
    parts = {"loss": bind(toy_referee, "a cat", level=1.0, waves=0.5), "prior": SDS(denoiser)}
    return SimpleNamespace(z=latents, decode=decode, referee=toy_referee, denoiser=denoiser, **parts)


@pytest.fixture
def vocabulary():
    return [*SPECIAL, *WORDS]


@pytest.fixture
def blip2(vocabulary):
    """A tiny BLIP-2 in which every parameter is random, so that no two parts can be confused."""
    config = Blip2Config(
        image_size=8,
        patch_size=4,
        vision_dim=12,
        vision_depth=2,
        vision_heads=2,
        vision_mlp_dim=20,
        dim=16,
        layers=3,
        heads=4,
        mlp_dim=24,
        cross_attention_every=2,
        queries=3,
        vocab_size=len(vocabulary),
        max_positions=40,
    )
    network = Blip2(config).double()
    generator = torch.Generator().manual_seed(14)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return network


@pytest.fixture
def blip2_referee(blip2, vocabulary):
    return Blip2Referee(blip2, vocabulary)


@pytest.fixture(scope="session")
def unet():
    """A diffusers UNet with random weights."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    network = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8,),
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
    )
    return network.double().eval().requires_grad_(False)


@pytest.fixture
def prompts():
    """What the UNet reads of a positive and a negative prompt, [2, 1, 5, 8]."""
    return torch.randn(2, 1, 5, 8, generator=torch.Generator().manual_seed(15), dtype=torch.float64)
