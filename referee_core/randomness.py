"""Randomness from explicit CPU generators, one for each purpose and image."""

from collections.abc import Sequence

import torch

Streams = dict[str, list[torch.Generator]]


def generators(seeds: Sequence[int], purposes: Sequence[str]) -> Streams:
    """One CPU generator for each purpose and image: leaving a part out changes nothing in the others' randomness, and
    each image of a batch goes the way it would go alone."""

    def one(seed: int, purpose: int) -> torch.Generator:
        spread = 0x9E3779B97F4A7C15 * (1 + purpose)  # the golden ratio of 64 bits
        return torch.Generator().manual_seed((seed + spread) % 2**63)

    return {name: [one(seed, k) for seed in seeds] for k, name in enumerate(purposes)}


def randn_like(z: torch.Tensor, streams: Sequence[torch.Generator]) -> torch.Tensor:
    """Normal noise of z's shape, image i from generator i."""
    return torch.stack([torch.randn(z.shape[1:], generator=g, dtype=torch.float32) for g in streams]).to(z)


def states(streams: Streams) -> dict[str, list[torch.Tensor]]:
    return {name: [g.get_state() for g in own] for name, own in streams.items()}


def restore(streams: Streams, saved: dict[str, list[torch.Tensor]]) -> None:
    for name, own in saved.items():
        for generator, state in zip(streams[name], own, strict=True):
            generator.set_state(state)
