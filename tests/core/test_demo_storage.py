"""The demo's weight files."""

import pytest
import torch

from referee_core.demo import storage


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "FOLDER", tmp_path / "weights")


def test_what_is_saved_comes_back_in_single_precision_rounded_to_half():
    state = {"a": torch.randn(3, 4).T, "b.c": torch.randn(2, dtype=torch.float64, requires_grad=True)}
    storage.save("vae", state)
    loaded = storage.load("vae")
    assert loaded.keys() == state.keys()
    for name, value in state.items():
        assert loaded[name].dtype == torch.float32 and not loaded[name].requires_grad
        assert torch.equal(loaded[name], value.detach().half().float())


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="unet.safetensors"):
        storage.path("unet")
    storage.save("vae", {"a": torch.zeros(1)})
    assert storage.path("vae").name == "vae.safetensors"
    with pytest.raises(FileNotFoundError, match="unet.safetensors"):
        storage.load("unet")
