"""Pictures of a run: curves, filmstrip, gradients. Drawn with Pillow, so that no plotting library is needed."""

import itertools
import math

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from .record import LOSS, NORM, SCHEDULE, History

INK, GRID, PAPER = (40, 40, 40), (225, 225, 225), (255, 255, 255)
PALETTE = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14), (23, 190, 207))

Points = list[tuple[int, float]]
Curves = dict[str, Points]  # by name


def to_image(picture: torch.Tensor) -> Image.Image:
    """[3, H, W] in [0, 1] -> PIL."""
    return Image.fromarray((picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def to_tensor(image: Image.Image) -> torch.Tensor:
    """PIL -> [3, H, W] in [0, 1]."""
    import numpy as np

    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


def _panels(history: History, image: int) -> list[tuple[str, Curves]]:
    """(title, points of each curve by name): a panel for the losses, one for the norms, one for each schedule."""
    curves = {g: {n: _points(c, image) for n, c in members.items()} for g, members in history.curves.items()}
    groups = {"losses (log)": curves.get(LOSS, {}), "gradient norms (log)": curves.get(NORM, {})}
    groups |= {name: {name: points} for name, points in curves.get(SCHEDULE, {}).items()}
    return [(title, members) for title, members in groups.items() if members]


def history_plot(history: History, image: int = 0, width: int = 960, panel_height: int = 210) -> torch.Tensor:
    """Losses, gradient norms and schedules over the steps, marked steps (EMA-restarts) as dashed lines: [3, H, W] in
    [0, 1]."""
    panels = _panels(history, image)
    if not panels:
        return _notice("no step was needed", width, panel_height)
    canvas = Image.new("RGB", (width, panel_height * len(panels)), PAPER)
    draw = ImageDraw.Draw(canvas)
    for row, (title, curves) in enumerate(panels):
        box = (64, row * panel_height + 26, width - 16, (row + 1) * panel_height - 24)
        _panel(draw, box, title, curves, history, log=title.endswith("(log)"))
    return to_tensor(canvas)


def _notice(text: str, width: int, height: int) -> torch.Tensor:
    canvas = Image.new("RGB", (width, height), PAPER)
    ImageDraw.Draw(canvas).text((width / 2, height / 2), text, INK, ImageFont.load_default(13), anchor="mm")
    return to_tensor(canvas)


def _points(curve: list[torch.Tensor | None], image: int) -> Points:
    return [(i, float(v[min(image, len(v) - 1)])) for i, v in enumerate(curve) if v is not None]


def _panel(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], title: str, curves: Curves, history: History, log: bool
) -> None:
    left, top, right, bottom = box
    font = ImageFont.load_default(13)
    values = [v for points in curves.values() for _, v in points]
    if log:
        floor = max(min((v for v in values if v > 0), default=1e-6), 1e-6)
        scale = lambda v: math.log10(max(v, floor))  # noqa: E731
    else:
        scale = float
    low, high = min(map(scale, values)), max(map(scale, values))
    lines = 5
    if high - low < 1e-9:  # a flat curve sits in the middle, on the only line with a number
        low, high, lines = low - 0.5, high + 0.5, 1

    def place(step: int, value: float) -> tuple[float, float]:
        x = left + (right - left) * step / max(1, history.steps - 1)
        return x, bottom - (bottom - top) * (scale(value) - low) / (high - low)

    for k in range(lines):
        part = k / (lines - 1) if lines > 1 else 0.5
        y, level = bottom - (bottom - top) * part, low + (high - low) * part
        level = 10**level if log else level
        draw.line((left, y, right, y), GRID)
        draw.text((left - 8, y), f"{level:.0f}" if level >= 100 else f"{level:.3g}", INK, font, anchor="rm")
    for mark in history.marks:
        x = place(mark, values[0])[0]
        for y in range(int(top), int(bottom), 8):
            draw.line((x, y, x, y + 4), (150, 150, 150))
    draw.text((left, top - 13), title, INK, font, anchor="lm")
    x = right
    for colour, (name, points) in reversed(list(zip(itertools.cycle(PALETTE), curves.items(), strict=False))):
        places = [place(*p) for p in points]
        draw.line(places if len(places) > 1 else places * 2, colour, 2)
        if len(curves) > 1:
            draw.text((x, top - 13), name, colour, font, anchor="rm")
            x -= draw.textlength(name, font) + 16
    draw.text((left, bottom + 12), "step 1", INK, font, anchor="lm")
    draw.text((right, bottom + 12), str(history.steps), INK, font, anchor="rm")


def strip(pictures: list[tuple[str, torch.Tensor]], columns: int, size: int) -> torch.Tensor:
    """Labelled pictures [3, h, w] in rows."""
    rows = math.ceil(len(pictures) / columns)
    height, width = pictures[0][1].shape[1:]
    tile = (size, max(1, round(size * height / width)))
    canvas = Image.new("RGB", (min(columns, len(pictures)) * (size + 4) + 4, rows * (tile[1] + 22) + 4), PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, (label, picture) in enumerate(pictures):
        x, y = 4 + (i % columns) * (size + 4), 4 + (i // columns) * (tile[1] + 22)
        canvas.paste(to_image(picture).resize(tile, Image.Resampling.LANCZOS), (x, y + 18))
        draw.text((x, y + 9), label, INK, ImageFont.load_default(13), anchor="lm")
    return to_tensor(canvas)


def pictures(history: History, image: int = 0) -> list[tuple[str, torch.Tensor]]:
    """The decoded image every few steps and the finished one, each with its name: [3, H, W]."""
    named = [(f"step {f.index + 1}", f.image[min(image, len(f.image) - 1)]) for f in history.frames]
    if history.final is not None:
        named.append(("result", history.final[min(image, len(history.final) - 1)]))
    return named


def filmstrip(history: History, image: int = 0, columns: int = 9, size: int = 128) -> torch.Tensor:
    """All of ``pictures`` on one sheet (figures 10 and 11 of the paper): [3, H, W]."""
    return strip(pictures(history, image), columns, size)


def frames(history: History, image: int = 0) -> torch.Tensor:
    """All of ``pictures`` one after another, for an animation: [N, 3, H, W]."""
    return torch.stack([picture for _, picture in pictures(history, image)])


def gradient_view(history: History, image: int = 0, columns: int = 9, size: int = 128) -> torch.Tensor:
    """Each gradient's first three latent channels as a picture (figure 12), what pulled first above: [3, H, W]."""
    rows: dict[str, list[tuple[str, torch.Tensor]]] = {}
    for frame in history.frames:
        for name, gradients in frame.gradients.items():
            g = gradients[min(image, len(gradients) - 1), :3]
            g = g.reshape(-1, *g.shape[-2:])  # of a latent video, the first frame
            shown = 0.5 + 0.5 * g / g.abs().max().clamp_min(1e-12)
            enlarged = F.interpolate(shown[None], scale_factor=8, mode="nearest")[0]
            rows.setdefault(name, []).append((f"{name} {frame.index + 1}", enlarged))
    if not history.frames:
        return _notice("no step was needed", 2 * size, size)
    if not rows:
        raise ValueError("This history holds no gradients: the run recorded no step at which something pulled.")
    sheets = [strip(row, columns, size) for row in rows.values()]
    width = max(sheet.shape[2] for sheet in sheets)
    return torch.cat([F.pad(sheet, (0, width - sheet.shape[2]), value=1.0) for sheet in sheets], dim=1)
