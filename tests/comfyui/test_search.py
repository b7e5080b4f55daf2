"""Search Until It Obeys in a real ComfyUI, as a user's graph runs it."""

import re
from itertools import pairwise

import pytest
import torch
from safetensors.torch import save_file

from comfyui.conftest import LOOP, PROMPT, Demo, queue_until, watch
from comfyui.test_bad_input import failure
from comfyui.test_score import run, saved, strict
from scripts.server import PromptError

LINE = re.compile(r"attempt (\d+) \(seed (\d+)\): loss ([\d.]+) · match ([\d.]+) · itm ([\d.]+) · caption ([\d.]+)")
SEED = 7
STEPS = 6


class Searched(Demo):
    """Parts of a sampling graph, a search on them, and the same by ComfyUI's own node."""

    def __init__(self, sampler="euler_ancestral", steps=STEPS, denoise=1.0):
        super().__init__()
        self.guider = self.add(
            "CFGGuider", model=self.model, positive=self.positive, negative=self.negative, cfg=3.0
        )[0]  # fmt: skip
        self.sigmas = self.add("BasicScheduler", model=self.model, scheduler="normal", steps=steps, denoise=denoise)[0]
        self.sampler = self.add("KSamplerSelect", sampler_name=sampler)[0]
        self.augmentation = None

    def search(self, **changes) -> list:
        inputs = dict(
            guider=self.guider, sampler=self.sampler, sigmas=self.sigmas, latent_image=self.latent, vae=self.vae,
            loss=self.loss, augmentation=self.augmentation, seed=SEED, attempts=3, stop_at=0.0, keep=3, at_once=0,
            prune_at=0.0,
        )  # fmt: skip
        outputs = self.add("RefereeSearch", **{k: v for k, v in (inputs | changes).items() if v is not None})
        self.save(outputs[0], "found")
        self.id = outputs[0][0]
        self.report, self.scores = (self.add("PreviewAny", source=outputs[i])[0][0] for i in (3, 2))
        return outputs

    def plain(self, seed: int, guider: list | None = None) -> None:
        noise = self.add("RandomNoise", noise_seed=seed)[0]
        parts = {
            "guider": guider or self.guider,
            "sampler": self.sampler,
            "sigmas": self.sigmas,
            "latent_image": self.latent,
        }
        self.save(self.add("SamplerCustomAdvanced", noise=noise, **parts)[0], f"plain{seed}")


def text(outputs, node) -> str:
    return outputs[node]["text"][0]


def shortened(match: float) -> str:
    """A pattern of what two digits may show of a number that the report gives with three."""
    return f"({match - 0.0005:.2f}|{match + 0.0005:.2f})"


def attempts_of(report: str) -> list[dict]:
    """What the report says of each attempt."""
    found = [LINE.fullmatch(line) for line in report.splitlines()]
    names = ("attempt", "seed", "loss", "match", "itm", "caption")
    return [dict(zip(names, map(float, line.groups()), strict=True)) for line in found]


def both(latents, graph: Searched, seeds=range(SEED, SEED + 3), **changes) -> tuple[dict, list[tuple]]:
    """The saved latents by name, and what the search gives beside the plain latent that its report says it is."""
    reports = []
    graph.search(**changes)
    for seed in seeds:
        graph.plain(seed)
    found = latents(graph, reports)
    attempts = attempts_of(reports[0])
    assert [a["seed"] for a in attempts] == list(seeds)
    order = [int(a["seed"]) for a in sorted(attempts, key=lambda a: a["loss"])]
    return found, [(row, found[f"plain{seed}"][0]) for row, seed in zip(found["found"], order, strict=True)]


@pytest.fixture
def latents(server, latents, monkeypatch):
    """``latents(graph, reports)``: the latents it saves; the search's report is added to the list."""

    def caught(graph, reports=None):
        outputs, ask = [], server.run
        monkeypatch.setattr(server, "run", lambda g: outputs.append(ask(g)) or outputs[-1])
        found = latents(graph)
        monkeypatch.undo()
        if reports is not None:
            reports.append(text(outputs[0], graph.report))
        return found

    return caught


@pytest.fixture(scope="module")
def four(server) -> list[dict]:
    """The report of four attempts."""
    graph = Searched()
    graph.search(attempts=4)
    return attempts_of(text(server.run(graph), graph.report))


@pytest.mark.parametrize("at_once", [1, 3])
def test_an_attempt_is_what_comfyuis_own_node_gives_for_its_seed(latents, at_once):
    _, pairs = both(latents, Searched(), at_once=at_once)
    for row, plain in pairs:
        assert torch.equal(row, plain) if at_once == 1 else torch.allclose(row, plain, atol=1e-3)
    assert (pairs[0][0] - pairs[1][0]).abs().max() > 0.1


def test_a_varied_attempt_is_repeated_by_prompt_variation(latents):
    graph, reports = Searched(), []
    graph.search(variation=1.5, attempts=2, keep=2, at_once=2)
    for seed in (SEED, SEED + 1):
        positive = graph.add("RefereeVariation", conditioning=graph.positive, seed=seed, variation=1.5, end_percent=0.3)
        graph.plain(
            seed,
            graph.add("CFGGuider", model=graph.model, positive=positive[0], negative=graph.negative, cfg=3.0)[0],
        )
    graph.plain(SEED + 2)
    found = latents(graph, reports)
    lines = reports[0].splitlines()
    seeds = [int(re.match(r"attempt \d \(seed (\d+), variation 1.5\): loss", line)[1]) for line in lines]
    own = [found[f"plain{seed}"][0] for seed in seeds]
    assert any(torch.equal(found["found"][0], one) for one in own)
    assert any(torch.equal(found["found"][1], one) for one in own) and not torch.equal(*own)


def test_a_referee_sampler_runs_inside_with_the_seed_of_its_attempt(latents):
    graph = Searched(steps=2)
    graph.sampler = graph.add(
        "RefereeSampler", vae=graph.vae, loss=graph.loss, weight=800.0, weight_end=400.0, schedule="cosine", t_min=50,
        t_max=949, **LOOP | {"tail": 0},
    )[0]  # fmt: skip
    _, pairs = both(latents, graph, seeds=(SEED, SEED + 1), attempts=2, keep=2, at_once=2)
    assert all(torch.equal(row, plain) for row, plain in pairs)


def test_it_says_where_a_sampler_ended_early(server):
    graph = Searched(steps=5)
    loop = LOOP | {"tail": 1, "lr": 0.0, "lr_end": 0.0, "noise": 0.0, "patience": 1}  # nothing that could get better
    graph.sampler = graph.add(
        "RefereeSampler", vae=graph.vae, loss=graph.loss, weight=800.0, weight_end=400.0, schedule="cosine", t_min=50,
        t_max=949, **loop,
    )[0]  # fmt: skip
    graph.search(attempts=1)
    report = text(server.run(graph), graph.report)
    assert re.search(r" · ended after step 3 of 5$", report)


@pytest.mark.parametrize(("sampler", "at_once"), [("euler", 3), ("ddim", 3), ("dpmpp_2m_sde", 2)])
def test_a_mask_keeps_the_rest_of_a_picture(latents, sampler, at_once):
    graph = Searched(sampler, denoise=0.8)
    picture = graph.add("EmptyImage", width=128, height=128, batch_size=1, color=0x803010)[0]
    encoded = graph.add("VAEEncode", pixels=picture, vae=graph.vae)[0]
    mask = graph.add("SolidMask", value=0.0, width=128, height=128)[0]
    hole = graph.add("SolidMask", value=1.0, width=64, height=128)[0]
    mask = graph.add("MaskComposite", destination=mask, source=hole, x=0, y=0, operation="add")[0]
    graph.latent = graph.add("SetLatentNoiseMask", samples=encoded, mask=mask)[0]
    graph.save(encoded, "start")
    found, pairs = both(latents, graph, at_once=at_once)
    for row, plain in pairs:
        assert torch.allclose(row, plain, atol=1e-3)
        assert torch.allclose(row[..., 8:], found["start"][0, ..., 8:], atol=1e-3)
        assert (row[..., :8] - found["start"][0, ..., :8]).abs().max() > 0.1


def test_without_a_stop_all_are_tried_and_the_best_come_first(server, four):
    assert [a["attempt"] for a in four] == [1, 2, 3, 4] and [a["seed"] for a in four] == [7, 8, 9, 10]
    graph = Searched()
    graph.search(attempts=4, keep=2)
    outputs = server.run(graph)
    best = sorted(four, key=lambda a: a["loss"])[:2]
    assert [float(s) for s in outputs[graph.scores]["text"]] == pytest.approx([a["match"] for a in best], abs=1e-3)


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_it_stops_at_the_first_that_matches_whatever_the_number_at_once(server, four, at_once):
    miss, hit = next((a, b) for a, b in pairwise(four) if b["match"] > a["match"] + 0.1)
    graph = Searched()
    stop_at = round((miss["match"] + hit["match"]) / 2, 3)
    graph.search(seed=int(miss["seed"]), attempts=4, keep=1, stop_at=stop_at, at_once=at_once)
    shown = watch(server, graph)
    report = [text for text in shown["texts"] if text.startswith("done")][-1]
    said = rf"· match {shortened(hit['match'])} \(seed {hit['seed']:.0f}\) · 2 of 4 attempts"
    assert re.search(said, report)


def test_the_node_shows_its_attempts_while_it_runs(server, four):
    graph = Searched()
    graph.search(attempts=4, at_once=1)
    shown = watch(server, graph)
    best = max(a["match"] for a in four)
    lines = [line for line in shown["texts"] if line.startswith("attempt")]
    assert re.fullmatch(r"attempt 1/4 · \d+:\d\d left", lines[0])
    second = rf"attempt 2/4 · best match {shortened(four[0]['match'])} \(seed 7\) · \d+:\d\d left"
    assert any(re.fullmatch(second, line) for line in lines)
    last = rf"done in \d+:\d\d · match {shortened(best)} \(seed \d+\) · 4 of 4 attempts"
    assert re.fullmatch(last, shown["texts"][-1])
    improved = sum(a["loss"] == min(b["loss"] for b in four[: i + 1]) for i, a in enumerate(four))
    assert len(shown["pictures"]) == improved
    ticks = [value for value, _ in shown["progress"]]  # ComfyUI leaves out what follows too fast
    assert {(tick - 1) // STEPS for tick in ticks} == {0, 1, 2, 3}
    assert ticks[-1] == 4 * STEPS and ticks == sorted(ticks)


def test_scores_and_seeds_are_saved_with_the_pictures(server, four):
    graph = Searched()
    outputs = graph.search(attempts=4, keep=2)
    graph.add("SaveImage", images=outputs[1], filename_prefix="searched")
    (first, _) = saved(server, run(server, graph, {"nodes": [{"id": graph.id, "title": "Mine"}]}), "searched")
    (entry,) = strict(first["referee"]).values()
    best = sorted(four, key=lambda a: a["loss"])[:2]
    assert entry["text"] == [PROMPT]
    expected = [(1, best[0]["seed"], STEPS), (2, best[1]["seed"], STEPS)]
    assert [(i["image"], i["seed"], i["steps"]) for i in entry["images"]] == expected
    assert [i["loss"] for i in entry["images"]] == pytest.approx([a["loss"] for a in best], abs=1e-3)


def test_a_stop_without_a_match_is_refused(server):
    graph = Searched()
    loss = graph.add("RefereeLoss", referee=graph.referee, text="a cross", itm_weight=0.0, caption_weight=1.0)[0]
    graph.search(loss=loss, stop_at=0.9)
    assert "'stop_at' needs the probability of a match: give 'itm' a weight above 0" in failure(server, graph)


def test_by_the_caption_alone_the_lowest_loss_is_best(server):
    graph = Searched()
    loss = graph.add("RefereeLoss", referee=graph.referee, text="a cross", itm_weight=0.0, caption_weight=1.0)[0]
    graph.search(loss=loss, attempts=2, keep=1)
    shown = watch(server, graph)
    assert re.search(r"· loss [\d.]+ \(seed \d\) · 2 of 2 attempts", shown["texts"][-1])


def test_a_batch_is_refused_with_a_way_out(server):
    graph = Searched()
    graph.latent = graph.add("EmptyLatentImage", width=128, height=128, batch_size=2)[0]
    graph.search()
    message = failure(server, graph)
    assert "'latent_image' holds 2 images" in message and "'attempts'" in message


def test_a_single_sigma(server):
    graph = Searched()
    graph.sigmas = graph.add("SplitSigmas", sigmas=graph.sigmas, step=STEPS)[1]
    graph.search()
    assert "'sigmas' holds no step" in failure(server, graph)


def test_a_latent_of_nan(server):
    latents = torch.zeros(1, 4, 8, 8)
    latents[0, 0, 0, 0] = torch.nan
    path = server.base / "input" / "nan_for_search.latent"
    save_file({"latent_tensor": latents, "latent_format_version_0": torch.tensor([])}, path)
    graph = Searched()
    graph.latent = graph.add("LoadLatent", latent=path.name)[0]
    graph.search()
    assert "'latent_image'" in (message := failure(server, graph)) and "NaN" in message


def test_latents_of_a_video(server):
    graph = Searched()
    graph.latent = graph.add("EmptyHunyuanLatentVideo", width=128, height=128, length=5, batch_size=1)[0]
    graph.search()
    assert "video" in failure(server, graph)


def test_no_match_is_called_so(server, four):
    graph = Searched()
    graph.search(attempts=3, stop_at=1.0)
    best = max(a["match"] for a in four[:3])
    last = watch(server, graph)["texts"][-1]
    assert re.fullmatch(rf"no match in 3 attempts · best {shortened(best)} \(seed \d+\) · \d+:\d\d", last)


def test_a_patch_that_looks_at_the_whole_batch_makes_it_one_at_a_time(server, latents):
    """EasyCache decides for the batch by its mean."""
    graph = Searched(sampler="euler", steps=12)
    patched = graph.add(
        "EasyCache", model=graph.model, reuse_threshold=0.2, start_percent=0.1, end_percent=0.95, verbose=False
    )[0]
    graph.guider = graph.add(
        "CFGGuider", model=patched, positive=graph.positive, negative=graph.negative, cfg=3.0
    )[0]  # fmt: skip
    graph.search(attempts=2, keep=2, at_once=2)
    for seed in (SEED, SEED + 1):
        graph.plain(seed)
    shown = watch(server, graph)["texts"]
    assert any("one at a time: with this sampler, conditioning or patches" in line for line in shown)
    found = latents(graph)
    plain = [found[f"plain{seed}"] for seed in (SEED, SEED + 1)]
    assert all(any(torch.equal(row, one) for one in plain) for row in found["found"].split(1))


@pytest.mark.parametrize("sampler", ["dpm_fast", "dpm_adaptive", "euler"])
def test_attempts_are_given_up_by_noise_level_however_a_sampler_counts(server, sampler):
    graph = Searched(sampler=sampler, steps=8)
    graph.search(attempts=6, prune_at=0.5, keep=1)
    lines = text(server.run(graph), graph.report).splitlines()
    given_up = [line for line in lines if "given up after step" in line]
    assert 1 <= len(given_up) <= 5
    made = {int(re.search(r"after step (\d+) of 8", line)[1]) for line in given_up}
    assert min(made) >= 4 and max(made) < 8


def test_cancel_and_failure_are_said_on_the_node(server):
    graph = Searched(steps=40)
    graph.search(attempts=50, stop_at=0.0, keep=1)
    asked = queue_until(server, graph, graph.id, steps=60, workflow="cancelled")
    server.post("/interrupt", {})
    with pytest.raises(PromptError):
        server.wait(asked)
    (run,) = server.get("/referee/curves?workflow=cancelled")
    assert re.fullmatch(r"cancelled in attempt [2-9] of 50", run["status"]) and not run["running"]

    graph = Searched()
    graph.latent = graph.add("EmptyLatentImage", width=128, height=128, batch_size=2)[0]
    graph.search()
    with pytest.raises(PromptError):
        server.wait(server.queue(graph, workflow="failed"))
    (run,) = server.get("/referee/curves?workflow=failed")
    assert run["status"] == "failed before the first step" and not run["running"]


def test_finish_now_gives_out_the_best_so_far(server):
    graph = Searched(steps=100)
    graph.search(attempts=30, stop_at=0.0, keep=30)
    asked = queue_until(server, graph, graph.id, steps=130, workflow="finished")
    assert server.post("/referee/finish", {"workflow": "finished", "node": graph.id}) is True
    report = text(server.wait(asked)["outputs"], graph.report).splitlines()
    assert len(report) == 2 and re.search(r"finished by hand after step \d+ of 100$", report[-1])
    (run,) = server.get("/referee/curves?workflow=finished")
    assert run["status"].endswith(f"{len(report)} of 30 attempts · finished by hand")
    assert server.post("/referee/finish", {"workflow": "finished", "node": graph.id}) is False
