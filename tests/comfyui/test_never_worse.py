"""What comes out of Referee Optimizer beside what went in: right pictures untouched, none worse if asked."""

import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from comfyui.conftest import Demo, queue_until, watch

RIGHT = "a red circle"


class Behind(Demo):
    """An optimizer behind a latent on disk, with values that spoil a picture."""

    def __init__(self, server, samples: torch.Tensor, text: str = RIGHT):
        super().__init__(text=text)
        path = server.base / "input" / f"start_{abs(hash(samples.numpy().tobytes()))}.latent"
        save_file({"latent_tensor": samples, "latent_format_version_0": torch.tensor([])}, path)
        self.start = self.add("LoadLatent", latent=path.name)[0]

    def spoil(self, **changes) -> list:
        rough = {"lr": 10.0, "lr_end": 10.0, "noise": 2.0, "tail": 0, "steps": 3, "prior": None}
        return self.optimise(latent_image=self.start, **rough | {"averaging": None, "augmentation": None} | changes)


@pytest.fixture(scope="module")
def pictures(server) -> torch.Tensor:
    """Latents of a red circle and of a white cross, by the pack's own search."""
    found = []
    for text in (RIGHT, "a white cross"):
        graph = Demo(text=text)
        positive = graph.add("CLIPTextEncode", clip=graph.clip, text=text)[0]
        guider = graph.add("CFGGuider", model=graph.model, positive=positive, negative=graph.negative, cfg=3.0)[0]
        sigmas = graph.add("BasicScheduler", model=graph.model, scheduler="normal", steps=10, denoise=1.0)[0]
        sampler = graph.add("KSamplerSelect", sampler_name="euler_ancestral")[0]
        latent = graph.add(
            "RefereeSearch", guider=guider, sampler=sampler, sigmas=sigmas, latent_image=graph.latent, vae=graph.vae,
            loss=graph.loss, seed=1, attempts=20, stop_at=0.9, keep=1, at_once=0, prune_at=0.0,
        )[0]  # fmt: skip
        name = text.replace(" ", "-")
        graph.save(latent, name)
        server.run(graph)
        (path,) = (server.base / "output").glob(f"{name}*.latent")
        found.append(load_file(path)["latent_tensor"])
    return torch.cat(found)


def matches(server, graph: Demo, outputs: list) -> list[float]:
    """What the referee says of the optimizer's pictures, without random views."""
    shown = graph.add("PreviewAny", source=outputs[3])[0][0]
    return [float(text) for text in server.run(graph)[shown]["text"]]


def test_a_picture_that_matches_already_comes_out_untouched(server, latents, pictures):
    graph = Behind(server, pictures[:1])
    outputs = graph.spoil(stop_at=0.9)
    for kind in ("HistoryPlot", "Filmstrip", "GradientView"):  # none of them fails on a run without a step
        size = {} if kind == "HistoryPlot" else {"columns": 9, "size": 128}
        graph.add("PreviewImage", images=graph.add(f"Referee{kind}", history=outputs[2], index=0, **size)[0])
    shown = watch(server, graph)["texts"][-1]
    assert torch.equal(latents(graph)["run"], pictures[:1])
    assert re.search(r"nothing to do: the picture that came in matches already \(0\.9\d|1\.00\)", shown)


def test_without_stop_at_it_is_optimised_all_the_same(server, latents, pictures):
    graph = Behind(server, pictures[:1])
    graph.spoil()
    assert not torch.equal(latents(graph)["run"], pictures[:1])


def test_of_a_batch_those_that_match_stay_and_the_others_are_optimised(server, latents, pictures):
    graph = Behind(server, pictures)
    graph.spoil(stop_at=0.9)
    made = latents(graph)["run"]
    assert torch.equal(made[0], pictures[0]) and not torch.equal(made[1], pictures[1])


def test_best_of_start_and_run_gives_nothing_worse_than_came_in(server, latents, pictures):
    plain, best = Behind(server, pictures, "a white cross"), Behind(server, pictures, "a white cross")
    worse = matches(server, plain, plain.spoil())
    outputs = best.spoil(result="best of start and run")
    assert matches(server, best, outputs)[1] > 0.8 > worse[1]
    best[outputs[0][0]]["inputs"]["seed"] += 1
    assert "came in, which comes out again: image" in watch(server, best)["texts"][-1]
    assert torch.equal(latents(best)["run"][1], pictures[1])


def test_best_of_start_and_run_takes_what_the_run_made_better(server, latents):
    """From noise there is nothing that came in."""
    graph = Demo(text=RIGHT)
    kind = {"steps": 12, "lr": 0.2, "lr_end": 0.1, "noise": 0.0, "averaging": None}
    last, best = (graph.optimise(result, result=result, **kind) for result in ("last", "best of start and run"))
    first, second = matches(server, graph, last), matches(server, graph, best)
    assert second[0] >= 0.9 * first[0]


def test_small_models_with_the_values_of_large_ones_are_noticed(server):
    graph = Demo()
    graph.optimise(steps=2, lr=1.0, lr_end=0.5)
    assert "the template 'Referee - 13 Optimizer, quick demo'" in watch(server, graph)["texts"][-1]


def test_an_early_end_says_where_and_why(server):
    graph = Demo()
    graph.optimise(steps=30, tail=2, stop_at=0.00001, seed=77)
    texts = watch(server, graph)["texts"]
    assert texts[-1].endswith(" · stopped at step 3 of 30: matched in step 1")
    assert any(text.startswith("step 3/3 (of 30: matched in step 1)") for text in texts)


def test_finish_now_gives_out_the_best_so_far(server, latents):
    graph = Demo()
    optimizer = graph.optimise(steps=4000, seed=5)[0][0]
    asked = queue_until(server, graph, optimizer, steps=30, workflow="optimised")
    assert server.post("/referee/finish", {"workflow": "optimised", "node": optimizer}) is True
    server.wait(asked)
    (run,) = server.get("/referee/curves?workflow=optimised")
    assert re.search(r" · stopped at step \d+ of 4000: finished by hand", run["status"]) and not run["running"]
