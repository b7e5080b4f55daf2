"""Measurement and Degrade Image: what each kind does to a known picture, the noise, and what is refused."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy import ndimage

from comfyui import inside
from comfyui.conftest import Demo
from referee_core.kernels import motion_kernel
from referee_core.randomness import generators
from scripts.server import Graph, PromptError

WIDTH, HEIGHT = 48, 32


def colourful(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A picture [H, W, 3] in grey levels that is smooth in places and not in others, with no symmetry."""
    y, x = np.mgrid[:height, :width]
    layers = (4 * x + y, 200 - 3 * y + 20 * np.sin(x), np.where((x > 9) & (y > 13), 230, 20 + x))
    return np.stack(layers, -1).clip(0, 255).astype(np.uint8)


PICTURE = colourful()
HOLE = np.zeros((HEIGHT, WIDTH), bool)
HOLE[5:12, 20:41] = True
KERNEL = np.array([[0, 90, 255, 0], [10, 0, 40, 200], [0, 60, 0, 0]], np.uint8)  # no symmetry, even and odd sides


class Measured(Graph):
    """Pictures from files of the input folder, and what becomes of them."""

    def __init__(self, server):
        super().__init__()
        self.folder = server.base / "input"

    def load(self, pixels: np.ndarray, name: str) -> list[list]:
        Image.fromarray(pixels).save(self.folder / f"{name}.png")
        return self.add("LoadImage", image=f"{name}.png")

    def picture(self) -> list:
        return self.load(PICTURE, "picture")[0]

    def mask(self, missing: np.ndarray, name: str) -> list:
        """A MASK that is white where this is true: Load Image has it from a file's transparency."""
        height, width = missing.shape
        return self.load(np.dstack([colourful(height, width), np.where(missing, 0, 255).astype(np.uint8)]), name)[1]

    def degrade(self, images: list, kind: str, noise: float = 0.0, noise_seed: int = 0, **fields) -> list:
        fields = {name if name in ("mask", "kernel") else f"kind__{name}": value for name, value in fields.items()}
        measurement = self.add("RefereeMeasurement", kind=kind, noise=noise, **fields)[0]
        return self.add("RefereeDegrade", images=images, measurement=measurement, seed=noise_seed)[0]

    def save(self, images: list) -> str:
        """The id of the node that saves these pictures."""
        return self.add("SaveImage", images=images, filename_prefix="measured")[0][0]


def pixels(server, graph: Graph, *nodes: str) -> list[np.ndarray]:
    """The pictures [H, W, 3] that these nodes of the graph save, in grey levels."""
    outputs = server.run(graph)
    entries = [entry for node in nodes for entry in outputs[node]["images"]]
    return [np.array(Image.open(io.BytesIO(server.image(entry)))).astype(float) for entry in entries]


def measured(server, kind: str, **fields) -> np.ndarray:
    graph = Measured(server)
    (found,) = pixels(server, graph, graph.save(graph.degrade(graph.picture(), kind, **fields)))
    return found


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """To one grey level, since Save Image rounds down."""
    assert found.shape == expected.shape
    assert np.abs(found - expected.clip(0, 255)).max() < 1.001


def each_channel(change) -> np.ndarray:
    """What this function makes of each channel [H, W] of the picture."""
    return np.stack([change(channel) for channel in np.moveaxis(PICTURE.astype(np.float32), -1, 0)], -1)


def without(missing: np.ndarray) -> np.ndarray:
    return np.where(missing[..., None], 0.0, PICTURE)


@pytest.mark.parametrize("factor", [2, 4, 16])
def test_super_resolution_is_pillows_bicubic(server, factor):
    size = WIDTH // factor, HEIGHT // factor
    expected = each_channel(lambda channel: np.array(Image.fromarray(channel).resize(size, Image.Resampling.BICUBIC)))
    assert_same(measured(server, "super-resolution", factor=factor), expected)


def test_gaussian_blur_is_scipys(server):
    expected = each_channel(lambda channel: ndimage.gaussian_filter(channel, (3, 1.5), mode="mirror"))
    assert_same(measured(server, "gaussian blur", horizontal=1.5, vertical=3.0), expected)


def test_motion_blur_is_a_convolution_with_its_path(server):
    path = motion_kernel(13, 0.5, generators([7], ["measurement"])["measurement"][0]).numpy()
    expected = each_channel(lambda channel: ndimage.convolve(channel, path, mode="mirror"))
    found = measured(server, "motion blur", size=13, intensity=0.5, seed=7)
    assert_same(found, expected)
    assert np.abs(found - measured(server, "motion blur", size=13, intensity=0.5, seed=8)).max() > 5


def test_a_blur_kernel_is_the_brightness_of_its_picture(server):
    graph = Measured(server)
    kernel = graph.load(np.dstack([KERNEL] * 3), "kernel")[0]
    (found,) = pixels(server, graph, graph.save(graph.degrade(graph.picture(), "blur kernel", kernel=kernel)))
    assert_same(found, each_channel(lambda channel: ndimage.convolve(channel, KERNEL / KERNEL.sum(), mode="mirror")))


def test_inpainting_loses_what_is_white_in_the_mask(server):
    graph = Measured(server)
    mask = graph.mask(HOLE, "hole")
    (found,) = pixels(server, graph, graph.save(graph.degrade(graph.picture(), "inpainting", mask=mask)))
    assert_same(found, without(HOLE))


def test_each_picture_of_a_batch_can_have_its_own_mask(server):
    graph = Measured(server)
    images = graph.add("RepeatImageBatch", image=graph.picture(), amount=2)[0]
    halves = [graph.add("MaskToImage", mask=graph.mask(HOLE ^ turned, f"hole{turned}"))[0] for turned in (False, True)]
    both = graph.add("ImageBatch", image1=halves[0], image2=halves[1])[0]
    masks = graph.add("ImageToMask", image=both, channel="red")[0]
    first, second = pixels(server, graph, graph.save(graph.degrade(images, "inpainting", mask=masks)))
    assert_same(first, without(HOLE))
    assert_same(second, without(~HOLE))


def test_a_box_is_missing_from_the_middle(server):
    missing = np.zeros((HEIGHT, WIDTH), bool)
    missing[11:21, 14:34] = True
    assert_same(measured(server, "box", width=20, height=10), without(missing))


def test_random_pixels_are_missing_by_their_seed(server):
    found = measured(server, "random pixels", missing=0.7, seed=3)
    missing = (found == 0).all(-1)
    assert missing.sum() == round(0.7 * WIDTH * HEIGHT)  # no pixel of the picture is black
    assert_same(found, without(missing))
    noisy = measured(server, "random pixels", noise=0.001, missing=0.7, seed=3)  # so that it is computed again
    other = measured(server, "random pixels", missing=0.7, seed=4)
    assert np.array_equal((noisy == 0).all(-1), missing)
    assert not np.array_equal((other == 0).all(-1), missing)


def test_jpeg_is_close_to_a_file_of_that_quality(server):
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, "JPEG", quality=20, subsampling=2)
    real = np.array(Image.open(file)).astype(float)
    found = measured(server, "jpeg", quality=20)
    lost = np.abs(real - PICTURE).mean()
    assert np.abs(found - real).mean() < lost / 2
    assert np.abs(found - PICTURE).mean() == pytest.approx(lost, rel=0.3)


def test_noise_is_by_the_seed_and_each_picture_of_a_batch_goes_as_it_would_alone(server):
    graph = Measured(server)
    grey, darker = (
        graph.add("EmptyImage", width=64, height=64, batch_size=1, color=colour)[0] for colour in (0x808080, 0x606060)
    )
    both = graph.add("ImageBatch", image1=grey, image2=darker)[0]
    runs = [(both, 5), (grey, 5), (darker, 6), (grey, 6)]
    ids = [graph.save(graph.degrade(images, "jpeg", 0.05, seed, quality=90)) for images, seed in runs]
    first, second, first_alone, second_alone, other = pixels(server, graph, *ids)
    assert np.array_equal(first, first_alone)
    assert np.array_equal(second, second_alone)
    assert np.abs(other - first).mean() > 5
    assert first.std() == pytest.approx(0.05 * 255, rel=0.03)


def test_missing_pixels_have_no_noise(server):
    graph = Measured(server)
    (found,) = pixels(server, graph, graph.save(graph.degrade(graph.picture(), "box", 0.1, width=20, height=10)))
    assert not found[11:21, 14:34].any()


def test_transparency_is_left_out(server):
    graph = Measured(server)
    image, mask = graph.load(PICTURE, "picture")[0], graph.mask(HOLE, "hole")
    image = graph.add("JoinImageWithAlpha", image=image, alpha=mask)[0]
    (found,) = pixels(server, graph, graph.save(graph.degrade(image, "super-resolution", factor=2)))
    assert found.shape == (HEIGHT // 2, WIDTH // 2, 3)


def refused(server, graph: Measured, images: list, kind: str, text: str, **fields) -> None:
    graph.save(graph.degrade(images, kind, **fields))
    with pytest.raises(PromptError, match=text):
        server.run(graph)


def batch_of_masks(graph: Measured, count: int) -> list:
    mask = graph.add("MaskToImage", mask=graph.mask(HOLE, "hole"))[0]
    return graph.add("ImageToMask", image=graph.add("RepeatImageBatch", image=mask, amount=count)[0], channel="red")[0]


@pytest.mark.parametrize(
    "kind, fields, text",
    [
        ("super-resolution", {"factor": 16}, "multiples of 16, got 50 x 33. Crop it to 48 x 32"),
        ("gaussian blur", {"horizontal": 3.0, "vertical": 20.0}, "80 down.*Lower 'horizontal' and 'vertical'"),
        ("motion blur", {"size": 101, "intensity": 0.5, "seed": 0}, "got 50 x 33. Lower 'size'"),
        ("box", {"width": 51, "height": 9}, "box of 51 x 9 does not fit.*50 x 33. Lower 'width' and 'height'"),
        ("box", {"width": 50, "height": 33}, "leaves no pixel known. Lower 'width' and 'height'"),
    ],
)
def test_a_picture_of_the_wrong_size_is_refused(server, kind, fields, text):
    graph = Measured(server)
    refused(server, graph, graph.load(colourful(33, 50), "odd")[0], kind, text, **fields)


def test_masks_that_do_not_fit_are_refused(server):
    for masks, text in [
        (lambda graph: graph.mask(HOLE[:20], "short"), f"{WIDTH} x 20 and {WIDTH} x {HEIGHT}. Connect a mask"),
        (lambda graph: graph.mask(np.ones_like(HOLE), "all"), "leaves no pixel known. Leave some of 'mask' black"),
        (lambda graph: batch_of_masks(graph, 3), "'mask' of Measurement holds 3 masks, but there are 1 pictures"),
    ]:
        graph = Measured(server)
        refused(server, graph, graph.picture(), "inpainting", text, mask=masks(graph))


def test_kernels_that_do_not_fit_are_refused(server):
    for make, text in [
        (lambda graph: graph.load(np.zeros((5, 5, 3), np.uint8), "black")[0], "empty.*Connect a bright spot"),
        (lambda graph: graph.load(colourful(90, 90), "large")[0], "Connect a smaller picture to 'kernel'"),
        (lambda graph: graph.add("EmptyImage", width=5, height=5, batch_size=2, color=255)[0], "'kernel' holds 2"),
    ]:
        graph = Measured(server)
        refused(server, graph, graph.picture(), "blur kernel", text, kernel=make(graph))


@pytest.mark.parametrize("kind, field", [("inpainting", "mask"), ("blur kernel", "kernel")])
def test_a_kind_without_its_picture_is_refused(server, kind, field):
    graph = Measured(server)
    refused(server, graph, graph.picture(), kind, f"The kind '{kind}' needs the input '{field}': connect it")


def test_pictures_of_nan_are_refused(server):
    graph = Demo()
    latents = torch.full((1, 4, 8, 8), torch.nan)
    file = {"latent_tensor": latents, "latent_format_version_0": torch.tensor([])}
    save_file(file, server.base / "input" / "nan.latent")
    images = graph.add("VAEDecode", samples=graph.add("LoadLatent", latent="nan.latent")[0], vae=graph.vae)[0]
    measurement = graph.add("RefereeMeasurement", kind="jpeg", noise=0.0, kind__quality=20)[0]
    degraded = graph.add("RefereeDegrade", images=images, measurement=measurement, seed=0)[0]
    graph.add("SaveImage", images=degraded, filename_prefix="nan")
    with pytest.raises(PromptError, match="The input 'images' holds numbers that are not finite"):
        server.run(graph)


def test_the_picture_is_found_from_what_is_measured():
    found = inside.run("measurements")
    assert found["sizes"] == {kind: [8 if kind == "super-resolution" else 1, [32, 48]] for kind in found["sizes"]}
    assert len(found["sizes"]) == 8
    assert "Crop it to 32 x 48" in found["error"]
