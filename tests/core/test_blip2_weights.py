"""Referee files: what is written comes back, and every fault is named."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from referee_core.referees.blip2.weights import load, save


@pytest.fixture
def file(tmp_path, blip2, vocabulary):
    path = tmp_path / "models" / "tiny.safetensors"
    save(path, blip2, vocabulary, torch.float32)
    return path


def rewrite(path, tensors=lambda state: state, header=lambda metadata: metadata):
    """Change a file's tensors or its header."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(tensors(load_file(path)), path, header(metadata))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_is_saved_comes_back_in_single_precision(tmp_path, blip2, vocabulary, dtype):
    save(tmp_path / "r.safetensors", blip2, vocabulary, dtype)
    referee = load(str(tmp_path / "r.safetensors"))
    assert referee.network.config == blip2.config
    assert referee.tokenizer.vocabulary == vocabulary
    assert referee.image_size == blip2.config.image_size
    state, loaded = blip2.state_dict(), referee.network.state_dict()
    assert loaded.keys() == state.keys()
    for name, value in loaded.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[name].to(dtype).float())


def test_a_loaded_referee_judges_like_the_saved_one(file, blip2_referee):
    loaded = load(file)
    assert not any(p.requires_grad for p in loaded.network.parameters()) and not loaded.network.training
    images = torch.rand(2, 3, 8, 8)
    expected = blip2_referee.losses(
        blip2_referee.encode_images(images.double()), blip2_referee.encode("a red cat"), ("itm", "caption")
    )
    losses = loaded.losses(loaded.encode_images(images), loaded.encode("a red cat"), ("itm", "caption"))
    for term, value in expected.items():
        torch.testing.assert_close(losses[term].double(), value, rtol=1e-4, atol=1e-5)


def test_missing_surplus_and_misshaped_tensors_are_all_named(file):
    def spoil(state):
        state["more.weight"] = torch.zeros(2)
        state["itm_head.bias"] = torch.zeros(3)
        del state["qformer.query_tokens"], state["vision.cls_token"]
        return state

    rewrite(file, spoil)
    with pytest.raises(ValueError) as error:
        load(file)
    message = str(error.value)
    assert "tiny.safetensors" in message
    for part in ("missing qformer.query_tokens", "missing vision.cls_token", "surplus more.weight"):
        assert part in message
    assert "itm_head.bias is (3,), expected (2,)" in message
    assert message.count(";") == 3


def test_sizes_that_do_not_fit_the_tensors_are_refused(file, blip2):
    narrower = json.dumps(vars(replace(blip2.config, queries=2)))
    rewrite(file, header=lambda metadata: metadata | {"config": narrower})
    with pytest.raises(ValueError, match=r"qformer.query_tokens is \(1, 3, 16\), expected \(1, 2, 16\)"):
        load(file)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content[:20],
        lambda content: b"",
        lambda content: b"<html>not found</html>" + bytes(200),
        lambda content: content + b"more",
    ],
    ids=["a byte short", "half", "within the header", "empty", "a web page", "too long"],
)
def test_a_damaged_file_is_refused_by_name(file, spoil):
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(ValueError, match=r"tiny.safetensors.*damaged"):
        load(file)


class Trap:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.mark.parametrize("zipped", [False, True])
def test_a_renamed_pickle_is_refused_and_never_executed(tmp_path, zipped):
    path, mark = tmp_path / "evil.safetensors", tmp_path / "executed"
    torch.save({"weight": Trap(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"evil.safetensors.*pickle"):
        load(path)
    assert not mark.exists()
    function, arguments = Trap(mark).__reduce__()
    function(*arguments)
    assert mark.exists(), "the trap itself must work"


@pytest.mark.parametrize("name", ["absent.safetensors", "absent.pth", "empty folder"])
def test_a_missing_file_or_an_empty_folder_is_reported(tmp_path, name):
    (tmp_path / "empty folder").mkdir()
    with pytest.raises(FileNotFoundError, match=name):
        load(tmp_path / name)


def test_other_safetensors_are_not_taken_for_a_referee(file):
    rewrite(file, header=lambda metadata: metadata | {"format": "pt"})
    with pytest.raises(ValueError, match="tiny.safetensors is not a BLIP-2 stage-1 model"):
        load(file)
    rewrite(file, header=lambda metadata: None)
    with pytest.raises(ValueError, match="tiny.safetensors is not a BLIP-2 stage-1 model"):
        load(file)


@pytest.mark.parametrize(
    "header",
    [
        lambda m: {k: v for k, v in m.items() if k != "config"},
        lambda m: {k: v for k, v in m.items() if k != "vocabulary"},
        lambda m: m | {"config": m["config"][:-5]},
        lambda m: m | {"config": json.dumps(json.loads(m["config"]) | {"new_size": 3})},
        lambda m: m | {"vocabulary": json.dumps([*json.loads(m["vocabulary"]), "zebra"])},
    ],
    ids=["no config", "no vocabulary", "cut config", "unknown size", "a word without embedding"],
)
def test_a_damaged_header_is_refused_by_name(file, header):
    rewrite(file, header=header)
    with pytest.raises(ValueError, match="tiny.safetensors"):
        load(file)
