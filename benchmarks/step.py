"""What one step of Referee Can Play costs: ours against the way of the published research code, in one run.

    python -m benchmarks.step                               # networks of the small models' sizes; a minute on a CPU
    python -m benchmarks.step --full-size --output step.md  # SD 1.5 and BLIP-2 at 512x512, on a graphics card

Both take the same step on the same networks (random weights), with the same prior, number formats and distribution of
views, in turn, so that whatever else the machine does disturbs both. The published way is written here from a
description, not copied. In each iteration it

- decodes the latent three times, twice only for a log, and keeps all three graphs to the end of the iteration;
- draws all views in the graph of the picture and the latent, by kornia's modules one after the other;
- cleans, tokenises and encodes the text anew, and computes the contrastive term, which it never uses;
- leaves autograd's anomaly detection on.

Seconds are medians; memory is the most that PyTorch's allocator has handed out at a time during a step, on top of the
networks and what a run keeps; FLOP are those of matrix products, convolutions and attention, and the last column is
their share of the machine's own matrix product over the same time. Needs diffusers.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from referee_core.augment import REFERENCE_CODE
from referee_core.averaging import EMARestart
from referee_core.losses import bind
from referee_core.methods.referee_can_play import LoopSettings, referee_can_play
from referee_core.priors.sds import SDS
from referee_core.referees.blip2.model import caption_loss, caption_mask, itm_loss
from referee_core.referees.blip2.qformer import QFormer
from referee_core.referees.pixels import square

from .networks import PROMPT, Networks, full_size, matrix_rate, small

W1, NOISE, CONTRAST_DIM, TEMPERATURE = 2.0, 0.2, 256, 0.07
Step = Callable[[], object]


def ours(nets: Networks, views: int, micro_batch: int) -> Step:
    """The next step of a run, as the nodes make it."""
    settings = LoopSettings(steps=1_000_000, tail=0, micro_batch=micro_batch)
    loss, augmentation = bind(nets.referee, PROMPT, itm=1.0, caption=1.0), replace(REFERENCE_CODE, count=views)
    run = referee_can_play(nets.latent, nets.decode, loss, SDS(nets.denoiser), augmentation, EMARestart(), settings)
    return lambda: next(run)


def published(nets: Networks, views: int) -> Step:
    """The next step, in the published way."""
    import kornia.augmentation as K

    maps = torch.nn.Sequential(
        K.RandomAffine(30.0, translate=(0.1, 0.1), p=1.0),
        K.RandomPerspective(0.2, p=0.4),
        K.ColorJitter(0.1, 0.1, 0.1, 0.1, p=0.5),
        K.RandomErasing((0.1, 0.4), (0.3, 3.3), p=1.0, same_on_batch=True),
    )
    referee, net, prior, stream = nets.referee, nets.referee.network, SDS(nets.denoiser), [torch.Generator()]
    like = {"device": nets.latent.device}
    to_image, to_text = torch.randn(2, CONTRAST_DIM, net.config.dim, **like) * net.config.dim**-0.5
    z = nets.latent.clone().requires_grad_()
    adam = torch.optim.Adam([z], lr=1.0)

    def decode() -> torch.Tensor:
        latent = (z / nets.vae.config.scaling_factor).to(nets.vae.dtype)
        return nets.vae.decode(latent).sample.float() / 2 + 0.5

    def losses(pictures: torch.Tensor) -> torch.Tensor:
        image = referee.encode_images(pictures)
        mask, match_ids, caption_ids = referee.encode(PROMPT).for_images(pictures)
        itm = itm_loss(net.itm_logits(image, match_ids, mask))
        hidden = net.qformer(caption_ids, caption_mask(mask, net.config.queries), image)
        queries, text = hidden.split([net.config.queries, mask.shape[1]], dim=1)
        caption = caption_loss(net.caption_head(text, net.qformer.word_embeddings), caption_ids, mask)
        seen = F.normalize(F.linear(queries, to_image), dim=-1)
        read = F.normalize(F.linear(text_alone(net.qformer, match_ids)[:, 0], to_text), dim=-1)
        _unused = F.cross_entropy((seen @ read.T).amax(1) / TEMPERATURE, torch.arange(views, **like))
        return itm + caption

    def step() -> None:
        with torch.autograd.set_detect_anomaly(True):
            picture, *_logged = (decode() for _ in range(3))
            x = square(picture.expand(views, -1, -1, -1), referee.image_size, pooled=True)
            x = maps(x)
            x = x + 0.1 * torch.rand(views, 1, 1, 1, **like) * torch.randn_like(x)
            loss = losses(x + NOISE * torch.randn_like(x)).mean()
            (g,) = torch.autograd.grad(loss, z)
        g_sds = prior.gradient(z.detach(), 0.0, stream)
        z.grad = W1 * g * g_sds.norm() / g.norm() + NOISE * torch.randn_like(z)
        adam.step()
        with torch.no_grad():
            z.add_(NOISE * torch.randn_like(z) - g_sds)

    return step


def text_alone(qformer: QFormer, ids: torch.Tensor) -> torch.Tensor:
    """Hidden states [B, L, dim] of a text without an image."""
    positions = torch.arange(ids.shape[1], device=ids.device)
    x = qformer.norm(qformer.word_embeddings(ids) + qformer.position_embeddings(positions))
    for layer in qformer.layers:
        x = layer.text_mlp(layer.attention(x, layer.attention.keys_values(x)))
    return x


def peak_memory(step: Step, device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))


def flop(step: Step) -> int:
    """Of one step. The plain attention is counted: the CPU's fused one is not among those that the counter knows."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        step()
    return counter.get_total_flops()


def seconds(step: Step, device: torch.device) -> float:
    began = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full-size", action="store_true", help="the published sizes instead of the small ones")
    parser.add_argument("--size", type=int, default=512, help="of the picture at full size")
    parser.add_argument("--views", type=int, default=10)
    parser.add_argument("--micro-batch", type=int, nargs="+", default=[10, 2], help="views at a time of ours")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, help="a Markdown file for the table")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    nets = full_size(device, arguments.size) if arguments.full_size else small(device)
    ways = {"published way": published(nets, arguments.views)}
    ways |= {f"ours, {n} views at a time": ours(nets, arguments.views, n) for n in arguments.micro_batch}

    times, rates = {name: [] for name in ways}, []
    memory = {name: peak_memory(step, device) for name, step in ways.items()}
    work = {name: flop(step) for name, step in ways.items()}
    for _ in range(arguments.rounds):
        rates.append(matrix_rate(device))
        for name, step in ways.items():
            times[name].append(seconds(step, device))
    rate = statistics.median(rates)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    lines = [
        f"{where}; {rate / 1e9:.0f} GFLOP/s of matrix products; {arguments.views} views",
        "",
        "| | seconds | times faster | memory, MB | of the published way's | GFLOP | of the matrix rate |",
        "|---|---|---|---|---|---|---|",
    ]
    first = next(iter(ways))
    for name, taken in times.items():
        faster = statistics.median(a / b for a, b in zip(times[first], taken, strict=True))
        middle = statistics.median(taken)
        lines.append(
            f"| {name} | {middle:.3f} | {faster:.2f} | {memory[name] / 1e6:.0f} | {memory[name] / memory[first]:.2f} "
            f"| {work[name] / 1e9:.1f} | {work[name] / middle / rate:.0%} |"
        )
    table = "\n".join(lines)
    print(table)
    if arguments.output:
        arguments.output.write_text(table + "\n")


if __name__ == "__main__":
    main()
