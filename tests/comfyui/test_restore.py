"""Inverse Sampler and Residual: P2L under ComfyUI, as a user's graph runs it."""

import re
import time

import pytest

from comfyui import inside
from comfyui.conftest import Demo, queue_until, watch
from scripts.server import PromptError

PRESETS = ("projection", "P2L (paper)", "P2L, few steps", "LDPS", "FlowDPS", "FMRG")


@pytest.fixture(scope="module")
def found():
    return inside.run("restore")


def test_every_preset_runs_and_each_is_a_method_of_its_own(found):
    assert found["finite"] == dict.fromkeys(PRESETS, True) and found["differ"] > 0.01


@pytest.mark.parametrize("preset", ["P2L, few steps", "LDPS"])
def test_it_is_the_cores_method_on_comfyuis_classes(found, preset):
    assert found[f"as in the core, {preset}"] < inside.ROUNDING


def test_the_same_seed_gives_the_same_bits_and_weights_stay(found):
    assert found["same again"] and found["weights"]


def test_a_picture_of_a_batch_goes_as_it_would_alone(found):
    assert found["as alone"] < 10 * inside.ROUNDING


def test_the_last_line_tells_the_residual_beside_the_noise(found):
    assert re.fullmatch(r"done · residual 0\.\d{4} \(noise 0\.0100\)", found["line"])


def test_the_node_gives_the_first_guess_as_a_latent_and_takes_its_numbers(found):
    assert found["latent"] == 0 and found["rho"] == 1.0


def test_residual_puts_known_pixels_back_bit_for_bit(found):
    known, unknown, deviation, left = found["known"]
    assert known and unknown and deviation == 0 and left == 0


def test_the_true_picture_has_the_noises_residual(found):
    deviation, report, shape = found["true picture"]
    assert deviation == pytest.approx(0.01, rel=0.1) and shape == [1, 32, 32, 3]
    assert report == f"image 1: residual {deviation:.4f} (noise 0.0100)"


@pytest.mark.parametrize(
    "case, words",
    [
        ("size", "connect the output 'latent' of Inverse Sampler"),
        ("count", "holds 3 images and 'measured' 2"),
        ("crop", "crop 'measured' to 32 x 30"),
        ("images", "connect the restored picture as it was decoded"),
        ("nan", "'measured' holds numbers that are not finite"),
        ("mask", "give the mask to Measurement"),
    ],
)
def test_what_does_not_fit_is_said(found, case, words):
    assert words in found["refused"][case]


class Restored(Demo):
    """A one-coloured picture shrunk to a quarter, and its restoration."""

    def __init__(self, steps=3, preset="LDPS", **kind):
        super().__init__()
        picture = self.add("EmptyImage", width=128, height=128, batch_size=1, color=0x3070B0)[0]
        measurement = self.add(
            "RefereeMeasurement", **{"kind": "super-resolution", "kind__factor": 4, "noise": 0.01} | kind
        )[0]
        measured = self.add("RefereeDegrade", images=picture, measurement=measurement, seed=0)[0]
        given = {"measurement": measurement, "measured": measured}
        sampler, latent, *_ = self.add("RefereeInverseSampler", **given, vae=self.vae, preset=preset, preset__rho=2.0)
        self.id = sampler[0]
        guider = self.add("BasicGuider", model=self.model, conditioning=self.positive)[0]
        sigmas = self.add("BasicScheduler", model=self.model, scheduler="normal", steps=steps, denoise=1.0)[0]
        noise = self.add("RandomNoise", noise_seed=1)[0]
        made = self.add(
            "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=sigmas, latent_image=latent
        )[0]  # fmt: skip
        decoded = self.add("VAEDecode", samples=made, vae=self.vae)[0]
        images, residual, _, report, *_ = self.add("RefereeResidual", images=decoded, **given, gain=5.0)
        self.add("SaveImage", images=images, filename_prefix="restored")
        self.add("PreviewImage", images=residual)
        self.report = self.add("PreviewAny", source=report)[0][0]


def test_a_graph_restores_and_shows_picture_and_residual(server):
    shown = watch(server, Restored())
    assert any(re.match(r"step 3/3 .*", text) for text in shown["texts"])
    assert any(re.match(r"done in .* · residual 0\.\d{4} \(noise 0\.0100\)$", text) for text in shown["texts"])
    assert any(re.match(r"image 1: residual", text) for text in shown["texts"]) and shown["pictures"]


def test_cancelling_ends_it_within_a_step(server):
    graph = Restored(steps=400)
    job = queue_until(server, graph, graph.id, steps=2)
    began = time.monotonic()
    server.post("/interrupt", {})
    with pytest.raises(PromptError, match="interrupted"):
        server.wait(job, 60)
    assert time.monotonic() - began < 20
