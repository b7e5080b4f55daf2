"""Load Referee and Convert Referee on published files, through a real server."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from comfyui import inside
from comfyui.conftest import Demo, watch
from comfyui.test_bad_input import failure
from referee_core.referees.blip2.weights import load
from scripts.environment import find_comfyui
from scripts.server import Graph, Server
from tests.core.published_files import put_lavis, read_lavis

PARITY = Path(__file__).parents[1] / "parity" / "published-pattern.safetensors"
TEXT = "a red cat and two dogs"


@pytest.fixture(scope="module")
def folder(server):
    """models/referee with a small LAVIS model in it, in a folder of its own."""
    folder = server.base / "models" / "referee" / "lavis"
    folder.mkdir()
    with safe_open(PARITY, framework="pt") as file:
        weights = {k: file.get_tensor(k) for k in file.keys() if not k.startswith("expected.")}  # noqa: SIM118
        (folder / "vocab.txt").write_text("\n".join(json.loads(file.metadata()["words"])) + "\n")
    tower = {k.removeprefix("visual_encoder."): v for k, v in weights.items() if k.startswith("visual_encoder.")}
    torch.save(tower, folder / "eva_vit_g.pth")
    rest = {k: v for k, v in weights.items() if not k.startswith("visual_encoder.")}
    torch.save({"model": rest}, folder / "blip2_pretrained.pth")
    return folder


def judged_by(name: str, precision: str = "auto", caption_weight: float = 1.0) -> Demo:
    """The demo's VAE and diffusion model with a referee from models/referee."""
    graph = Demo()
    referee = graph.add("RefereeLoader", referee_name=name, precision=precision)[0]
    loss = graph.add("RefereeLoss", referee=referee, text=TEXT, itm_weight=1.0, caption_weight=caption_weight)[0]
    graph.optimise(loss=loss, steps=3)
    return graph


def convert(name: str, filename: str) -> Graph:
    graph = Graph()
    graph.add("RefereeConvert", referee_name=name, filename=filename)
    return graph


def test_published_files_and_the_converted_one_give_the_same_image(server, folder, latents):
    published = latents(judged_by("lavis/blip2_pretrained.pth"))["run"]
    assert torch.isfinite(published).all()
    shown = watch(server, convert("lavis/blip2_pretrained.pth", "tiny"))
    assert any("tiny.safetensors is ready" in text for text in shown["texts"])
    converted = latents(judged_by("tiny.safetensors"))["run"]
    assert (converted - published).abs().mean() < 0.2 * published.std(), "the tower was rounded to bf16"
    assert "already" in failure(server, convert("lavis/blip2_pretrained.pth", "tiny"))
    assert "without folders" in failure(server, convert("lavis/blip2_pretrained.pth", "../../tiny"))


@pytest.mark.parametrize(
    ("filename", "said"),
    [
        ("CON", "Windows"), ("nul.txt", "Windows"), ("COM1.safetensors", "Windows"), ("a<b", "must not hold"),
        ("a:b", "must not hold"), ("what?", "must not hold"), ("a\tb", "invisible"), ("a/b", "without folders"),
        ("a\\b", "without folders"), ("", "without folders"), (".SafeTensors", "without folders"), ("a.", "a dot"),
        ("a ", "a space"), ("a" * 201, "too long"), ("漢" * 67, "too long"),
    ],
)  # fmt: skip
def test_names_that_no_system_likes_are_refused(server, folder, filename, said):
    before = {f.name for f in (server.base / "models" / "referee").iterdir()}
    message = failure(server, convert("lavis/blip2_pretrained.pth", filename))
    assert "'filename'" in message and said in message
    assert {f.name for f in (server.base / "models" / "referee").iterdir()} == before


def test_suffixes_count_in_any_case_and_partial_files_are_not_listed(server, folder):
    models = server.base / "models" / "referee"
    for name in ("Good.SafeTensors", "Good.PTH", "bad.safetensors.part", "bad.txt"):
        (models / name).write_bytes(b"")
    server.run(convert("lavis/blip2_pretrained.pth", "capital.SAFETENSORS"))
    options = server.get("/object_info/RefereeLoader")["RefereeLoader"]["input"]["required"]["referee_name"]
    listed = json.dumps(options)
    assert all(f'"{name}"' in listed for name in ("Good.SafeTensors", "Good.PTH", "capital.safetensors"))
    assert "bad." not in listed
    assert load(models / "capital.safetensors").terms == ("itm", "caption")


@pytest.mark.parametrize("precision", ["bf16 tower", "bf16", "fp16 tower"])
def test_lower_precision_keeps_to_the_same_image(folder, latents, precision):
    exact = latents(judged_by("lavis/blip2_pretrained.pth", "fp32"))["run"]
    lower = latents(judged_by("lavis/blip2_pretrained.pth", precision))["run"]
    assert not torch.equal(lower, exact)
    assert (lower - exact).abs().mean() < 0.2 * exact.std()


def test_a_file_without_caption_head_says_how_to_get_one(server, folder, latents):
    from dataclasses import replace

    from referee_core.referees.blip2.weights import open_source, write

    source = open_source(folder / "blip2_pretrained.pth")
    tensors = {k: v for k, v in source.tensors.items() if not k.startswith("caption_head.")}
    write(
        folder / "itm.safetensors", replace(source, config=replace(source.config, caption_head=False), tensors=tensors)
    )
    assert load(folder / "itm.safetensors").terms == ("itm",)
    message = failure(server, judged_by("lavis/itm.safetensors"))
    assert "'caption_weight'" in message and "blip2_pretrained.pth" in message
    assert torch.isfinite(latents(judged_by("lavis/itm.safetensors", caption_weight=0.0))["run"]).all()


def test_weights_in_the_prompt_are_reported(server):
    graph = Demo(text="a (red circle:1.4) and a blue square")
    graph.optimise(steps=1, tail=0)
    texts = watch(server, graph)["texts"]
    assert any("prompt weights" in text and "'a red circle and a blue square'" in text for text in texts)


def test_a_deleted_file_is_written_again(server, folder):
    """ComfyUI does not run a node again whose inputs are the same."""
    target = server.base / "models" / "referee" / "again.safetensors"
    graph = convert("lavis/blip2_pretrained.pth", "again")
    for _ in range(2):
        server.run(graph)
        written = target.stat().st_mtime_ns
        server.run(graph)
        assert target.stat().st_mtime_ns == written, "and an existing one is left alone"
        target.unlink()


@pytest.fixture(scope="module")
def full_disk(tmp_path_factory):
    """A server whose first folder for referees cannot be written and whose second has no room left."""
    base = tmp_path_factory.mktemp("full")
    (base / "models" / "referee").mkdir(parents=True)
    config = base / "share.yaml"
    config.write_text("share:\n    base_path: /proc\n    is_default: true\n    referee: referee\n")
    with Server(find_comfyui(), base, ("--cpu", "--extra-model-paths-config", str(config))) as server:
        yield server


def put(server) -> str:
    path = put_lavis(server.base / "models" / "referee", *read_lavis())
    return path.name


def test_the_first_folder_that_can_be_written_is_taken(full_disk):
    full_disk.run(convert(put(full_disk), "elsewhere"))
    assert (full_disk.base / "models" / "referee" / "elsewhere.safetensors").is_file()


def test_a_full_disk_and_folders_without_right_are_said_in_words(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "target").mkdir()
    source = put_lavis(tmp_path / "source", *read_lavis())
    found = inside.run("full_disk", source=str(source), folder=str(tmp_path / "target"))
    assert "/proc/referee" in found["nowhere"] and "extra_model_paths.yaml" in found["nowhere"]
    assert "Errno" not in found["nowhere"] + found["full"]
    assert "late.safetensors" in found["full"] and "run again" in found["full"]
    assert found["begun"] == []
    assert found["then"] == "late.safetensors" and found["ended"] == ["late.safetensors"]
