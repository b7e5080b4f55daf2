"""The search against plain lists: what it tries, when it stops, what it keeps, what it gives up."""

import math
import random
from statistics import median

import pytest
import torch

from referee_core.augment import NONE
from referee_core.losses import bind, expected_loss
from referee_core.methods.search import (
    VIEWS,
    SearchSettings,
    Verdict,
    better_half,
    judge_views,
    obeys,
    ranking,
    search,
)


def verdict(loss: float) -> Verdict:
    return Verdict(loss, {"itm": loss}, math.exp(-loss) if math.isfinite(loss) else None)


class World:
    """A sampler and a referee: the losses of each seed's finished and predicted picture are given beforehand.

    at_once: how many pictures are made before the first of them is handed over.
    """

    def __init__(self, finished: dict[int, float], predicted: dict[int, float] | None = None, at_once: int = 1):
        self.finished, self.predicted, self.at_once = finished, predicted, at_once
        self.made, self.closed = [], False

    def sample(self, seeds, goes_on):
        assert (goes_on is not None) == (self.predicted is not None)
        try:
            for begin in range(0, len(seeds), self.at_once):
                group = seeds[begin : begin + self.at_once]
                self.made += group
                for seed in group:
                    given_up = goes_on and not goes_on(("predicted", seed))
                    yield None if given_up else ("finished", seed)
        finally:
            self.closed = True

    def judge(self, picture, generator):
        kind, seed = picture
        return verdict(getattr(self, kind)[seed])

    def run(self, seed=0, **settings):
        settings = SearchSettings(**settings)
        states = list(search(self.sample, self.judge, settings, seed))
        return states[-1], settings, len(states)


def losses(seed: int, count: int, spread: float = 3.0) -> dict[int, float]:
    return {i: random.Random(seed * 1000 + i).uniform(0, spread) for i in range(count)}


@pytest.mark.parametrize("case", range(20))
def test_it_stops_at_the_first_that_matches_and_keeps_the_best(case):
    finished, threshold, keep = losses(case, 12), 0.7, 1 + case % 4
    attempts, settings, yielded = World(finished, at_once=1 + case % 5).run(attempts=12, keep=keep, stop_at=threshold)
    matches = [math.exp(-finished[i]) for i in range(12)]
    tried = next((i + 1 for i, match in enumerate(matches) if match >= threshold), 12)
    assert yielded == len(attempts) == tried
    assert [a.verdict.loss for a in attempts] == [finished[i] for i in range(tried)]
    best = sorted(range(tried), key=finished.get)  # one loss: what matches is best too
    assert [a.seed for a in ranking(attempts, threshold)] == best
    assert {a.seed: a.picture for a in attempts if a.picture} == {i: ("finished", i) for i in best[:keep]}


def test_without_a_threshold_all_are_tried():
    attempts, *_ = World(losses(1, 6, spread=0.01)).run(attempts=6, stop_at=0.0)
    assert len(attempts) == 6


def test_the_one_that_matches_is_best_though_another_has_a_lower_loss():
    """A loss has further terms, so that a picture without a match can have the lower one."""
    verdicts = {0: Verdict(0.5, {}, 0.8), 1: Verdict(0.9, {}, 0.95), 2: Verdict(0.1, {}, 0.99)}

    def sample(seeds, goes_on):
        yield from seeds

    run = list(search(sample, lambda seed, generator: verdicts[seed], SearchSettings(attempts=3, stop_at=0.9), 0))[-1]
    assert [a.seed for a in ranking(run, 0.9)] == [1, 0]
    assert [a.picture for a in run] == [None, 1]
    assert [a.seed for a in ranking(run, 0.0)] == [0, 1]


def test_the_rest_of_a_group_neither_counts_nor_is_judged():
    world = World({0: 1.0, 1: 0.01, 2: 0.001, 3: 0.0, 4: 0.0}, at_once=4)
    attempts, *_ = world.run(attempts=5, keep=5, stop_at=0.9)
    assert world.made == [0, 1, 2, 3] and world.closed
    assert [a.seed for a in attempts] == [0, 1]


@pytest.mark.parametrize("at_once", [1, 2, 3, 8])
def test_the_result_does_not_depend_on_how_many_are_made_together(at_once):
    for case in range(10):
        finished = losses(case, 8)
        alone, together = (
            World(finished, at_once=n).run(attempts=8, keep=2, stop_at=0.6)[0] for n in (1, at_once)
        )  # fmt: skip
        assert together == alone


@pytest.mark.parametrize("case", range(10))
def test_only_the_better_half_of_the_predictions_goes_on(case):
    finished, predicted = losses(case, 15), losses(case + 50, 15)
    attempts, *_ = World(finished, predicted).run(attempts=15, stop_at=0.0, prune_at=0.5)
    for i, attempt in enumerate(attempts):
        place = sorted(predicted[j] for j in range(i + 1)).index(predicted[i])  # among those seen so far
        assert (attempt.verdict is not None) == (place < (i + 2) // 2)
        assert attempt.predicted.loss == predicted[i]
        if attempt.verdict:
            assert attempt.verdict.loss == finished[i] and predicted[i] <= median(predicted[j] for j in range(i + 1))
    assert attempts[0].verdict is not None


def test_in_the_long_run_half_is_given_up_and_the_best_prediction_never():
    predicted = losses(7, 2000)
    attempts, *_ = World(predicted, predicted).run(attempts=2000, stop_at=0.0, prune_at=0.5)
    finished = [a for a in attempts if a.verdict]
    assert 0.45 < len(finished) / 2000 < 0.55
    assert min(predicted, key=predicted.get) in [a.seed for a in finished]


def test_a_rule_that_always_goes_on_shows_what_a_rule_could_know():
    finished, predicted = losses(1, 6), losses(2, 6)
    world = World(finished, predicted)
    settings = SearchSettings(attempts=6, stop_at=0.0, prune_at=0.3)
    attempts = list(search(world.sample, world.judge, settings, 0, worth=lambda this, earlier: True))[-1]
    assert [(a.predicted.loss, a.verdict.loss) for a in attempts] == [(predicted[i], finished[i]) for i in range(6)]


def test_a_first_prediction_that_is_not_finite_goes_on_and_a_later_one_does_not():
    assert better_half(math.inf, []) and not better_half(math.inf, [1.0]) and better_half(1.0, [math.inf])
    predicted = {0: math.nan, 1: 1.0, 2: 2.0, 3: math.nan}
    attempts, *_ = World(losses(1, 4), predicted).run(attempts=4, stop_at=0.0, prune_at=0.5)
    assert [a.verdict is not None for a in attempts] == [True, True, True, False]


def test_what_is_not_finite_ranks_last_and_never_stops_the_search():
    attempts, *_ = World({0: math.nan, 1: 2.0, 2: math.inf, 3: 1.0}).run(attempts=4, keep=4, stop_at=0.9)
    assert [a.seed for a in ranking(attempts, 0.9)] == [3, 1, 0, 2]
    assert not obeys(attempts[0], 0.9)


def test_seeds_go_round_at_their_end():
    attempts, *_ = World({2**64 - 1: 1.0, 0: 1.0, 1: 1.0}).run(seed=2**64 - 1, attempts=3, stop_at=0.0)
    assert [a.seed for a in attempts] == [2**64 - 1, 0, 1]


def test_each_attempt_is_judged_by_views_of_its_seed_and_the_finished_ones_apart_from_the_predicted():
    seen = {}

    def judge(picture, generator):
        seen[picture] = torch.rand(4, generator=generator).tolist()
        return verdict(1.0)

    world = World({}, {})
    for first, prune in ((0, 0.5), (1, 0.5), (1, 0.0)):
        world.predicted = {} if prune else None
        before, seen = seen, {}
        list(search(world.sample, judge, SearchSettings(attempts=3, stop_at=0.0, prune_at=prune), first))
        assert len({tuple(v) for v in seen.values()}) == len(seen) == (6 if prune else 3)
        for picture in before.keys() & seen.keys():
            assert seen[picture] == before[picture]
    assert ("finished", 2) in seen and ("finished", 2) in before


@pytest.mark.parametrize(
    ("share", "steps", "after"), [(0, 20, 0), (0.5, 20, 10), (0.01, 20, 1), (0.95, 20, 19), (0.99, 3, 2), (0.5, 1, 0)]
)
def test_the_step_of_the_prediction(share, steps, after):
    assert SearchSettings(prune_at=share).looks_after(steps) == after


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"keep": 0}, {"stop_at": 1.1}, {"stop_at": -0.1}, {"prune_at": 1}])
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match="must"):
        SearchSettings(**wrong)


def test_a_stop_needs_a_match(toy_referee, blip2_referee):
    toy, real = bind(toy_referee, "a cat", level=1.0), bind(blip2_referee, "a cat", itm=0.0, caption=1.0)
    with pytest.raises(ValueError, match="'stop_at' needs the probability of a match: give another loss"):
        toy.check_probability(0.5)
    with pytest.raises(ValueError, match="'stop_at' needs the probability of a match: give 'itm'"):
        real.check_probability(0.5)
    real.check_probability(0.0)
    bind(blip2_referee, "a cat", itm=1.0).check_probability(0.5)


@pytest.mark.parametrize("at_once", [0, 1, 3])
@pytest.mark.parametrize("augmentation", [NONE, VIEWS])
def test_a_picture_is_judged_by_the_mean_over_its_views(blip2_referee, augmentation, at_once):
    loss = bind(blip2_referee, "a red cat", itm=1.0, caption=0.5)
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.inference_mode():  # as in ComfyUI
        found = judge_views(loss, image, augmentation, torch.Generator().manual_seed(2), at_once)
    seen = blip2_referee.prepare(image).expand(augmentation.count, -1, -1, -1)
    views = augmentation(seen, torch.Generator().manual_seed(2))
    text = blip2_referee.encode("a red cat")
    with torch.no_grad():
        each = [blip2_referee.losses(blip2_referee.encode_images(v), text, ("itm", "caption")) for v in views.split(1)]
    itm, caption = (sum(float(e[name]) for e in each) / len(each) for name in ("itm", "caption"))
    assert found.terms == pytest.approx({"itm": itm, "caption": caption}, rel=1e-9)
    assert found.loss == pytest.approx(itm + 0.5 * caption, rel=1e-9)
    assert found.match == pytest.approx(math.exp(-itm), rel=1e-9)


def test_a_picture_with_nan_is_not_judged(blip2_referee):
    image = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    image[0, 1, 2, 3] = torch.nan
    found = judge_views(bind(blip2_referee, "a cat", itm=1.0), image, NONE, torch.Generator())
    assert math.isnan(found.loss) and found.match is None and found.terms == {}


def test_without_gradients_the_loss_is_the_same_and_nothing_is_kept(blip2_referee):
    from referee_core.losses import MicroBatch

    loss = bind(blip2_referee, "a red cat", itm=1.0, caption=1.0)
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    leaf = image.clone().requires_grad_()
    total, terms = expected_loss(loss, leaf, VIEWS, [torch.Generator().manual_seed(2)], MicroBatch(3))
    with torch.no_grad():
        plain, parts = expected_loss(loss, image, VIEWS, [torch.Generator().manual_seed(2)], MicroBatch(3), False)
    assert torch.allclose(plain, total, rtol=1e-12) and image.grad is None and leaf.grad.norm() > 0
    assert {k: float(v) for k, v in parts.items()} == pytest.approx({k: float(v) for k, v in terms.items()})
