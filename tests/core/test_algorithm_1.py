"""The loop against Algorithm 1 of the paper, written down once more in a straight line and in the paper's symbols."""

import math
from dataclasses import replace

import pytest
import torch

from referee_core.augment import NONE, PAPER
from referee_core.averaging import EMARestart
from referee_core.methods.referee_can_play import PURPOSES, REFERENCE_CODE, LoopSettings, referee_can_play
from referee_core.randomness import generators


def algorithm_1(toys, z, A, seed, steps, tail, w1, e_s, e_rs, sigma_z, lr, lr_sds, decay, sigma_g, sigma_tail):
    """The paper's Algorithm 1 for one picture [1, ...], line by line; yields z_i. lr and lr_sds are functions of i."""
    streams = generators([seed], PURPOSES)

    def draw(purpose):
        return torch.randn(z.shape[1:], generator=streams[purpose][0]).double()

    m = v = torch.zeros_like(z)
    z_ema = z
    for i in range(1, steps + 1):
        w2 = 600 + 200 * math.cos(math.pi * (i - 1) / steps)
        t = torch.randint(50, 950, (1,), generator=streams["sds"][0])
        eps = draw("sds")
        alpha, sigma, level = (v.double() for v in toys.denoiser.noise_levels(t))
        x_t = alpha * z + sigma * eps
        eps_hat = (x_t - alpha * toys.denoiser(x_t, level)) / sigma
        g_sds = w2 * 2 / 64**2 * (eps_hat - eps)
        if i <= steps - tail:
            z = z.detach().requires_grad_()
            x = toys.decode(z)
            x = x + (x.clamp(0, 1) - x).detach()
            views = A(x.expand(A.count, -1, -1, -1), streams["augmentation"][0])
            losses = toys.referee.losses(views, 0.5, ("level", "waves"))
            (g,) = torch.autograd.grad((losses["level"] + 0.5 * losses["waves"]).mean(), z)
            g = w1 * g * g_sds.norm() / g.norm()
            z = z.detach()
            g = g + sigma_g * draw("gradient noise") + decay * z
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            z = z - lr(i) * (m / (1 - 0.9**i)) / ((v / (1 - 0.999**i)).sqrt() + 1e-8)
        z = z - lr_sds(i) * g_sds
        z = z + (sigma_z if i <= steps - tail else sigma_tail) * draw("noise")
        z_ema = 0.95 * z_ema + 0.05 * z
        if i <= steps - tail and i >= e_s and (i - e_s) % e_rs == 0:
            z = z_ema
        yield z


@pytest.mark.parametrize("augmentation", [NONE, replace(PAPER, count=3)])
@pytest.mark.parametrize("variant", ["paper", "as printed", "reference code"])
def test_the_loop_is_algorithm_1(toys, variant, augmentation):
    steps, tail, restart = 14, 3, EMARestart(start=4, interval=3)

    def lr(i):
        return 0.75 + 0.25 * math.cos(math.pi * (i - 1) / steps)

    def warm(i):
        return lr(i) * min(1, i / 10)

    if variant == "paper":
        settings = LoopSettings(steps=steps, tail=tail)
        symbols = {"lr": lr, "lr_sds": lr, "decay": 0.0, "sigma_g": 0.2, "sigma_tail": 0.2}
    elif variant == "as printed":  # without the noise on the gradient that makes w1 act
        settings = LoopSettings(steps=steps, tail=tail, gradient_noise=0.0)
        symbols = {"lr": lr, "lr_sds": lr, "decay": 0.0, "sigma_g": 0.0, "sigma_tail": 0.2}
    else:
        settings = replace(REFERENCE_CODE, steps=steps, tail=tail)
        symbols = {"lr": warm, "lr_sds": lambda i: 1.0, "decay": 5e-4, "sigma_g": 0.2, "sigma_tail": 0.01}
    symbols |= {"w1": 2.0, "e_s": 4, "e_rs": 3, "sigma_z": 0.2}
    z = toys.z[:1]
    ours = list(referee_can_play(z, toys.decode, toys.loss, toys.prior, augmentation, restart, settings, seed=5))
    paper = list(algorithm_1(toys, z, augmentation, 5, steps, tail, **symbols))
    assert (paper[-1] - z).norm() > 1
    for step, z_i in zip(ours, paper, strict=True):
        torch.testing.assert_close(step.z, z_i, rtol=1e-8, atol=1e-9)
