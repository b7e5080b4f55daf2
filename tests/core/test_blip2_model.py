"""BLIP-2's two heads: who sees whom in each pass, and the losses against hand-written ones."""

import pytest
import torch

from referee_core.referees.blip2.config import Blip2Config
from referee_core.referees.blip2.model import Blip2, caption_loss, caption_mask, itm_loss, match_mask

Q = 3  # queries of the tiny network


@pytest.fixture
def images(blip2):
    """Two pictures as the Q-Former reads them."""
    pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return blip2.encode_image(pixels)


@pytest.fixture
def ids():
    return torch.tensor([[2, 7, 8, 9, 10, 3], [2, 11, 9, 8, 7, 3]])


def seen(ids, length=None):
    """A mask of real tokens; the same number in each row, all of them unless given."""
    return (torch.arange(ids.shape[1]) < (length or ids.shape[1])).expand(ids.shape)


def replaced(ids, at, token=12):
    ids = ids.clone()
    ids[:, at] = token
    return ids


def hidden(blip2, ids, mask, images):
    return blip2.qformer(ids, mask(seen(ids), Q), images)


@pytest.mark.parametrize("at", [1, 3, 5])
def test_caption_logits_do_not_see_later_words(blip2, images, ids, at):
    before, after = (blip2.caption_logits(images, i, seen(i)) for i in (ids, replaced(ids, at)))
    torch.testing.assert_close(after[:, :at], before[:, :at], rtol=0, atol=1e-12)
    assert ((after - before)[:, at:].abs().amax(-1) > 1e-5).all()


def test_caption_queries_are_blind_to_the_text(blip2, images, ids):
    before = hidden(blip2, ids, caption_mask, images)[:, :Q]
    for at in range(ids.shape[1]):
        after = hidden(blip2, replaced(ids, at), caption_mask, images)[:, :Q]
        torch.testing.assert_close(after, before, rtol=0, atol=1e-12)
    shorter = hidden(blip2, ids[:, :2], caption_mask, images)[:, :Q]
    torch.testing.assert_close(shorter, before, rtol=0, atol=1e-12)


def test_match_queries_see_every_word(blip2, images, ids):
    before = hidden(blip2, ids, match_mask, images)[:, :Q]
    for at in range(ids.shape[1]):
        after = hidden(blip2, replaced(ids, at), match_mask, images)[:, :Q]
        assert ((after - before).abs().amax(-1) > 1e-5).all()


def test_match_words_see_later_words(blip2, images, ids):
    before, after = (hidden(blip2, i, match_mask, images)[:, Q] for i in (ids, replaced(ids, 5)))
    assert ((after - before).abs().amax(-1) > 1e-5).all()


def test_everything_sees_the_image(blip2, images, ids):
    swapped = [kv and tuple(t.flip(0) for t in kv) for kv in images]
    for mask in (caption_mask, match_mask):
        difference = hidden(blip2, ids, mask, swapped) - hidden(blip2, ids, mask, images)
        assert (difference.abs().amax(-1) > 1e-5).all()


@pytest.mark.parametrize("padding", [0, 9])
def test_padding_never_matters(blip2, images, ids, padding):
    """Whatever stands in the padding, and against the same text without it; also when only one row is padded."""
    short, mask = ids[:, :4], seen(ids, 4)
    padded = ids.clone()
    padded[:, 4:] = padding
    logits = blip2.caption_logits(images, padded, mask)
    torch.testing.assert_close(
        blip2.itm_logits(images, padded, mask), blip2.itm_logits(images, short, seen(short)), rtol=1e-11, atol=1e-11
    )
    torch.testing.assert_close(logits[:, :4], blip2.caption_logits(images, short, seen(short)), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(
        caption_loss(logits, padded, mask),
        caption_loss(blip2.caption_logits(images, short, seen(short)), short, seen(short)),
    )
    uneven = torch.stack([seen(ids)[0], mask[1]])
    both = blip2.itm_logits(images, torch.stack([ids[0], padded[1]]), uneven)
    torch.testing.assert_close(both[0], blip2.itm_logits(images, ids, seen(ids))[0])
    torch.testing.assert_close(both[1], blip2.itm_logits(images, short, seen(short))[1])


def test_match_logits_are_the_mean_of_every_querys_logits(blip2, images, ids):
    queries = hidden(blip2, ids, match_mask, images)[:, :Q]
    weight, bias = blip2.itm_head.weight, blip2.itm_head.bias
    each = [queries[:, k] @ weight.T + bias for k in range(Q)]
    torch.testing.assert_close(blip2.itm_logits(images, ids, seen(ids)), sum(each) / Q)


def test_match_loss_is_minus_the_log_probability_of_class_1():
    logits = torch.tensor([[0.3, 1.7], [2.0, -1.0]], dtype=torch.float64)
    probability = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    torch.testing.assert_close(itm_loss(logits), -probability[:, 1].log())


def test_caption_logits_are_berts_head_with_the_word_embedding(blip2, images, ids):
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLMPredictionHead

    c, ours = blip2.config, blip2.caption_head
    head = BertLMPredictionHead(BertConfig(hidden_size=c.dim, vocab_size=c.vocab_size)).double()
    words = blip2.qformer.word_embeddings.weight
    for theirs, value in (
        (head.transform.dense.weight, ours.dense.weight),
        (head.transform.dense.bias, ours.dense.bias),
        (head.transform.LayerNorm.weight, ours.norm.weight),
        (head.transform.LayerNorm.bias, ours.norm.bias),
        (head.decoder.weight, words),
        (head.decoder.bias, ours.bias),
    ):
        theirs.data.copy_(value)
    text = hidden(blip2, ids, caption_mask, images)[:, Q:]
    torch.testing.assert_close(blip2.caption_logits(images, ids, seen(ids)), head(text), rtol=1e-10, atol=1e-10)


def test_caption_loss_is_the_smoothed_cross_entropy_of_each_next_word():
    generator, vocabulary, lengths = torch.Generator().manual_seed(2), 5, (6, 3)
    logits = torch.randn(2, 6, vocabulary, generator=generator, dtype=torch.float64)
    ids = torch.randint(vocabulary, (2, 6), generator=generator)
    mask = torch.arange(6) < torch.tensor(lengths)[:, None]
    expected = []
    for row, words, length in zip(logits, ids, lengths, strict=True):
        total = 0.0
        for i in range(length - 1):
            log_probability = row[i] - row[i].exp().sum().log()
            target = torch.full((vocabulary,), 0.1 / vocabulary, dtype=torch.float64)
            target[words[i + 1]] += 0.9
            total = total - (target * log_probability).sum()
        expected.append(total / (length - 1))
    torch.testing.assert_close(caption_loss(logits, ids, mask), torch.stack(expected))


def test_the_published_size_has_as_many_parameters_as_lavis_counts():
    """LAVIS's Blip2ITM has 1,172,599,998; the two contrastive projections and the temperature are not ours."""
    with torch.device("meta"):
        ours = sum(p.numel() for p in Blip2(Blip2Config()).parameters())
    assert ours == 1_172_599_998 - 2 * (768 * 256 + 256) - 1
