"""Score distillation against a hand-written computation with a diffusers UNet, its schedule and guidance."""

import pytest
import torch

from referee_core.hosts.diffusers import GuidedUNet
from referee_core.interfaces import NoiseLevel
from referee_core.priors.sds import SDS
from referee_core.schedules import Schedule, constant

CFG = 30.0


def streams(*seeds):
    return [torch.Generator().manual_seed(s) for s in seeds]


@pytest.mark.parametrize("prediction", ["epsilon", "velocity"])
def test_gradient_is_the_weighted_difference_of_noises_over_the_published_area(unet, prompts, latents, prediction):
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    bars, (positive, negative) = scheduler.alphas_cumprod, prompts
    model = GuidedUNet(unet, bars, positive, negative, CFG, v_prediction=prediction == "velocity")
    gradient = SDS(model, constant(700.0)).gradient(latents, 0.3, streams(3, 4))
    for z, g, stream in zip(latents.split(1), gradient.split(1), streams(3, 4), strict=True):
        t = torch.randint(50, 950, (), generator=stream)
        eps = torch.randn(4, 4, 4, generator=stream).double()[None]
        x_t = scheduler.add_noise(z, eps, t[None])
        up, down = (unet(x_t, t, encoder_hidden_states=c).sample for c in (positive, negative))
        out, bar = down + CFG * (up - down), bars[t].double()
        eps_hat = out if prediction == "epsilon" else bar.sqrt() * out + (1 - bar).sqrt() * x_t
        expected = 700.0 * 2 * (eps_hat - eps) / (64 * 64)
        torch.testing.assert_close(g, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def test_weight_and_weighting_are_factors(denoiser, latents):
    def gradient(weight, **settings):
        return SDS(denoiser, constant(weight), **settings).gradient(latents, 0.5, streams(0, 1))

    torch.testing.assert_close(gradient(300.0), 3 * gradient(100.0))
    torch.testing.assert_close(gradient(100.0, weighting=1.0), gradient(50.0, weighting=2.0))


def test_the_pull_on_an_element_does_not_depend_on_the_resolution():
    """A denoiser that always answers 0: the pull on each element is the same at every size."""

    class Zero:
        def noise_levels(self, t):
            return NoiseLevel(*(torch.full((len(t),), v) for v in (0.6, 0.8, 7.0)))

        def __call__(self, x, level):
            return torch.zeros_like(x)

    for size in (8, 64):
        gradient = SDS(Zero()).gradient(torch.ones(1, 4, size, size), 0.0, streams(0))
        torch.testing.assert_close(gradient, torch.full_like(gradient, 800 * 2 / 64**2 * 0.6 / 0.8))


def test_the_models_own_level_goes_to_the_model_and_the_scales_into_x(latents):
    """A model that names its levels by numbers which are neither scale, as flow models with a noise scale do."""
    asked = []

    class Named:
        def noise_levels(self, t):
            return NoiseLevel(0.6 + 0 * t, 0.8 + 0 * t, level=1000 + t)

        def __call__(self, x, level):
            asked.append((x, level))
            return torch.zeros_like(x)

    gradient = SDS(Named(), constant(4096 / 2)).gradient(latents, 0.0, streams(3, 4))
    for i, stream in enumerate(streams(3, 4)):
        t = torch.randint(50, 950, (), generator=stream)
        x = 0.6 * latents[i] + 0.8 * torch.randn(4, 4, 4, generator=stream)
        torch.testing.assert_close(asked[0][0][i], x, rtol=1e-6, atol=1e-6)
        assert asked[0][1][i] == 1000 + t
    torch.testing.assert_close(gradient, 0.75 * latents, rtol=1e-6, atol=1e-6)


def test_timesteps_cover_the_range_and_nothing_else(denoiser, latents):
    seen = []

    class Recorder(type(denoiser)):
        def noise_levels(self, t):
            seen.extend(t.tolist())
            return super().noise_levels(t)

    prior, generators = SDS(Recorder(), t_min=200, t_max=203), streams(0, 1)
    for _ in range(40):
        prior.gradient(latents, 0.0, generators)
    assert set(seen) == {200, 201, 202, 203}
    assert SDS(denoiser).t_min == 50 and SDS(denoiser).t_max == 949


def test_each_picture_draws_from_its_own_generator(denoiser, latents):
    prior = SDS(denoiser)
    both = prior.gradient(latents, 0.0, streams(5, 6))
    for i in range(2):
        alone = prior.gradient(latents[i : i + 1], 0.0, streams(5 + i))
        torch.testing.assert_close(alone[0], both[i], rtol=1e-12, atol=0)
    same = prior.gradient(latents[:1].expand(2, -1, -1, -1), 0.0, streams(5, 6))
    assert not torch.equal(same[0], same[1])


def test_the_weight_follows_its_schedule(denoiser, latents):
    falling, flat = SDS(denoiser, Schedule(800.0, 400.0)), SDS(denoiser, constant(1.0))
    bare = flat.gradient(latents, 0.0, streams(0, 1))
    for progress, weight in ((0.0, 800), (0.5, 600), (1.0, 400)):
        torch.testing.assert_close(falling.gradient(latents, progress, streams(0, 1)), weight * bare)


@pytest.mark.parametrize(("t_min", "t_max"), [(-1, 10), (10, 9), (0, 1000)])
def test_an_impossible_timestep_range_is_refused(denoiser, t_min, t_max):
    with pytest.raises(ValueError, match="t_min"):
        SDS(denoiser, weight=constant(1.0), t_min=t_min, t_max=t_max)
