"""Small files of LAVIS's kind, for the tests that read them."""

import json
from pathlib import Path

import torch
from safetensors import safe_open

from referee_core.referees import FULL, Precision
from referee_core.referees.blip2.keys import translate
from referee_core.referees.blip2.weights import dtype_of
from referee_core.referees.tensor_files import LazyTensor

PARITY = Path(__file__).parents[1] / "parity"


def read_lavis() -> tuple[dict, list[str]]:
    """LAVIS's weights by LAVIS's names, and its words."""
    with safe_open(PARITY / "published-pattern.safetensors", framework="pt") as file:
        names = [k for k in file.keys() if not k.startswith("expected.")]  # noqa: SIM118
        return {k: file.get_tensor(k) for k in names}, json.loads(file.metadata()["words"])


def put_lavis(folder: Path, weights: dict, words: list[str]) -> Path:
    tower = {k.removeprefix("visual_encoder."): v for k, v in weights.items() if k.startswith("visual_encoder.")}
    tower |= {"norm.weight": torch.ones(3), "head.weight": torch.ones(3)}
    rest = {k: v for k, v in weights.items() if not k.startswith("visual_encoder.")}
    torch.save({"model": rest}, folder / "blip2_pretrained.pth")
    torch.save(tower, folder / "eva_vit_g.pth")
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return folder / "blip2_pretrained.pth"


def expected_state(weights: dict) -> dict[str, torch.Tensor]:
    ours, _ = translate({k: LazyTensor(tuple(v.shape), lambda v=v: v) for k, v in weights.items()})
    return {k: v.read() for k, v in ours.items()}


def assert_same_state(referee, weights: dict, precision: Precision = FULL) -> None:
    state = referee.network.state_dict()
    expected = expected_state(weights)
    assert state.keys() == expected.keys()
    for name, value in state.items():
        assert value.dtype == dtype_of(name, precision)
        assert torch.equal(value, expected[name].to(dtype_of(name, precision)))
