"""Noise on an encoded prompt."""

import pytest
import torch

from referee_core.variation import vary


@pytest.fixture
def prompt() -> torch.Tensor:
    return 5 + 3 * torch.randn(2, 64, 128, generator=torch.Generator().manual_seed(0))


def test_the_noise_is_a_share_of_the_prompts_mean_size(prompt):
    noise = vary(prompt, 0.5, seed=3) - prompt
    assert noise.std().item() == pytest.approx(0.5 * prompt.abs().mean().item(), rel=0.03)
    assert torch.allclose(noise[0], noise[1], atol=1e-5)


def test_a_seed_gives_its_own_noise_and_always_the_same(prompt):
    assert torch.equal(vary(prompt, 0.5, seed=3), vary(prompt, 0.5, seed=3))
    assert not torch.equal(vary(prompt, 0.5, seed=3), vary(prompt, 0.5, seed=4))


def test_none_gives_the_prompt_back(prompt):
    assert vary(prompt, 0.0, seed=3) is prompt
