"""The restoration protocols through a running ComfyUI, on the pack's small models."""

import random

import pytest

from benchmarks.protocols import parsed, play, report
from referee_core.plots import to_image
from training.drawing import draw


@pytest.mark.slow
def test_a_protocol_runs_resumes_and_reports(server, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    to_image(draw(random.Random(0), (("red", "circle"), ("blue", "square"))).picture).save(pictures / "one.png")
    arguments = ["p2l", "--pictures", str(pictures), "--url", server.url, "--preset", "projection", "--steps", "3"]
    args = parsed([*arguments, "--side", "128", "--out", str(tmp_path / "rows.jsonl")])
    found = play(server, args)
    assert [row["task"] for row in found] == ["super-resolution x8", "Gaussian blur", "motion blur"]
    assert all(row["psnr"] > 12 and 0 < row["ssim"] <= 1 for row in found)
    lines = (tmp_path / "rows.jsonl").read_text()
    assert play(server, args) == found and (tmp_path / "rows.jsonl").read_text() == lines
    assert report(found).splitlines()[2].startswith("| super-resolution x8 | 1 | ")
