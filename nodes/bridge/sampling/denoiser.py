"""A guider as the core's Denoiser: any MODEL with its conditioning, LoRA and ControlNet, run in inference mode."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import comfy.conds
import comfy.model_sampling
import comfy.utils
import torch
from comfy.controlnet import ControlBase
from comfy.samplers import CFGGuider

from ....referee_core.interfaces import NoiseLevel
from ..gradients.block import as_comfyui_does
from ..gradients.memory import memory_for
from .stateful import PREPARED, Memory, check

LEVELS = 20
"""Steps of the run that each call is shown as the first step of."""
IMAGE_TO_IMAGE = tuple(
    kind
    for name in ("IMG_TO_IMG", "IMG_TO_IMG_FLOW", "IMG_TO_IMG_VELOCITY")  # the last in newer versions only
    if (kind := getattr(comfy.model_sampling, name, None)) is not None
)
HINT = ("cond_hint_original", "extra_concat_orig")  # what the user gave a ControlNet


def noise_level(sampling: Any, level: torch.Tensor) -> NoiseLevel:
    """What ComfyUI's noise levels [B] of a model mean: x_t = alpha z + sigma eps, whatever the model's kind."""
    one, zero = torch.ones_like(level), torch.zeros_like(level)
    alpha, sigma = (sampling.noise_scaling(level, noise, z) for noise, z in ((zero, one), (one, zero)))
    return NoiseLevel(alpha, sigma, level)


class GuidedDenoiser:
    """Predictions at random noise levels, one an image, each as in a run of its own that begins at this level.

    ComfyUI decides much by the first image's noise level (ranges of conditioning, ControlNet and hooks), so only images
    of equal level share a call, and see there what they would see in a call of the whole batch.
    """

    def __init__(self, guider: CFGGuider, extra_args: dict, denoise_mask: torch.Tensor | None = None):
        self.guider, self.extra_args = guider, extra_args
        self.sampling = guider.inner_model.model_sampling
        if isinstance(self.sampling, IMAGE_TO_IMAGE):
            raise ValueError(
                f"'model' turns one image into another ({type(guider.inner_model).__name__}) and takes no noise away, "
                "so it cannot be the prior. Choose a text-to-image model, or leave 'prior' empty."
            )
        self.options = extra_args.get("model_options", {})
        check(self.options, denoise_mask is not None)
        self.memory = Memory(self.options, guider.model_options, self._conds())
        self.hooked = any(
            hook.hook_keyframe.keyframes for c in self._each_cond() if c.get("hooks") for hook in c["hooks"].hooks
        )
        self.hints: dict[tuple, dict] = {}
        percents = torch.linspace(0.001, 0.999, LEVELS, dtype=torch.float32)
        self.levels = torch.cat([self._levels_at(percents), torch.zeros(1, dtype=torch.float32)])

    def noise_levels(self, t: torch.Tensor) -> NoiseLevel:
        # ComfyUI reads the two ends as no noise and infinite noise
        percent = (1 - t.double() / 999).clamp(0.001, 0.999)
        return noise_level(self.sampling, self._levels_at(percent))

    def _levels_at(self, percents: torch.Tensor) -> torch.Tensor:
        levels = [float(self.sampling.percent_to_sigma(float(p))) for p in percents]
        return torch.tensor(levels, dtype=torch.float32)

    def __call__(self, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        groups: dict[float, list[int]] = {}
        for i, value in enumerate(level.cpu().tolist()):
            groups.setdefault(value, []).append(i)
        denoised = torch.empty_like(x)
        for rows in groups.values():
            denoised[rows] = self._predict(x, level, tuple(rows))
        return denoised

    def _predict(self, x: torch.Tensor, level: torch.Tensor, rows: tuple[int, ...]) -> torch.Tensor:
        """The prediction for those images of the batch, which are of one level."""
        first, here, batch = level[list(rows[:1])], list(rows), len(x)
        lower = self.levels.to(first)
        shown: dict[str, Any] = {"sample_sigmas": torch.cat([first, lower[lower < first]])}
        if len(rows) < batch:  # where packs look for an image's place in the batch
            shown["ad_params"] = {"sub_idxs": here, "full_length": batch, "context_length": len(rows)}
        options = self.options | {"transformer_options": self.options.get("transformer_options", {}) | shown}
        x, level = x[here], level[here]
        with as_comfyui_does(), self._only(rows, batch), memory_for("the diffusion model of 'model'"):
            try:
                return self.guider(x, level, **self.extra_args | {"model_options": options})
            finally:
                self.memory.restore()
                if self.hooked:  # the weights of the last keyframe
                    self.guider.model_patcher.clear_cached_hook_weights()

    def _conds(self) -> dict[str, dict[str, list[dict]]]:
        """The guider's conditioning by attribute: ``conds``, and lists of the guider's own."""
        lists = {k: {"": v} for k, v in vars(self.guider).items() if isinstance(v, list) and _is_conditioning(v)}
        return {"conds": self.guider.conds} | lists

    def _each_cond(self) -> Iterator[dict]:
        return (cond for named in self._conds().values() for conds in named.values() for cond in conds or ())

    @contextmanager
    def _only(self, rows: tuple[int, ...], batch: int) -> Iterator[None]:
        """For a call of these images of the batch, cut to them what ComfyUI lays out over the whole batch."""
        if len(rows) == batch:
            yield
            return
        with ExitStack() as undo:
            for control in self._controls():
                self._cut_hint(control, rows, batch, undo)
            for attribute, named in self._conds().items():
                undo.callback(setattr, self.guider, attribute, getattr(self.guider, attribute))
                cut = {k: v and [_cut_cond(c, rows, batch) for c in v] for k, v in named.items()}
                setattr(self.guider, attribute, cut if attribute == "conds" else cut[""])
            yield

    def _controls(self) -> list:
        """Each ControlNet once, the ones behind it and its copies on other cards too."""
        todo: list[ControlBase | None] = [c.get("control") for c in self._each_cond()]
        found: list[ControlBase] = []
        while todo:
            control = todo.pop()
            if control is not None and all(control is not c for c in found):
                found.append(control)
                todo += [control.previous_controlnet, *getattr(control, "multigpu_clones", {}).values()]
        return found

    def _cut_hint(self, control: ControlBase, rows: tuple[int, ...], batch: int, undo: ExitStack) -> None:
        """A ControlNet's hints of these images. What it makes of them is kept for the next such call."""
        if hasattr(control, "sub_idxs"):  # Advanced-ControlNet takes its own by ad_params
            return
        hints = {k: vars(control)[k] for k in HINT if vars(control).get(k) is not None}
        if all(len(t) == 1 for v in hints.values() for t in (v if isinstance(v, list) else [v])):
            return
        before = hints | {k: vars(control)[k] for k in PREPARED if k in vars(control)}
        own = self.hints.setdefault((id(control), rows), {k: None for k in PREPARED if k in before})
        undo.callback(vars(control).update, before)
        undo.callback(lambda: own.update({k: vars(control)[k] for k in own}))
        vars(control).update(own, **{k: _cut(v, rows, batch) for k, v in hints.items()})


def _is_conditioning(value: list) -> bool:
    return bool(value) and all(isinstance(cond, dict) and "model_conds" in cond for cond in value)


def _cut(value: Any, rows: tuple[int, ...], batch: int) -> Any:
    """The rows of a tensor, or of each in a list, that ComfyUI gives to these images of a batch."""
    if isinstance(value, (list, tuple)):
        return type(value)([_cut(v, rows, batch) for v in value])
    if not torch.is_tensor(value) or value.ndim == 0 or len(value) == 1:
        return value
    return comfy.utils.repeat_to_batch_size(value, batch)[list(rows)]


def _cut_cond(cond: dict, rows: tuple[int, ...], batch: int) -> dict:
    cut = {
        k: c if isinstance(c, comfy.conds.CONDConstant) else c._copy_with(_cut(c.cond, rows, batch))
        for k, c in cond["model_conds"].items()
    }
    mask = {"mask": _cut(cond["mask"], rows, batch)} if "mask" in cond else {}
    return cond | {"model_conds": cut} | mask
