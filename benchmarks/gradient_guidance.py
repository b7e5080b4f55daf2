"""The simulations of Gradient Guidance for Diffusion Models: An Optimization Perspective (arXiv 2404.14743), by this
pack's own core.

    python -m benchmarks.gradient_guidance      # five minutes on a CPU

Data lie in a subspace: x = A u with u ~ N(0, I), A in R^(64x16) with orthonormal columns. Rewards (here their negative,
the loss, is lowered): f1 = 10 - (theta^T x - 3)^2, where theta lies nine tenths outside the subspace or in it, and
f2 = 5 - |x - b| / 2. 200 DDPM steps on the cosine schedule, batches of 32, five seeds; sigma = 0.1. The score is the
exact one, whose mean Algorithm 2 teaches, or that of a small network trained on such data.
"""

import argparse
import csv
import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from referee_core.interfaces import NoiseLevel
from referee_core.methods.gradient_guidance import GuidanceSettings, TrustRegion, guided
from referee_core.methods.iterated_linearisation import Linearised, Round, rounds, score_matching
from referee_core.sampling import ddim

RESULTS = Path(__file__).parent / "results" / "gradient-guidance"
PLOT = Path(__file__).parents[1] / "web" / "docs" / "images" / "gradient_guidance.png"
D, d, BATCH, STEPS = 64, 16, 32, 200
SEEDS = (1234, 2345, 3456, 4567, 5678)
GUIDED = {"G": "naive", "G_loss": "look-ahead"}
F64 = {"dtype": torch.float64}


def subspace(seed: int = 0) -> torch.Tensor:
    """A [D, d] with orthonormal columns."""
    return torch.linalg.qr(torch.randn(D, d, generator=torch.Generator().manual_seed(seed), **F64))[0]


class Exact(torch.nn.Module):
    """E[x0 | x] of N(mean, A A^T) data, in k-space. Its mean, one a seed, can be taught."""

    rate, optimiser = 100.0, torch.optim.SGD

    def __init__(self, A: torch.Tensor):
        super().__init__()
        self.mean = torch.nn.Parameter(torch.zeros(len(SEEDS), 1, D, **F64))
        self.register_buffer("P", A @ A.T)

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        mean = self.mean.expand(-1, len(x) // len(SEEDS), D).reshape(x.shape)
        return mean + (x - mean) @ self.P / (1 + sigma.view(-1, 1) ** 2)


class Trained(torch.nn.Module):
    """A residual network, one a seed, which has learned E[x0 | x] from samples; preconditioned as in arXiv
    2206.00364."""

    rate, optimiser = 2e-5, torch.optim.Adam

    def __init__(self, A: torch.Tensor, width: int = 256, depth: int = 3, steps: int = 3000):
        super().__init__()
        g, sizes = torch.Generator().manual_seed(1), [D + 1, *[width] * (depth + 1), D]
        self.weights = torch.nn.ParameterList(
            (2 * torch.rand(1, n + 1, m, generator=g, **F64) - 1) / math.sqrt(n)
            for n, m in zip(sizes[:-1], sizes[1:], strict=True)
        )
        optimiser = torch.optim.Adam(self.parameters(), 2e-3)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            learn(self, optimiser, torch.randn(256, d, generator=g, **F64) @ A.T, g)
            falling.step()

    def copies(self) -> "Trained":
        """One for each seed."""
        made = deepcopy(self)
        made.weights = torch.nn.ParameterList(w.detach().repeat(len(SEEDS), 1, 1) for w in self.weights)
        return made

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        sigma, s = sigma.view(-1, 1), math.sqrt(d / D)
        total = sigma**2 + s**2
        h = torch.cat([x / total.sqrt(), sigma.log() / 4], 1).view(len(self.weights[0]), -1, D + 1)
        enter, *inner, leave = (lambda h, w=w: torch.baddbmm(w[:, -1:], h, w[:, :-1]) for w in self.weights)
        h = torch.nn.functional.silu(enter(h))
        for layer in inner:
            h = h + torch.nn.functional.silu(layer(h))
        return s**2 / total * x + sigma * s / total.sqrt() * leave(h).reshape(x.shape)


def learn(model: torch.nn.Module, optimiser: torch.optim.Optimizer, x0: torch.Tensor, g: torch.Generator) -> None:
    """One step of denoising score matching."""
    sigma = torch.exp(1.5 * torch.randn(len(x0), generator=g, **F64) - 1)
    loss = score_matching(model, x0, sigma, torch.randn(x0.shape, generator=g, **F64))
    (loss * sigma**2 / (1 + sigma**2)).mean().backward()
    optimiser.step()
    optimiser.zero_grad()


def noise_levels() -> torch.Tensor:
    """sqrt(1 - abar_t) / sqrt(abar_t) of the cosine schedule, falling to 0 [STEPS + 1]."""
    f = torch.cos((torch.arange(STEPS + 1, **F64) / STEPS + 0.008) / 1.008 * math.pi / 2) ** 2
    abar = torch.cumprod(1 - (1 - f[1:] / f[:-1]).clamp_max(0.999), 0)
    return torch.cat([((1 - abar) / abar).sqrt().flip(0), torch.zeros(1, **F64)])


def ddpm(predict: Callable, x: torch.Tensor, sigmas: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """Samples by DDPM, which is ancestral sampling; in k-space."""
    levels = [NoiseLevel(torch.ones_like(sigma), sigma, sigma) for sigma in sigmas[:-1]]
    *_, z = ddim(predict, x, levels, 1.0, lambda x: torch.randn(x.shape, generator=g, **F64))
    return z


@dataclass(frozen=True)
class F1:
    """-f1. theta: [B, D]."""

    theta: torch.Tensor
    aim = None

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        r = (self.theta * x).sum(1) - 3
        return r**2 - 10, 2 * r[:, None] * self.theta


@dataclass(frozen=True)
class F2:
    """-f2. b: [B, D]."""

    b: torch.Tensor
    aim = None

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        r = x - self.b
        length = r.norm(dim=1)
        return length / 2 - 5, r / (2 * length[:, None])


def theta(A: torch.Tensor, outside: float) -> torch.Tensor:
    """Of each seed a unit vector, repeated for its batch [B, D]. outside: |theta_perp| / |theta_par|."""
    P, made = A @ A.T, []
    for seed in SEEDS:
        v = torch.randn(D, generator=torch.Generator().manual_seed(seed), **F64)
        inside, rest = P @ v, v - P @ v
        v = inside / inside.norm() + outside * rest / rest.norm()
        made.append((v / v.norm()).expand(BATCH, D))
    return torch.cat(made)


def off(v: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
    """Of each vector the share of its length that lies outside the subspace."""
    return (v - v @ A @ A.T).norm(dim=1) / v.norm(dim=1).clamp_min(1e-300)


def simulate(
    model: torch.nn.Module, A: torch.Tensor, objective: F1 | F2, gradient: str, delta: float, count: int,
    learns: bool = False,
) -> Iterator[tuple[Round, list[float]]]:  # fmt: skip
    """Algorithm 1, or 2 where it learns. Yields each round and, for each of its guided steps, the off-subspace share of
    the guidance."""
    g, sigmas, settings = torch.Generator().manual_seed(0), noise_levels(), GuidanceSettings(gradient, TrustRegion())
    optimiser, shares = model.optimiser(model.parameters(), model.rate), []

    def sample(surrogate: Linearised | None) -> torch.Tensor:
        def predict(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                z = model(x, sigma)
            if surrogate is None:
                return z
            moved = guided(z, x, sigma, surrogate, settings, lambda x: model(x, sigma)).z
            shares.append(off(moved - z, A).mean().item())
            return moved

        return ddpm(predict, sigmas[0] * torch.randn(len(SEEDS) * BATCH, D, generator=g, **F64), sigmas, g)

    for made in rounds(sample, objective, count, delta):
        yield made, shares
        shares = []
        if learns:
            learn(model, optimiser, made.z, g)


class Case(NamedTuple):
    """reward, guidance: names. outside: of theta, None for f2. count: rounds with the exact score."""

    reward: str
    guidance: str
    outside: float | None
    delta: float
    count: int

    def objective(self, A: torch.Tensor) -> F1 | F2:
        if self.outside is not None:
            return F1(theta(A, self.outside))
        b = torch.randn(len(SEEDS), D, generator=torch.Generator().manual_seed(0), **F64)
        return F2(b.repeat_interleave(BATCH, 0))


CASES = [
    Case("f1, theta 9:1 outside", "G", 9.0, 0.9, 200),
    Case("f1, theta 9:1 outside", "G_loss", 9.0, 0.2, 200),
    Case("f1, theta inside", "G_loss", 0.0, 0.05, 200),
    Case("f2", "G_loss", None, 1.0, 50),
]


def run(A: torch.Tensor, scores: dict[str, Callable[[], torch.nn.Module]], most: dict[str, int]) -> Iterator[dict]:
    """One row a round: the mean reward of each seed, how far samples and guidance lie outside."""
    for score, make in scores.items():
        for case in CASES:
            if score != "exact" and case.outside != 9.0:
                continue
            for learns in (False, True):
                began, count = time.monotonic(), min(case.count, most[score])
                objective = case.objective(A)
                for made, shares in simulate(make(), A, objective, GUIDED[case.guidance], case.delta, count, learns):
                    rewards = (-made.loss).view(len(SEEDS), BATCH).mean(1).tolist()
                    yield {
                        "score": score, "reward": case.reward, "guidance": case.guidance, "algorithm": 1 + learns,
                        "round": made.index, **{str(s): round(r, 4) for s, r in zip(SEEDS, rewards, strict=True)},
                        "samples outside": f"{off(made.z, A).mean().item():.3g}",
                        "guidance outside": f"{sum(shares) / len(shares):.3g}" if shares else "",
                    }  # fmt: skip
                print(f"{score}, {case}, learns {learns}: {time.monotonic() - began:.0f} s", flush=True)


def lines(rows: list[dict]) -> dict[tuple, list[dict]]:
    """The rounds of each run."""
    keys = ("score", "reward", "guidance", "algorithm")
    found = {}
    for row in rows:
        found.setdefault(tuple(row[k] for k in keys), []).append(row)
    return found


def markdown(rows: list[dict]) -> str:
    head = (
        "score | reward | guidance | algorithm | rounds | reward at the end, by seed | guidance outside, first round "
    )
    text = [f"| {head}| samples outside, last round |", "|---" * 8 + "|"]
    for key, own in lines(rows).items():
        rewards = " ".join(f"{own[-1][str(s)]:.2f}" for s in SEEDS)
        cells = (*key, own[-1]["round"], rewards, own[1]["guidance outside"], own[-1]["samples outside"])
        text.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(text) + "\n"


def plot(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = list(dict.fromkeys((row["score"], row["reward"]) for row in rows))
    figure, axes = plt.subplots(1, len(panels), figsize=(3.2 * len(panels), 3.4), layout="constrained")
    for axis, panel in zip(axes, panels, strict=True):
        for (*where, guidance, algorithm), own in lines(rows).items():
            if tuple(where) != panel:
                continue
            values = torch.tensor([[row[str(s)] for s in SEEDS] for row in own])
            colour = f"C{list(GUIDED).index(guidance)}"
            style = {"color": colour, "linestyle": "-" if algorithm == 2 else "--"}
            axis.plot(values.mean(1), label=f"{guidance}, Algorithm {algorithm}", **style)
            axis.fill_between(range(len(own)), *values.aminmax(dim=1), color=colour, alpha=0.12)
        axis.set(title=f"{panel[1]}; {panel[0]} score", xlabel="round")
        axis.title.set_fontsize(9)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    axes[0].set_ylabel("reward: mean and range of five seeds")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    A = subspace()
    network = Trained(A)
    scores = {"exact": lambda: Exact(A), "trained": network.copies}
    rows = list(run(A, scores, {"exact": 200, "trained": 40}))
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    RESULTS.with_suffix(".md").write_text(markdown(rows))
    plot(rows, PLOT)
    print(markdown(rows))


if __name__ == "__main__":
    main()
