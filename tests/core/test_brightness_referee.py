"""The example of docs/referees.md works: as a file, as a loss, in the method."""

import math

import pytest
import torch
from safetensors.torch import save_file

from docs import brightness_referee
from referee_core import referees
from referee_core.augment import NONE
from referee_core.losses import bind, plain_loss
from referee_core.methods.referee_can_play import LoopSettings, referee_can_play
from referee_core.schedules import constant


@pytest.fixture
def referee(tmp_path, monkeypatch):
    """Read by the registry from a file, as Load Referee does, with the one line added."""
    monkeypatch.setattr(referees, "import_module", lambda name, package: brightness_referee)
    save_file({"sharpness": torch.tensor(4.0)}, tmp_path / "brightness.safetensors")
    return referees.load(tmp_path / "brightness.safetensors")


def test_its_probability_is_the_formulas(referee):
    pictures = torch.stack([torch.full((3, 64, 64), level) for level in (0.0, 0.75, 1.0)])
    loss = bind(referee, "a bright room", brightness=1.0)
    _, terms = plain_loss(loss, pictures)
    expected = [math.exp(-4 * (level - 1) ** 2) for level in (0.0, 0.75, 1.0)]
    torch.testing.assert_close(loss.match(terms), torch.tensor(expected))


def test_the_method_makes_a_picture_brighter(referee):
    loss, settings = (
        bind(referee, "bright", brightness=1.0),
        LoopSettings(steps=30, tail=0, lr=constant(0.05), noise=0.0),
    )
    *_, last = referee_can_play(torch.zeros(1, 3, 8, 8), lambda z: z + 0.3, loss, None, NONE, settings=settings)
    assert float((last.z + 0.3).mean()) > 0.8


def test_other_texts_and_files_are_refused(referee, tmp_path):
    with pytest.raises(ValueError, match="names no brightness"):
        bind(referee, "a cat", brightness=1.0)
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(referees.UnknownFile, match="other.safetensors holds no brightness referee"):
        referees.load(tmp_path / "other.safetensors")
