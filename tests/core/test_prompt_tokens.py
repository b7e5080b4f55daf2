"""IPGO's parameters: basis, coefficients, angles, and the sequence they make."""

import math

import pytest
import torch

from referee_core.prompt_tokens import NO_TOKENS, WORD, Form, Inserted, PromptTokens, conformity, rotate


def prompt(length=7, width=40, seed=1):
    return torch.randn(1, length, width, generator=torch.Generator().manual_seed(seed))


def made(form, seed=2, **of):
    return PromptTokens(prompt(**of), form, torch.Generator().manual_seed(seed))


def trained(tokens, rounds=30, lr=0.05):
    """Adam towards another prompt."""
    aim, adam = prompt(length=1, seed=9)[0], torch.optim.Adam(tokens.parameters(), lr=lr)
    for _ in range(rounds):
        loss = sum((t - 5 * aim).square().sum() for t in tokens().tokens.values())
        adam.zero_grad()
        loss.backward()
        adam.step()
    return tokens


@pytest.mark.parametrize("rank", [8, 40, 300])
def test_the_basis_stays_orthonormal(rank):
    for side in trained(made(Form(3, rank))).sides.values():
        W = side.basis.detach().double()
        assert W.shape == (40, min(rank, 40))
        torch.testing.assert_close(W.T @ W, torch.eye(W.shape[1], dtype=torch.float64), atol=1e-5, rtol=0)


def test_without_the_parts_it_does_not():
    free = trained(made(Form(3, 8, orthonormal=False, bounded=False, rotated=False)))
    W = free.sides["prefix"].basis.detach()
    assert (W.T @ W - torch.eye(8)).abs().max() > 1e-2
    assert free.sides["prefix"].coefficients.detach().abs().max() > 1


def test_tokens_stay_in_their_range():
    """|token| <= sqrt(r) times the scale, whatever is asked of them: 0.62 of a word's length."""
    for inserted in (made(Form(3, 8))(), trained(made(Form(3, 8)), rounds=200, lr=0.5)()):
        word = prompt().norm(dim=-1).mean()
        for tokens in inserted.tokens.values():
            assert (tokens.norm(dim=-1) <= WORD * word * (1 + 1e-5)).all()


def test_clip_l_gets_the_papers_scale():
    words = torch.full((1, 4, 768), 28 / math.sqrt(768))  # of CLIP-L's length
    side = PromptTokens(words, Form(), torch.Generator()).sides["prefix"]
    assert side.scale == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("width", [8, 9])
def test_a_rotation_is_the_papers_product_of_givens_rotations(width):
    """Against matrices put together pair by pair."""
    generator = torch.Generator().manual_seed(3)
    tokens, angles = (torch.randn(3, n, generator=generator, dtype=torch.float64) for n in (width, 2))
    for i, (v, turned) in enumerate(zip(tokens, rotate(tokens, angles), strict=True)):
        expected = v
        for k in range(2):
            G = torch.eye(width, dtype=torch.float64)
            c, s = math.cos(angles[i, k]), math.sin(angles[i, k])
            for j in range(width // 2):
                e, o = (i + k + 2 * j) % width, (i + k + 2 * j + 1) % width
                G[e, e], G[e, o], G[o, e], G[o, o] = c, -s, s, c
            expected = G @ expected
        torch.testing.assert_close(turned, expected, rtol=0, atol=1e-12)
        assert float(turned.norm()) == pytest.approx(float(v.norm()), rel=1e-12)


def test_every_parameter_gets_a_gradient():
    tokens = made(Form(3, 8))
    sum(t.sum() for t in tokens().tokens.values()).backward()
    for name, p in tokens.named_parameters():
        assert p.grad is not None and p.grad.abs().max() > 0, name


def test_the_sequence_is_prefix_prompt_suffix():
    inserted, words = made(Form(3, 8))().detach(), torch.cat([prompt(), prompt(seed=5)])
    longer = inserted(words)
    assert longer.shape == (2, 3 + 7 + 3, 40) and torch.equal(longer[:, 3:10], words)
    for row in longer:
        assert torch.equal(row[:3], inserted.tokens["prefix"]) and torch.equal(row[10:], inserted.tokens["suffix"])
    suffix = made(Form(3, 8, sides=("suffix",)))()(words)
    assert suffix.shape == (2, 10, 40) and torch.equal(suffix[:, :7], words)
    assert NO_TOKENS(words) is words


def test_attending_tokens_are_means_of_the_prompts_own():
    """IPGO+, against a loop."""
    tokens, words = torch.randn(2, 40, generator=torch.Generator().manual_seed(4)), prompt()
    longer = Inserted({"prefix": tokens}, attending=True)(words)
    for i in range(2):
        weights = torch.tensor([math.exp(float(tokens[i] @ w) / math.sqrt(40)) for w in words[0]])
        expected = sum(a / weights.sum() * w for a, w in zip(weights, words[0], strict=True))
        torch.testing.assert_close(longer[0, i], expected, rtol=1e-4, atol=1e-5)


def test_conformity_is_how_far_the_mean_moves():
    words, longer = prompt(), made(Form(2, 8))()(prompt())
    expected = sum(abs(float(longer[0, :, j].mean() - words[0, :, j].mean())) for j in range(40)) / 40
    assert float(conformity(words, longer)) == pytest.approx(expected, rel=1e-4)
    assert float(conformity(words, words)) == 0


def test_the_same_seed_makes_the_same_tokens():
    first, second = (trained(made(Form(3, 8)))().detach() for _ in range(2))
    other = made(Form(3, 8), seed=3)().detach()
    for side in ("prefix", "suffix"):
        assert torch.equal(first.tokens[side], second.tokens[side])
        assert not torch.equal(first.tokens[side], other.tokens[side])
    assert not torch.equal(first.tokens["prefix"], first.tokens["suffix"])


def test_nonsense_is_refused():
    for wrong in ({"count": 0}, {"rank": 0}, {"sides": ()}, {"sides": ("middle",)}):
        with pytest.raises(ValueError, match="tokens need"):
            Form(**wrong)
