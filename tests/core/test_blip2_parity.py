"""Our network against salesforce-lavis 1.0.2, in float64, on the fixtures that tests/parity/make_fixtures.py wrote."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from referee_core.referees.blip2.config import Blip2Config
from referee_core.referees.blip2.keys import infer_config, translate
from referee_core.referees.blip2.model import MATCH, Blip2, caption_loss, itm_loss
from referee_core.referees.blip2.text import DEC, Tokenizer
from referee_core.referees.tensor_files import LazyTensor

FIXTURES = sorted((Path(__file__).parents[1] / "parity").glob("*.safetensors"))


class Fixture:
    def __init__(self, path: Path):
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.texts, words = json.loads(metadata["texts"]), json.loads(metadata["words"])
        self.sizes = Blip2Config(**json.loads(metadata["sizes"]))
        self.expected = {k.removeprefix("expected."): v for k, v in tensors.items() if k.startswith("expected.")}
        self.weights = {k: v for k, v in tensors.items() if not k.startswith("expected.")}
        ours, self.unknown = translate({k: LazyTensor(tuple(v.shape), lambda v=v: v) for k, v in self.weights.items()})
        self.inferred = infer_config(ours)
        self.network = Blip2(self.sizes).double().requires_grad_(False)
        self.network.load_state_dict({k: v.read().double() for k, v in ours.items()})
        self.vocabulary = [*words, DEC]
        self.tokenizer = Tokenizer(self.vocabulary, self.sizes.max_text_tokens)


@pytest.fixture(scope="module", params=FIXTURES, ids=lambda path: path.stem)
def fixture(request):
    return Fixture(request.param)


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert actual.dtype == torch.float64
    assert ((actual - expected).norm() / expected.norm()).item() <= 1e-9


def test_there_are_three_models():
    assert len(FIXTURES) == 3


def test_every_tensor_has_a_name_of_ours_and_the_sizes_follow_from_the_shapes(fixture):
    assert fixture.unknown == []
    published = Blip2Config()  # what no shape tells
    told = replace(
        fixture.sizes,
        heads=fixture.inferred.heads,
        vision_heads=fixture.inferred.vision_heads,
        max_text_tokens=published.max_text_tokens,
    )
    assert fixture.inferred == told


@pytest.mark.parametrize("i", range(3))
def test_one_text_at_a_time(fixture, i):
    expected = {k.removeprefix(f"{i}."): v for k, v in fixture.expected.items() if k.startswith(f"{i}.")}
    text = fixture.tokenizer.encode(fixture.texts[i])
    assert torch.equal(text.match_ids, expected["ids"])
    assert bool(text.cut) == (i == 2)
    pixels = fixture.expected["images"][i : i + 1].clone().requires_grad_()
    image = fixture.network.encode_image(pixels)
    logits = fixture.network.itm_logits(image, text.match_ids, text.mask)
    close(logits, expected["itm_logits"])
    close(torch.autograd.grad(itm_loss(logits).sum(), pixels, retain_graph=True)[0], expected["itm_gradient"])
    caption = caption_loss(
        fixture.network.caption_logits(image, text.caption_ids, text.mask), text.caption_ids, text.mask
    )
    close(caption.sum(), expected["caption_loss"])
    close(torch.autograd.grad(caption.sum(), pixels)[0], expected["caption_gradient"])


def test_a_padded_batch_of_unequal_texts(fixture):
    expected = {k.removeprefix("padded."): v for k, v in fixture.expected.items() if k.startswith("padded.")}
    ids, mask = expected["ids"], expected["mask"]
    assert mask.sum(1).unique().numel() == 3 and mask[2].all()
    pixels = fixture.expected["images"].clone().requires_grad_()
    image = fixture.network.encode_image(pixels)
    close(fixture.network.itm_logits(image, ids, mask)[:, MATCH], expected["match_logit"])
    caption_ids = torch.cat([torch.full((3, 1), fixture.vocabulary.index(DEC)), ids[:, 1:]], dim=1)
    each = caption_loss(fixture.network.caption_logits(image, caption_ids, mask), caption_ids, mask)
    words = mask[:, 1:].sum(1)  # LAVIS averages over the words of all texts, we over those of each
    caption = (each * words).sum() / words.sum()
    close(caption, expected["caption_loss"])
    close(torch.autograd.grad(caption, pixels)[0], expected["caption_gradient"])
