"""Losses: binding, combining, and the expectation over views against plain automatic differentiation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from referee_core.augment import NONE, PAPER
from referee_core.losses import MicroBatch, bind, bind_statements, combine, expected_loss, plain_loss
from referee_core.out_of_memory import OUT_OF_MEMORY
from referee_core.referees.base import RefereeBase
from referee_core.referees.pixels import clamp_straight_through, square

VIEWS = replace(PAPER, count=5)


def streams(*seeds):
    return [torch.Generator().manual_seed(s) for s in seeds]


def leaf(count: int = 2, size: int = 8) -> torch.Tensor:
    """Pictures partly outside [0, 1]."""
    generator = torch.Generator().manual_seed(3)
    return (1.4 * torch.rand(count, 3, size, size, generator=generator, dtype=torch.float64) - 0.2).requires_grad_()


def run(loss, images, augmentation=VIEWS, seeds=(0, 1), micro_batch=0):
    """Total, terms and gradient of the expected loss."""
    images = images.detach().clone().requires_grad_()
    total, terms = expected_loss(loss, images, augmentation, streams(*seeds), MicroBatch(micro_batch))
    return total, terms, images.grad


def views_of(image, augmentation, seed):
    """The views that one picture [3, H, W] of the referee's size gets from a seed."""
    return augmentation(clamp_straight_through(image).expand(augmentation.count, -1, -1, -1), *streams(seed))


def test_the_expectation_is_the_mean_over_views_of_the_weighted_sum(toy_referee):
    loss, images = bind(toy_referee, "a cat", level=2.0, waves=0.5), leaf()
    total, terms, gradient = run(loss, images)
    for i, seed in enumerate((0, 1)):
        losses = toy_referee.losses(views_of(images[i], VIEWS, seed), len("a cat") / 10, ("level", "waves"))
        expected = (2.0 * losses["level"] + 0.5 * losses["waves"]).mean()
        torch.testing.assert_close(total[i], expected.detach())
        torch.testing.assert_close(terms["level"][i], losses["level"].mean().detach())
        torch.testing.assert_close(terms["waves"][i], losses["waves"].mean().detach())
        torch.testing.assert_close(gradient[i], torch.autograd.grad(expected, images)[0][i])


@pytest.mark.parametrize("weight", [1.0, -2.0])
def test_statements_are_their_mean_and_the_worst_once_more(toy_referee, weight):
    texts, images = ["a cat", "a dog on a mat", "x"], leaf()
    loss = combine([bind_statements(toy_referee, texts, worst=0.7)] * 2, [weight, 1.0])
    total, terms, slope = run(loss, images)
    term = toy_referee.probability or toy_referee.terms[0]
    for i, seed in enumerate((0, 1)):
        views = views_of(images[i], VIEWS, seed)
        each = torch.stack([toy_referee.losses(views, len(text) / 10, (term,))[term] for text in texts])
        expected = (weight + 1) * (each.mean(0) + 0.7 * each.amax(0)).mean()
        torch.testing.assert_close(total[i], expected.detach())
        torch.testing.assert_close(slope[i], torch.autograd.grad(expected, images)[0][i])
    assert len(terms) == 6


@pytest.mark.parametrize("keep", [0, 3])
@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_micro_batches_change_nothing(blip2_referee, micro_batch, keep):
    loss, augmentation = bind(blip2_referee, "a red cat", itm=1.0, caption=0.7), replace(VIEWS, keep=keep)
    whole, parts = run(loss, leaf(), augmentation), run(loss, leaf(), augmentation, micro_batch=micro_batch)
    for a, b in ((whole[0], parts[0]), (whole[1]["itm"], parts[1]["itm"]), (whole[2], parts[2])):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_a_micro_batch_bounds_what_the_referee_sees_at_once(toy_referee):
    run(bind(toy_referee, "a cat", level=1.0), leaf(), micro_batch=3)
    assert [n for n, _ in toy_referee.asked] == [3, 3, 3, 1]


class Crammed(RefereeBase):
    """A referee that runs out of memory above some number of views."""

    def __init__(self, referee, most):
        self.referee, self.most = referee, most
        self.terms, self.probability = referee.terms, referee.probability
        self.prepare, self.encode_images = referee.prepare, referee.encode_images

    def encode(self, text):
        return self.referee.encode(text)

    def losses(self, images, text, terms):
        found = self.referee.losses(images, text, terms)
        if len(images) > self.most:
            raise OUT_OF_MEMORY("the card is full")
        return found


@pytest.mark.parametrize(("most", "asked"), [(1, [10, 5, 2] + 10 * [1]), (3, [10, 5, 2, 2, 2, 2, 2]), (5, [10, 5, 5])])
def test_out_of_memory_halves_the_micro_batch_and_changes_nothing(toy_referee, most, asked):
    expected = run(bind(toy_referee, "a cat", level=1.0, waves=1.0), leaf())
    toy_referee.asked.clear()
    images, micro_batch = leaf(), MicroBatch()
    crammed = bind(Crammed(toy_referee, most), "a cat", level=1.0, waves=1.0)
    total, terms = expected_loss(crammed, images, VIEWS, streams(0, 1), micro_batch)
    assert [n for n, _ in toy_referee.asked] == asked
    assert micro_batch.size == asked[-1], "the next step begins with what fits"
    torch.testing.assert_close(total, expected[0])
    torch.testing.assert_close(terms, expected[1])
    torch.testing.assert_close(images.grad, expected[2])


def test_out_of_memory_with_a_single_view_is_reported(toy_referee):
    with pytest.raises(OUT_OF_MEMORY):
        run(bind(Crammed(toy_referee, 0), "a cat", level=1.0), leaf())


@pytest.mark.parametrize("augmentation", [NONE, VIEWS, replace(VIEWS, keep=2)])
def test_two_pictures_are_two_single_runs(blip2_referee, augmentation):
    loss, images = bind(blip2_referee, "a red cat", itm=1.0, caption=0.7), leaf()
    total, terms, gradient = run(loss, images, augmentation)
    for i in range(2):
        alone_total, alone_terms, alone_gradient = run(loss, images[i : i + 1], augmentation, seeds=(i,))
        torch.testing.assert_close(alone_total[0], total[i])
        torch.testing.assert_close(alone_gradient[0], gradient[i])
        assert set(alone_terms) == set(terms) == {"itm", "caption"}
        for name, value in terms.items():
            torch.testing.assert_close(alone_terms[name][0], value[i])


def test_hard_mining_keeps_the_views_with_the_highest_loss(toy_referee):
    loss, images, mining = bind(toy_referee, "a cat", level=1.0, waves=1.0), leaf(), replace(VIEWS, count=9, keep=3)
    total, _, gradient = run(loss, images, mining)
    for i, seed in enumerate((0, 1)):
        losses = sum(toy_referee.losses(views_of(images[i], mining, seed), 0.5, ("level", "waves")).values())
        hardest = losses.sort(descending=True).values[:3].mean()
        assert hardest > losses.mean() + 1e-3
        torch.testing.assert_close(total[i], hardest.detach())
        torch.testing.assert_close(gradient[i], torch.autograd.grad(hardest, images)[0][i])


def test_a_weight_of_0_leaves_the_term_out(toy_referee):
    loss = bind(toy_referee, "a cat", level=1.5, waves=0.0)
    _, terms, _ = run(loss, leaf())
    plain_loss(loss, leaf())
    assert list(terms) == loss.names() == ["level"]
    assert {terms for _, terms in toy_referee.asked} == {("level",)}


def test_combined_losses_add_up_and_number_their_terms(toy_referee, blip2_referee):
    cat, dog = bind(toy_referee, "a cat", level=1.0), bind(blip2_referee, "a dog", itm=2.0, caption=1.0)
    both = combine([cat, dog], [3.0, -0.5])
    total, terms, gradient = run(both, leaf(), NONE)
    one, other = run(cat, leaf(), NONE), run(dog, leaf(), NONE)
    torch.testing.assert_close(total, 3.0 * one[0] - 0.5 * other[0])
    torch.testing.assert_close(gradient, 3.0 * one[2] - 0.5 * other[2])
    assert both.names() == list(terms) == ["1.level", "2.itm", "2.caption"]
    torch.testing.assert_close(terms["1.level"], one[1]["level"])
    torch.testing.assert_close(terms["2.caption"], other[1]["caption"])


def test_two_texts_on_one_referee_share_its_views_and_its_look(toy_referee, blip2_referee):
    cat, long = bind(toy_referee, "a cat", level=1.0), bind(toy_referee, "a much longer text", level=1.0, waves=2.0)
    other, images = bind(blip2_referee, "a dog", itm=1.0), leaf()
    run(combine([cat, other, long], [1.0, 1.0, 0.5]), images)
    assert toy_referee.looked == [10] and len(toy_referee.asked) == 2
    total, terms, gradient = run(combine([cat, long], [1.0, 0.5]), images)
    one, two = run(cat, images), run(long, images)
    torch.testing.assert_close(total, one[0] + 0.5 * two[0])
    torch.testing.assert_close(gradient, one[2] + 0.5 * two[2])
    assert list(terms) == ["1.level", "2.level", "2.waves"]
    torch.testing.assert_close(terms["2.waves"], two[1]["waves"])


def test_a_combined_loss_of_weight_0_is_left_out(toy_referee, blip2_referee):
    cat, dog = bind(toy_referee, "a cat", level=1.0), bind(blip2_referee, "a dog", itm=1.0)
    assert combine([cat, dog], [0.0, 2.0]).names() == ["itm"]
    run(combine([cat, dog], [0.0, 2.0]), leaf())
    assert not toy_referee.asked
    with pytest.raises(ValueError, match="weight 0"):
        combine([cat, dog], [0.0, 0.0])


def test_binding_refuses_what_cannot_be_judged(toy_referee, blip2_referee):
    with pytest.raises(ValueError, match="empty"):
        bind(blip2_referee, "  ", itm=1.0)
    with pytest.raises(ValueError, match="weight"):
        bind(toy_referee, "a cat", level=0.0, waves=0.0)
    with pytest.raises(ValueError, match="weight"):
        bind(toy_referee, "a cat")
    with pytest.raises(ValueError, match="sharpness.*level, waves"):
        bind(toy_referee, "a cat", level=1.0, sharpness=1.0)


def test_the_clamp_passes_gradients_straight_through():
    x = torch.tensor([-0.5, 0.25, 1.5], dtype=torch.float64, requires_grad=True)
    clamped = clamp_straight_through(x)
    assert clamped.tolist() == pytest.approx([0.0, 0.25, 1.0])
    (clamped * torch.tensor([2.0, 3.0, 4.0])).sum().backward()
    assert x.grad.tolist() == [2.0, 3.0, 4.0]


@pytest.mark.parametrize("pooled", [False, True])
def test_saturated_pixels_keep_a_gradient_through_the_resize(pooled):
    """A black and white picture, where bicubic weights overshoot the range."""
    board = (torch.arange(16)[:, None] // 4 + torch.arange(16) // 4) % 2
    images = board.double().expand(1, 3, 16, 16).clone().requires_grad_()
    square(images, 10, pooled).sum().backward()
    assert (images.grad != 0).all()


def test_bicubic_resize_is_pillows_on_a_smooth_picture():
    y, x = torch.meshgrid(torch.linspace(0, 3, 64), torch.linspace(0, 3, 48), indexing="ij")
    picture = torch.stack([0.5 + 0.4 * torch.sin(x + y), 0.5 + 0.4 * torch.cos(x), 0.5 + 0.4 * torch.sin(2 * y)])
    as_bytes = (picture * 255).round().byte().permute(1, 2, 0).numpy()
    expected = np.asarray(Image.fromarray(as_bytes).resize((24, 24), Image.Resampling.BICUBIC)) / 255
    seen = square(picture[None], 24, pooled=False)[0].permute(1, 2, 0).numpy()
    assert np.abs(seen - expected).max() < 1.5 / 255


def test_pooled_resize_is_the_mean_of_the_blocks_mean_and_maximum():
    images = leaf(size=12).detach().clamp(0, 1)
    blocks = images.unfold(2, 3, 3).unfold(3, 3, 3).flatten(4)  # [B, 3, 4, 4, 9]
    torch.testing.assert_close(square(images, 4, pooled=True), (blocks.mean(-1) + blocks.amax(-1)) / 2)


@pytest.mark.parametrize("pooled", [False, True])
def test_a_picture_of_the_referees_size_is_not_resampled(pooled):
    images = leaf().detach().clamp(0, 1)
    torch.testing.assert_close(square(images, 8, pooled), images, rtol=0, atol=1e-15)


def test_expected_loss_shrinks_the_picture_as_the_augmentation_asks(toy_referee):
    loss, images = bind(toy_referee, "a cat", level=1.0), leaf(size=16)
    for pooled in (False, True):
        total, _, _ = run(loss, images, replace(NONE, pooled_resize=pooled))
        seen = images.detach().clamp(0, 1)
        if pooled:
            seen = (F.avg_pool2d(seen, 2) + F.max_pool2d(seen, 2)) / 2
        else:
            seen = F.interpolate(seen, scale_factor=0.5, mode="bicubic", antialias=True).clamp(0, 1)
        torch.testing.assert_close(total, (seen - 0.5).square().mean((1, 2, 3)))


def test_plain_loss_judges_the_bare_picture(toy_referee, blip2_referee):
    loss = combine([bind(toy_referee, "a cat", level=1.0), bind(blip2_referee, "a dog", itm=1.0)], [2.0, 1.0])
    images = leaf().detach()
    total, terms = plain_loss(loss, images)
    without_views, its_terms, _ = run(loss, images, NONE)
    torch.testing.assert_close(total, without_views)
    assert terms.keys() == its_terms.keys()
    torch.testing.assert_close(terms["1.level"], (images.clamp(0, 1) - 0.5).square().mean((1, 2, 3)))
    assert not total.requires_grad


def test_a_match_is_that_of_the_least_wanted_text_and_not_of_those_pushed_away(blip2_referee):
    cat, dog = (bind(blip2_referee, text, itm=1.0, caption=1.0) for text in ("a red cat", "a blue dog"))
    terms = {
        f"{i}.{name}": torch.tensor([value])
        for i, name, value in ((1, "itm", 0.1), (2, "itm", 3.0), (2, "caption", 9.0))
    }
    assert combine([cat, dog], [1.0, 1.0]).match(terms).item() == pytest.approx(np.exp(-3.0))
    assert combine([cat, dog], [1.0, -1.0]).match(terms).item() == pytest.approx(np.exp(-0.1))
    assert bind(blip2_referee, "a cat", caption=1.0).match({}) is None


class Brightness(RefereeBase):
    """All that a newcomer must write."""

    terms, image_size = ("brightness",), 8

    def encode(self, text):
        return float(text)

    def losses(self, seen, text, terms):
        return {"brightness": (seen.mean((1, 2, 3)) - text) ** 2}


def test_a_referee_of_three_members_is_one():
    images = leaf()
    total, terms, gradient = run(bind(Brightness(), "0.75", brightness=2.0), images, NONE)
    mean = images.clamp(0, 1).mean((1, 2, 3))
    torch.testing.assert_close(total, 2 * (mean - 0.75) ** 2)
    torch.testing.assert_close(terms["brightness"], (mean - 0.75) ** 2)
    slope = 4 * (mean - 0.75) / images[0].numel()
    torch.testing.assert_close(gradient, slope.view(-1, 1, 1, 1).expand_as(images))
