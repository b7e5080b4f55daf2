"""The diffusers host: guidance and decoding as diffusers itself does them."""

from copy import deepcopy

import pytest
import torch

from referee_core.hosts.diffusers import GuidedUNet, decoder


@pytest.fixture(scope="module")
def vae():
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    network = AutoencoderKL(block_out_channels=(4, 4), norm_num_groups=2, latent_channels=4, scaling_factor=0.2)
    return network.double().eval()


def ddim(prediction):
    from diffusers import DDIMScheduler

    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    return DDIMScheduler(**schedule, prediction_type=prediction)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_guided_guess_at_z_is_ddims(unet, prompts, latents, prediction):
    scheduler, (positive, negative), x = ddim(prediction), prompts, latents
    scheduler.set_timesteps(1000)
    model = GuidedUNet(unet, scheduler.alphas_cumprod, positive, negative, 7.5, prediction == "v_prediction")
    t = torch.tensor([50, 949])
    guesses = model(x, model.noise_levels(t).level)
    for i in range(2):
        row = x[i : i + 1]
        with torch.no_grad():
            up, down = (unet(row, t[i], encoder_hidden_states=c).sample for c in (positive, negative))
        expected = scheduler.step(down + 7.5 * (up - down), t[i], row).pred_original_sample
        torch.testing.assert_close(guesses[i : i + 1], expected, rtol=1e-5, atol=1e-5)


def test_noise_levels_are_those_of_the_schedule(unet, prompts):
    scheduler, t, ones = ddim("epsilon"), torch.arange(0, 1000, 37), torch.ones(28, 1)
    alpha, sigma, _ = GuidedUNet(unet, scheduler.alphas_cumprod, *prompts, 1.0).noise_levels(t)
    torch.testing.assert_close(alpha.float()[:, None], scheduler.add_noise(ones, 0 * ones, t))
    torch.testing.assert_close(sigma.float()[:, None], scheduler.add_noise(0 * ones, ones, t))


def test_prompts_may_be_one_for_all_pictures_or_one_each(unet, prompts, latents):
    bars, x, t = ddim("epsilon").alphas_cumprod, latents, torch.tensor([500, 900])
    shared = GuidedUNet(unet, bars, *prompts, 3.0)(x, t)
    each = GuidedUNet(unet, bars, *(p.expand(2, -1, -1) for p in prompts), 3.0)(x, t)
    torch.testing.assert_close(each, shared)


def test_decoding_is_the_vaes_with_gradients_to_the_latent(vae, latents):
    z = latents.clone().requires_grad_()
    image = decoder(vae)(z)
    expected = vae.decode(z / 0.2).sample / 2 + 0.5
    torch.testing.assert_close(image, expected.float())
    (gradient,) = torch.autograd.grad(image.sum(), z)
    assert (gradient.flatten(1).norm(dim=1) > 0).all()


def test_half_precision_networks_serve_single_precision_latents(unet, vae, prompts, latents):
    unet, vae, z = deepcopy(unet).bfloat16(), deepcopy(vae).bfloat16(), latents.float()
    assert decoder(vae)(z).dtype == torch.float32
    model = GuidedUNet(unet, ddim("epsilon").alphas_cumprod, *prompts.bfloat16(), 3.0)
    assert model(z, torch.tensor([500, 900])).dtype == torch.float32
