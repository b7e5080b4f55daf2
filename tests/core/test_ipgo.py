"""IPGO on toys: what a round does, what comes out, and when it ends."""

import pytest
import torch

from referee_core.augment import NONE
from referee_core.losses import bind
from referee_core.methods.ipgo import IPGOSettings, Learned, Sampling, Start, Subject, ipgo
from referee_core.prompt_tokens import NO_TOKENS, Form, PromptTokens, conformity
from referee_core.randomness import generators
from referee_core.record import LOSS, SCHEDULE
from referee_core.sampling import spaced_levels, step

FORM = Form(2, 6)
F64 = {"dtype": torch.float64}


def prompt(seed=1, width=8):
    return torch.randn(1, 3, width, generator=torch.Generator().manual_seed(seed))


def subject(toys, seed=1, text="a cat"):
    """A denoiser whose prediction depends on all tokens of the prompt, not linearly."""
    mix = torch.randn(8, 4, generator=torch.Generator().manual_seed(20), **F64)

    def condition(inserted):
        told = torch.tanh(inserted(prompt(seed)).double() @ mix).mean(1)[..., None, None]
        return lambda x, level: toys.denoiser(x, level) + 0.5 * told

    return Subject(prompt(seed), bind(toys.referee, text, level=1.0, waves=0.5), condition)


def play(toys, subjects=None, held_out=None, steps=4, last=2, seed=3, noises=1, **settings):
    """(records, what was learned)."""
    sampling = Sampling(spaced_levels(toys.denoiser, steps), last)
    streams = generators(range(noises + 1), ("noise",))["noise"]
    noise = [torch.randn(2, 4, 4, 4, generator=g, **F64) for g in streams]
    *starts, look = (Start.draw(one, sampling, ()) for one in noise)
    subjects, learned = subjects or [subject(toys)], Learned()
    settings = IPGOSettings(**{"rounds": 12, "lr": 0.05, "check_every": 4} | settings)
    run = ipgo(
        subjects, held_out or subjects, starts, [look], sampling, toys.decode, NONE, FORM, settings, seed, learned
    )
    return list(run), learned


def test_the_loss_falls_and_the_best_look_comes_out(toys):
    records, learned = play(toys)
    losses = [float(r.scalars[LOSS]["loss"].mean()) for r in records]
    assert losses[-1] < losses[0]
    assert [one.rounds for one in learned.candidates] == [0, 4, 8, 12]
    assert learned.best.loss == min(one.loss for one in learned.candidates)
    assert learned.best.rounds > 0 and learned.best.inserted.count("prefix") == 2
    assert not torch.equal(learned.x, learned.plain_x)
    rates = [float(r.scalars[SCHEDULE]["learning rate"]) for r in records]
    assert rates[9] == pytest.approx(0.05) and rates[10] == pytest.approx(0.045)


def test_without_tokens_comes_out_what_tokens_only_harm(toys):
    plain = subject(toys)

    def condition(inserted):
        predict, shift = plain.condition(inserted), 9.0 if inserted.tokens else 0.0
        return lambda x, level: predict(x, level) + shift

    _, learned = play(toys, [Subject(plain.prompt, plain.loss, condition)], rounds=4)
    assert len(learned.candidates) == 2
    assert learned.best is learned.plain and learned.best.inserted is NO_TOKENS
    assert torch.equal(learned.x, learned.plain_x)


def test_a_round_is_adam_on_the_truncated_loss(toys):
    """Against autograd through the whole unrolled sampling, with the first steps cut off."""
    settings = {"rounds": 1, "conformity": 0.3, "clip": 0.02}
    (record,), learned = play(toys, **settings)
    parameters = generators([3], ("parameters", "views", "held-out views"))["parameters"][0]
    tokens = PromptTokens(prompt(), FORM, parameters)
    one, levels = subject(toys), spaced_levels(toys.denoiser, 4)
    x = levels[0].sigma * torch.randn(2, 4, 4, 4, generator=generators([0], ("noise",))["noise"][0], **F64)
    for i in range(4):
        x = x.detach() if i == 2 else x
        x = step(one.condition(tokens()), x, levels[i], levels[i + 1] if i < 3 else None)[0]
    image = toys.decode(x)
    image = image + (image.clamp(0, 1) - image).detach()
    terms = toys.referee.losses(image, 0.5, ("level", "waves"))
    loss = terms["level"] + 0.5 * terms["waves"]
    torch.testing.assert_close(record.scalars[LOSS]["loss"], loss.detach(), rtol=1e-6, atol=1e-8)
    (loss.mean() + 0.3 * conformity(prompt(), tokens()(prompt()))).backward()
    length = torch.nn.utils.clip_grad_norm_(tokens.parameters(), 0.02)
    assert float(length) > 0.02, "the gradient has to be clipped for this test to see it"
    torch.optim.Adam(tokens.parameters(), lr=0.05).step()
    for side, expected in tokens().tokens.items():
        torch.testing.assert_close(
            learned.candidates[-1].inserted.tokens[side], expected.detach(), rtol=1e-4, atol=1e-5
        )


def test_the_same_seed_is_the_same_run(toys):
    (_, first), (_, second), (_, other) = play(toys), play(toys), play(toys, seed=4)
    for side in ("prefix", "suffix"):
        assert torch.equal(first.best.inserted.tokens[side], second.best.inserted.tokens[side])
        assert not torch.equal(first.best.inserted.tokens[side], other.best.inserted.tokens[side])


def test_subjects_and_noises_take_turns(toys):
    texts = [subject(toys, 1, "a cat"), subject(toys, 2, "a blue dog")]
    records, learned = play(toys, texts, [subject(toys, 5, "a ball")], noises=2, rounds=8)
    losses = [r.scalars[LOSS]["loss"] for r in records]
    assert len({tuple(one.tolist()) for one in losses[:4]}) == 4, "two prompts, each under two noises"
    assert len(learned.candidates) == 3


def test_a_look_in_batches_is_the_same_look(toys):
    sampling = Sampling(spaced_levels(toys.denoiser, 3), 1)
    noise = torch.randn(4, 4, 4, 4, generator=torch.Generator().manual_seed(1), **F64)
    one, found = subject(toys), []
    for looks in ([noise], noise.split(1), noise.split(3)):
        learned, starts = Learned(), [Start.draw(part, sampling, ()) for part in looks]
        settings = IPGOSettings(rounds=1, check_every=1)
        list(ipgo([one], [one], starts[:1], starts, sampling, toys.decode, NONE, FORM, settings, 3, learned))
        found.append(learned)
    for other in found[1:]:
        assert other.plain.losses == pytest.approx(found[0].plain.losses, rel=1e-6)
        torch.testing.assert_close(other.plain_x, found[0].plain_x)


def test_it_ends_when_nothing_gets_better(toys):
    records, learned = play(toys, lr=0.0, patience=2, rounds=40)
    assert records[-1].ending == "no better for 2 looks" and len(records) == records[-1].steps < 40
    assert learned.best is learned.candidates[-3]


def test_ancestral_sampling_has_the_same_fresh_noise_in_each_round(toys):
    sampling = Sampling(spaced_levels(toys.denoiser, 4), 2, ancestral=True)
    noise = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1), **F64)
    start = Start.draw(noise, sampling, generators([1, 2], ("fresh",))["fresh"])
    one = subject(toys)
    z, again = (sampling.path(one.condition(NO_TOKENS), start, 0).z for _ in range(2))
    plain = Sampling(sampling.levels, 2).path(one.condition(NO_TOKENS), start, 0).z
    assert torch.equal(z, again) and not torch.allclose(z, plain)
