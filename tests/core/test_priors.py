"""Each rival of SDS against its formula, computed straight from predicted noises on the toy denoiser."""

import pytest
import torch

from referee_core.interfaces import NoiseLevel
from referee_core.priors.bridge import Bridge
from referee_core.priors.csd import CSD
from referee_core.priors.reward_sds import RewardSDS
from referee_core.priors.sdi import SDI
from referee_core.priors.sds import SDS
from referee_core.schedules import Schedule, constant

WEIGHT = 700.0
FACTOR = WEIGHT * 2 / 64**2


def streams(*seeds):
    return [torch.Generator().manual_seed(s) for s in seeds]


def noised(denoiser, z, stream):
    """One picture's own draw: (x_t, eps, alpha, sigma, level)."""
    t = torch.randint(50, 950, (), generator=stream)
    eps = torch.randn(z.shape[1:], generator=stream).double()[None]
    alpha, sigma, level = (v.double() for v in denoiser.noise_levels(t[None]))
    return alpha * z + sigma * eps, eps, alpha, sigma, level


@pytest.fixture
def other(denoiser):
    """Another text's predictions of the same model."""

    class Other(type(denoiser)):
        def __call__(self, x, level):
            return 0.7 * super().__call__(x, level) - 0.2 * x.square()

    return Other()


def each(latents, gradient, *seeds):
    """(latent, gradient, its own generator) of each picture."""
    return zip(latents.split(1), gradient.split(1), streams(*seeds), strict=True)


def test_descending_timesteps_fall_from_t_max_to_t_min_for_all_pictures(denoiser, latents):
    asked = []

    class Recorder(type(denoiser)):
        def noise_levels(self, t):
            asked.append(t.tolist())
            return super().noise_levels(t)

    prior = SDS(Recorder(), constant(WEIGHT), t_min=100, t_max=900, order="descending")
    for progress in (0.0, 0.25, 0.5, 1.0):
        gradient = prior.gradient(latents, progress, streams(3, 4))
        for z, g, stream in each(latents, gradient, 3, 4):
            eps = torch.randn(4, 4, 4, generator=stream).double()[None]
            alpha, sigma, level = (v.double() for v in denoiser.noise_levels(torch.tensor([900 - 800 * progress])))
            x_t = alpha * z + sigma * eps
            eps_hat = (x_t - alpha * denoiser(x_t, level)) / sigma
            torch.testing.assert_close(g, FACTOR * (eps_hat - eps), rtol=1e-6, atol=1e-9)
    assert asked == [[900, 900], [700, 700], [500, 500], [100, 100]]


def test_an_unknown_order_is_refused(denoiser):
    with pytest.raises(ValueError, match="uniform, descending"):
        SDS(denoiser, order="rising")


def test_csd_is_the_difference_of_two_predicted_noises(denoiser, other, latents):
    prior = CSD(denoiser, constant(WEIGHT), source=other, scale=7.5)
    for z, g, stream in each(latents, prior.gradient(latents, 0.3, streams(3, 4)), 3, 4):
        x_t, _, alpha, sigma, level = noised(denoiser, z, stream)
        eps_target, eps_source = ((x_t - alpha * d(x_t, level)) / sigma for d in (denoiser, other))
        torch.testing.assert_close(g, FACTOR * 7.5 * (eps_target - eps_source), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("scales", [(1.0, 0.0), (7.0, 3.0)])
def test_csd_of_one_text_at_two_guidance_scales_is_the_classifier_of_a_unet(unet, prompts, latents, scales):
    """Guided at c1 and c2 or, at one pass each, by the prompt and the empty text: the same direction."""
    from diffusers import DDPMScheduler

    from referee_core.hosts.diffusers import GuidedUNet

    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    bars, (positive, negative) = scheduler.alphas_cumprod, prompts
    target, source = (GuidedUNet(unet, bars, positive, negative, c) for c in scales)
    two = CSD(target, constant(WEIGHT), source=source).gradient(latents, 0.0, streams(3, 4))
    passes = []
    hook = unet.register_forward_pre_hook(lambda module, args: passes.append(len(args[0])))
    cond, uncond = (GuidedUNet(unet, bars, text, negative, 1.0) for text in (positive, negative))
    single = CSD(cond, constant(WEIGHT), source=uncond).gradient(latents, 0.0, streams(3, 4))
    hook.remove()
    assert passes == [2, 2], "at scale 1 the UNet sees each picture once"
    for z, g, stream in each(latents, single, 3, 4):
        t = torch.randint(50, 950, (), generator=stream)
        x_t = scheduler.add_noise(z, torch.randn(4, 4, 4, generator=stream).double()[None], t[None])
        eps_cond, eps_uncond = (unet(x_t, t, encoder_hidden_states=c).sample for c in prompts)
        expected = FACTOR * (eps_cond - eps_uncond)
        torch.testing.assert_close(g, expected, rtol=1e-6, atol=1e-7 * float(expected.abs().max()))
    torch.testing.assert_close(two, (scales[0] - scales[1]) * single, rtol=1e-5, atol=1e-6 * float(two.abs().max()))


def test_csd_from_a_text_to_itself_is_zero(denoiser, latents):
    assert not CSD(denoiser, source=denoiser).gradient(latents, 0.0, streams(3, 4)).any()


def test_the_bridge_is_sds_and_from_its_start_on_the_way_from_the_negative_prompt(denoiser, other, latents):
    first, second = SDS(denoiser, constant(WEIGHT)), CSD(denoiser, constant(WEIGHT), source=other, scale=5.0)
    prior = Bridge(first, second, start=0.6)
    for progress in (0.0, 0.59, 0.6, 0.99):
        for z, g, stream in each(latents, prior.gradient(latents, progress, streams(3, 4)), 3, 4):
            x_t, eps, alpha, sigma, level = noised(denoiser, z, stream)
            eps_hat, eps_negative = ((x_t - alpha * d(x_t, level)) / sigma for d in (denoiser, other))
            expected = eps_hat - eps if progress < 0.6 else 5 * (eps_hat - eps_negative)
            torch.testing.assert_close(g, FACTOR * expected, rtol=1e-6, atol=1e-9)
    assert prior.weight == constant(WEIGHT)
    with pytest.raises(ValueError, match="same weight"):
        Bridge(first, CSD(denoiser, constant(1.0), source=other))


def ddim_inversion(model, z, timesteps):
    """x at the last of the timesteps, from z taken as x at the first."""
    x = z
    for pair in zip(timesteps[:-1], timesteps[1:], strict=True):
        (alpha, sigma, level), (a, s, _) = ([v.double() for v in model.noise_levels(torch.tensor([t]))] for t in pair)
        eps_hat = (x - alpha * model(x, level)) / sigma
        x = a * (x - sigma * eps_hat) / alpha + s * eps_hat
    return x


@pytest.mark.parametrize(
    ("progress", "steps", "path"),
    [
        (0.0, 4, [0, 250, 500, 750, 949]),
        (0.5, 4, [0, 250, 500]),
        (1.0, 4, [0, 50]),
        (0.5, 10, [0, 100, 200, 300, 400, 500]),
    ],
)
def test_sdi_pulls_towards_the_prediction_from_the_inverted_latent(denoiser, other, latents, progress, steps, path):
    calls = []

    class Counted(type(other)):
        def __call__(self, x, level):
            calls.append(len(x))
            return super().__call__(x, level)

    prior = SDI(denoiser, constant(WEIGHT), inverter=Counted(), inversion_steps=steps)
    unused = streams(3, 4)
    gradient = prior.gradient(latents, progress, unused)
    x_t = ddim_inversion(other, latents, path)
    level = denoiser.noise_levels(torch.tensor([path[-1]])).level
    torch.testing.assert_close(gradient, FACTOR * (latents - denoiser(x_t, level)), rtol=1e-5, atol=1e-7)
    assert calls == [2] * (len(path) - 1)
    assert all(torch.equal(g.get_state(), new.get_state()) for g, new in zip(unused, streams(3, 4), strict=True))


def test_sdi_inverts_each_picture_of_a_batch_to_its_own_timestep(denoiser, other, latents):
    prior = SDI(denoiser, constant(WEIGHT), inverter=other, inversion_steps=4, order="uniform")
    for z, g, stream in each(latents, prior.gradient(latents, 0.0, streams(3, 4)), 3, 4):
        t = int(torch.randint(50, 950, (), generator=stream))
        x_t = ddim_inversion(other, z, [*range(0, t, 250), t])
        level = denoiser.noise_levels(torch.tensor([t])).level
        torch.testing.assert_close(g, FACTOR * (z - denoiser(x_t, level)), rtol=1e-5, atol=1e-7)


def test_sdi_inverts_along_the_way_that_the_model_samples(latents):
    """A model of one known picture: inversion finds the very noise that leads to z, whatever the number of steps."""

    class Known:
        def noise_levels(self, t):
            angle = torch.pi / 2 * (t + 1) / 1001
            return NoiseLevel(angle.cos(), angle.sin(), angle)

        def __call__(self, x, level):
            return 0.5 * torch.ones_like(x)

    prior = SDI(Known(), inverter=Known(), inversion_steps=3)
    alpha, sigma, _ = prior.noise_levels(torch.tensor([0]), latents)
    eps = (latents - alpha * 0.5) / sigma
    alpha, sigma, _ = prior.noise_levels(torch.tensor([700]), latents)
    torch.testing.assert_close(prior.invert(latents, torch.tensor([700, 700])), alpha * 0.5 + sigma * eps)


def test_reward_sds_is_the_mean_of_sds_weighted_by_a_softmax_of_the_rewards(denoiser, latents):
    def reward(z):
        return 3 * z.sum((1, 2, 3)).sin()

    prior = RewardSDS(denoiser, constant(WEIGHT), reward=reward, noises=3, temperature=0.8)
    for z, g, stream in each(latents, prior.gradient(latents, 0.3, streams(3, 4)), 3, 4):
        t = torch.randint(50, 950, (), generator=stream)
        alpha, sigma, level = (v.double() for v in denoiser.noise_levels(t[None]))
        directions, weights = [], []
        for _ in range(3):
            eps = torch.randn(4, 4, 4, generator=stream).double()[None]
            x_t = alpha * z + sigma * eps
            z_hat = denoiser(x_t, level)
            directions.append((x_t - alpha * z_hat) / sigma - eps)
            weights.append((reward(z_hat) / 0.8).exp())
        expected = sum(w * d for w, d in zip(weights, directions, strict=True)) / sum(weights)
        torch.testing.assert_close(g, FACTOR * expected, rtol=1e-6, atol=1e-9)
        assert max(weights) > 2 * min(weights), "the rewards should matter"


def test_reward_sds_with_one_noise_is_sds(denoiser, latents):
    plain = SDS(denoiser, Schedule(9.0, 2.0)).gradient(latents, 0.7, streams(3, 4))
    one = RewardSDS(denoiser, Schedule(9.0, 2.0), reward=lambda z: z.mean((1, 2, 3)), noises=1)
    torch.testing.assert_close(one.gradient(latents, 0.7, streams(3, 4)), plain)


@pytest.mark.parametrize("make", ["csd", "sdi", "reward"])
def test_a_picture_of_a_batch_is_pulled_as_it_would_be_alone(denoiser, other, latents, make):
    prior = {
        "csd": CSD(denoiser, source=other),
        "sdi": SDI(denoiser, inverter=other),
        "reward": RewardSDS(denoiser, reward=lambda z: z.mean((1, 2, 3))),
    }[make]
    both = prior.gradient(latents, 0.4, streams(5, 6))
    for i in range(2):
        alone = prior.gradient(latents[i : i + 1], 0.4, streams(5 + i))
        torch.testing.assert_close(alone[0], both[i], rtol=1e-12, atol=1e-15)


def test_impossible_numbers_are_refused(denoiser):
    with pytest.raises(ValueError, match="inversion_steps"):
        SDI(denoiser, inverter=denoiser, inversion_steps=0)
    for wrong in ({"noises": 0}, {"temperature": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RewardSDS(denoiser, reward=len, **wrong)
