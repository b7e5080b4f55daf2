"""Score Images, and the numbers that saved images carry."""

import io
import json
import time

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from comfyui.conftest import PROMPT, Demo, queue_until
from scripts.server import PromptError

COLOURS = (0x0000FF, 0xFFFFFF, 0xFF0000, 0x808080)


class Scored(Demo):
    """A batch of one-coloured pictures and a Score Images node that judges them."""

    def __init__(self, colours=COLOURS, keep=0, **inputs):
        super().__init__()
        self.images = self.plain(colours[0])
        for colour in colours[1:]:
            self.images = self.add("ImageBatch", image1=self.images, image2=self.plain(colour))[0]
        self.score(keep, **inputs)

    def plain(self, colour: int, count: int = 1) -> list:
        return self.add("EmptyImage", width=64, height=64, batch_size=count, color=colour)[0]

    def score(self, keep=0, **inputs) -> None:
        inputs = {"images": self.images, "loss": self.loss, "keep": keep} | inputs
        self.ranked, self.kept, self.best_loss, self.scores, self.report = self.add("RefereeScore", **inputs)[:5]
        self.id = self.report[0]

    def show(self, *sources) -> list[str]:
        """Ids of the nodes that show these outputs as text."""
        return [self.add("PreviewAny", source=source)[0][0] for source in sources]


def run(server, graph, workflow=None, extra_pnginfo=None) -> dict:
    """Outputs of a graph that is queued together with what a browser says about it."""
    extra = {"workflow": workflow} if extra_pnginfo is None else extra_pnginfo
    asked = server.post("/prompt", {"prompt": graph, "client_id": "test", "extra_data": {"extra_pnginfo": extra}})
    return server.wait(asked["prompt_id"])["outputs"]


def losses_in(report: str) -> list[float]:
    return [float(line.split("loss ")[1].split(" ")[0]) for line in report.splitlines()]


def saved(server, outputs, prefix: str) -> list[dict]:
    """The text chunks of the PNG files whose names begin so, in their order."""
    entries = [e for o in outputs.values() for e in o.get("images", []) if e["filename"].startswith(prefix)]
    return [Image.open(io.BytesIO(server.image(e))).info for e in sorted(entries, key=lambda e: e["filename"])]


def strict(text: str):
    """JSON as the standard has it, without NaN and Infinity."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def broken(server):
    """``broken(graph, places, count)``: pictures from a VAE that gave NaN in these places of the batch."""

    def make(graph: Demo, places: list[int], count: int) -> list:
        latents = torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(7))
        latents[places, :, 3, 3] = torch.nan
        name = f"nan_{count}_{'_'.join(map(str, places))}.latent"
        save_file({"latent_tensor": latents, "latent_format_version_0": torch.tensor([])}, server.base / "input" / name)
        return graph.add("VAEDecode", samples=graph.add("LoadLatent", latent=name)[0], vae=graph.vae)[0]

    return make


def test_images_come_out_in_the_order_of_their_losses(server):
    graph = Scored(keep=3)
    alone = [Scored([colour]) for colour in COLOURS]
    report, best = graph.show(graph.report, graph.best_loss)
    graph.add("SaveImage", images=graph.ranked, filename_prefix="order")
    outputs = server.run(graph)
    losses = []
    for one in alone:
        shown = one.show(one.best_loss)[0]
        losses.append(float(server.run(one)[shown]["text"][0]))
    assert losses_in(outputs[report]["text"][0]) == pytest.approx(sorted(losses), abs=1e-3)
    assert float(outputs[best]["text"][0]) == pytest.approx(min(losses), abs=1e-5)
    order = sorted(range(len(losses)), key=losses.__getitem__)
    assert order != list(range(len(losses)))  # else the ranking would not show
    named = [f"{rank}. image {i + 1}" for rank, i in enumerate(order, 1)]
    assert [line.split(":")[0] for line in outputs[report]["text"][0].splitlines()] == named
    pictures = [e for o in outputs.values() for e in o.get("images", [])]
    found = [Image.open(io.BytesIO(server.image(e))).getpixel((9, 9)) for e in pictures]
    assert found == [tuple(COLOURS[i].to_bytes(3, "big")) for i in order[:3]]


def test_a_combined_loss_is_reported_term_by_term(server):
    graph = Demo()
    other = graph.add("RefereeLoss", referee=graph.referee, text="a blue square", itm_weight=1.0, caption_weight=0.0)[0]
    both = graph.add("RefereeCombineLosses", losses__loss_0=graph.loss, losses__loss_1=other, weights="1, 0.5")[0]
    image = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0x0000FF)[0]
    reports = [graph.add("RefereeScore", images=image, loss=loss, keep=0)[4] for loss in (graph.loss, other, both)]
    shown = [graph.add("PreviewAny", source=report)[0][0] for report in reports]
    outputs = server.run(graph)
    (first, *_), (second, *_), (line, *texts) = (outputs[node]["text"][0].splitlines() for node in shown)
    assert texts == [f"text 1: {PROMPT}", "text 2: a blue square"]
    first, second, both = map(numbers, (first, second, line))
    assert both["loss"] == pytest.approx(first["loss"] + 0.5 * second["loss"], abs=2e-3)
    assert both["match"] == min(first["match"], second["match"])
    assert both["text 1 match"] == first["match"] and both["text 2 match"] == second["match"]
    assert both["text 1 caption"] == first["caption"]


def numbers(row: str) -> dict[str, float]:
    """Of a line of the report, by name."""
    return {name: float(value) for name, value in (p.rsplit(" ", 1) for p in row.split(": ")[1].split(" · "))}


def test_cancel_ends_it_between_two_images_of_a_batch(server):
    graph = Scored([0xFFFFFF])
    graph.images = graph.plain(0xFF0000, 4000)
    graph.score()
    graph.show(graph.best_loss)
    asked = queue_until(server, graph, graph.id, steps=2)
    pressed = time.monotonic()
    server.post("/interrupt", {})
    with pytest.raises(PromptError, match="interrupted"):
        server.wait(asked, 60)
    assert time.monotonic() - pressed < 20  # the whole batch takes minutes


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_picture_of_nan_ranks_last_and_the_others_as_without_it(server, broken, place):
    graph = Demo()
    images = broken(graph, [place], 3)
    ranked, _, best, scores, report = graph.add("RefereeScore", images=images, loss=graph.loss, keep=0)[:5]
    shown = [graph.add("PreviewAny", source=source)[0][0] for source in (report, best, scores)]
    graph.add("SaveImage", images=ranked, filename_prefix=f"nan{place}")
    whole = [graph.add("ImageFromBatch", image=images, batch_index=i, length=1)[0] for i in range(3) if i != place]
    alone = [
        graph.add("PreviewAny", source=graph.add("RefereeScore", images=one, loss=graph.loss, keep=1)[2])[0][0]
        for one in whole
    ]
    outputs = run(server, graph, {"id": "a", "nodes": []})
    texts = outputs[shown[0]]["text"][0].splitlines()
    losses = [float(outputs[node]["text"][0]) for node in alone]
    assert texts[2].startswith(f"3. image {place + 1}: not finite (NaN")
    assert losses_in("\n".join(texts[:2])) == pytest.approx(sorted(losses), abs=1e-3)
    assert float(outputs[shown[1]]["text"][0]) == pytest.approx(min(losses), abs=1e-5)
    assert outputs[shown[2]]["text"][2] == "None"
    for info in saved(server, outputs, f"nan{place}"):
        rows = strict(info["referee"])[f"Score Images (#{report[0]})"]["images"]
        assert [row["loss"] for row in rows[:2]] == pytest.approx(sorted(losses), abs=1e-3)
        assert rows[2] == {"image": 3, "match": None, "loss": None}


def test_a_batch_of_nan_alone_is_an_error_that_names_input_cause_and_remedy(server, broken):
    graph = Demo()
    images = broken(graph, [0, 1], 2)
    graph.add("PreviewAny", source=graph.add("RefereeScore", images=images, loss=graph.loss, keep=1)[2])
    with pytest.raises(PromptError, match=r"'images'.*NaN.*image 1, 2 of 2.*VAE.*fp16.*--fp32-vae"):
        server.run(graph)


def test_who_uses_the_latent_that_never_came_in_is_told_so(server):
    graph = Scored()
    graph.show(graph.best_loss)
    assert server.run(graph)  # and from here on ComfyUI keeps the node's outputs
    decoded = graph.add("VAEDecode", samples=graph.kept, vae=graph.vae)[0]
    graph.add("PreviewImage", images=decoded)
    with pytest.raises(PromptError, match="'latents'") as error:
        server.run(graph)
    assert error.value.details["node_type"] == "VAEDecode"


def test_the_latents_come_out_in_the_images_order(server, latents):
    graph = Demo()
    samples = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    save_file(
        {"latent_tensor": samples, "latent_format_version_0": torch.tensor([])}, server.base / "input/four.latent"
    )
    given = graph.add("LoadLatent", latent="four.latent")[0]
    images = graph.add("VAEDecode", samples=given, vae=graph.vae)[0]
    _, latent, _, _, report = graph.add("RefereeScore", images=images, loss=graph.loss, keep=2, latents=given)[:5]
    shown = graph.add("PreviewAny", source=report)[0][0]
    lines = server.run(graph)[shown]["text"][0].splitlines()
    graph.save(latent, "kept")
    order = [int(line.split("image ")[1].split(":")[0]) - 1 for line in lines]
    assert sorted(order) == [0, 1, 2, 3] and losses_in("\n".join(lines)) == sorted(losses_in("\n".join(lines)))
    assert torch.equal(latents(graph)["kept"], samples[order[:2]])


def test_a_missing_match_is_none(server):
    graph = Scored()
    caption = graph.add("RefereeLoss", referee=graph.referee, text="a red circle", itm_weight=0.0, caption_weight=1.0)[
        0
    ]
    graph.score(loss=caption)
    optimised = graph.optimise(loss=None, steps=2)[3]
    captioned = graph.optimise(loss=caption, prior=None, tail=0, steps=1)[3]
    shown = graph.show(graph.scores, optimised, captioned)
    outputs = server.run(graph)
    assert [outputs[node]["text"] for node in shown] == [["None"] * len(COLOURS), ["None"], ["None"]]


def test_each_saved_picture_of_a_ranked_batch_has_its_own_entry(server):
    graph = Scored(keep=2)
    report, scores = graph.show(graph.report, graph.scores)
    graph.add("SaveImage", images=graph.ranked, filename_prefix="batch")
    workflow = {"id": "a", "nodes": [{"id": int(graph.id), "type": "RefereeScore", "title": "My jury"}]}
    outputs = run(server, graph, workflow)
    files = saved(server, outputs, "batch")
    losses = sorted(losses_in(outputs[report]["text"][0]))
    matches = [float(text) for text in outputs[scores]["text"]]
    assert len(files) == 2
    for info in files:
        assert json.loads(info["workflow"]) == workflow
        entry = strict(info["referee"])[f"My jury (#{graph.id})"]
        assert entry["text"] == ["a red circle and a blue square"]
        assert [row["image"] for row in entry["images"]] == [1, 2]
        assert [row["match"] for row in entry["images"]] == pytest.approx(matches, abs=1e-4)
        assert [row["loss"] for row in entry["images"]] == pytest.approx(losses[:2], abs=1e-3)


def test_the_optimizers_pictures_carry_their_scores(server):
    graph = Demo(batch=2)
    outputs = graph.optimise(steps=2)
    graph.add("SaveImage", images=outputs[1], filename_prefix="optimised")
    scores = graph.add("PreviewAny", source=outputs[3])[0][0]
    ran = run(server, graph, {"id": "a", "nodes": []})
    shown = [float(text) for text in ran[scores]["text"]]
    files = saved(server, ran, "optimised")
    assert len(files) == 2
    for info in files:
        entry = strict(info["referee"])[f"Referee Optimizer (#{outputs[3][0]})"]
        assert [row["match"] for row in entry["images"]] == pytest.approx(shown, abs=1e-4)


def test_pictures_that_go_through_as_a_list_have_an_entry_each(server):
    graph = Scored(COLOURS[:3])
    single = graph.add("RebatchImages", images=graph.images, batch_size=1)[0]
    graph.score(images=single)
    graph.add("SaveImage", images=graph.ranked, filename_prefix="list")
    best = graph.show(graph.best_loss)[0]
    for _ in range(2):  # a second run does not add to the first one's
        graph[graph.id]["inputs"]["keep"] = 1 - graph[graph.id]["inputs"]["keep"]
        outputs = run(server, graph, {"id": "a", "nodes": []})
    rows = strict(saved(server, outputs, "list")[0]["referee"])[f"Score Images (#{graph.id})"]["images"]
    assert [row["loss"] for row in rows] == pytest.approx([float(t) for t in outputs[best]["text"]], abs=1e-3)
    assert [row["image"] for row in rows] == [1, 2, 3]


@pytest.mark.parametrize(
    "extra",
    [{"workflow": "made by a script"}, {"workflow": ["a"]}, {"workflow": {"nodes": "all"}}, {"referee": "mine"}, {}],
)
def test_whatever_a_client_says_about_the_graph_the_numbers_are_written(server, extra):
    graph = Scored([0xFF0000])
    graph.optimise(steps=2)
    report = graph.show(graph.report)[0]
    graph.add("SaveImage", images=graph.ranked, filename_prefix="client")
    outputs = run(server, graph, extra_pnginfo=extra)
    (row,) = strict(saved(server, outputs, "client")[-1]["referee"])[f"Score Images (#{graph.id})"]["images"]
    assert [row["loss"]] == pytest.approx(losses_in(outputs[report]["text"][0]), abs=1e-3)


def test_extra_data_that_is_text_does_not_end_a_run(server):
    graph = Scored([0xFF0000])
    graph.optimise(steps=2)
    shown = graph.show(graph.report)[0]
    assert run(server, graph, extra_pnginfo="mine")[shown]["text"][0].startswith("1. image 1: loss")


def test_a_transparent_picture_is_judged_on_white_not_by_its_hidden_colours(server):
    """A red picture, transparent all over, is a white one."""
    graph = Scored([0xFFFFFF])
    mask = graph.add("SolidMask", value=1.0, width=64, height=64)[0]  # ComfyUI's masks say what is transparent
    clear = graph.add("JoinImageWithAlpha", image=graph.plain(0xFF0000), alpha=mask)[0]
    half = graph.add("SolidMask", value=0.5, width=64, height=64)[0]
    pink = graph.add("JoinImageWithAlpha", image=graph.plain(0xFF0000), alpha=half)[0]
    losses = {}
    for name, image in {"white": graph.images, "clear": clear, "pink": pink, "as pink": graph.plain(0xFF8080)}.items():
        graph.score(images=image)
        (losses[name],) = graph.show(graph.best_loss)
    outputs = server.run(graph)
    white, clear, pink, as_pink = (float(outputs[losses[n]]["text"][0]) for n in losses)
    assert clear == pytest.approx(white, abs=1e-5) and pink == pytest.approx(as_pink, abs=0.1)
    assert abs(pink - white) > 0.5


def test_what_a_file_carries_does_not_grow_with_the_square_of_the_batch(server):
    graph = Scored()
    graph.score(images=graph.plain(0x00FF00, 300))
    graph.add(
        "SaveImage",
        images=graph.add("ImageFromBatch", image=graph.ranked, batch_index=299, length=1)[0],
        filename_prefix="many",
    )
    (info,) = saved(server, run(server, graph, {"id": "a", "nodes": []}), "many")
    entry = strict(info["referee"])[f"Score Images (#{graph.id})"]
    assert len(entry["images"]) + entry["left_out"] == 300 and len(info["referee"]) < 20_000
