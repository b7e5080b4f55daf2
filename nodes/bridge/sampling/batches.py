"""Several seeds in one batch of ComfyUI's samplers, each as it would go alone; and how far a sampler is.

ComfyUI draws the noise of a whole batch from one generator, so that an image's noise depends on its neighbours. Here
each row gets its own; where a row cannot be told from its neighbours, there is no batch.
"""

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import comfy.controlnet
import comfy.hooks
import comfy.model_management
import comfy.samplers
import torch
from comfy.extra_samplers import uni_pc
from comfy.k_diffusion import sampling
from comfy.model_patcher import ModelPatcher
from comfy.samplers import CFGGuider, Sampler

from .stateful import functions

OWN_SAMPLERS = (sampling.__name__, uni_pc.__name__)
DRAWS = ("default_noise_sampler", "BrownianTreeNoiseSampler")  # where they take their noise from
TOGETHER = ("sample_ar_video",)  # noise from elsewhere
TOGETHER_OPTIONS = ("s_churn", "noise_clip_std", "noise_sampler")  # noise from elsewhere, or measured over the batch
SEEDED_CONDS = ("unclip_conditioning", "noise_augmentation")  # conditioning that itself draws noise from the seed


OWN_GUIDERS = ("comfy.", "comfy_extras.")
ALONE = "referee_rows_alone"
"""Attribute of a patch's function, or of the object whose method it is, that treats each image of a batch as if it were
alone. docs/models.md describes it."""
COMPILED = "comfy_api.torch_helpers."  # module of core's torch.compile
ATTENTION = "optimized_attention_override"  # another kernel for the same attention
SAMPLING = "model_sampling"  # an object patch that only shifts noise levels


def rows_go_alone(sampler: Sampler, guider: CFGGuider, masked: bool) -> bool:
    """Whether what happens to a row of a batch is known not to depend on the others, given ``noise_of_each``.

    masked: whether the latent has a mask.
    """
    return _draws_by_row(sampler, masked) and _asks_by_row(guider)


def _draws_by_row(sampler: Sampler, masked: bool) -> bool:
    if not isinstance(sampler, comfy.samplers.KSAMPLER):
        return False
    function = sampler.sampler_function
    own = getattr(function, "__module__", "") in OWN_SAMPLERS and function.__name__ not in TOGETHER
    plain = not any(sampler.extra_options.get(name) for name in TOGETHER_OPTIONS)
    random_inpainting = masked and sampler.inpaint_options.get("random", False)
    replaced = any(getattr(sampling, name).__module__ != sampling.__name__ for name in DRAWS)  # by another pack
    return own and plain and not random_inpainting and not replaced


def _asks_by_row(guider: CFGGuider) -> bool:
    """Whether guider, conditioning and the patches of the model are known to look at each row alone: some average over
    the batch (EasyCache), some count its rows (reference images)."""
    conds = getattr(guider, "original_conds", None)
    if conds is None or not type(guider).__module__.startswith(OWN_GUIDERS) or not _same_for_all(conds):
        return False
    patcher = guider.model_patcher
    options = {**guider.model_options, "transformer_options": {**guider.model_options.get("transformer_options", {})}}
    options["transformer_options"].pop(ATTENTION, None)
    patched = [f for f in functions([options, patcher.wrappers]) if not _is_alone(f)]
    return not patched and not patcher.injections and patcher.object_patches.keys() <= {SAMPLING}


def _is_alone(function: Callable) -> bool:
    own = getattr(function, ALONE, False) or getattr(getattr(function, "__self__", None), ALONE, False)
    return own or getattr(function, "__module__", "").startswith(COMPILED)


def _same_for_all(value: Any) -> bool:
    """Whether a conditioning says the same to each row: ComfyUI gives the second row of a batch the second of several
    prompts or hints."""
    if isinstance(value, torch.Tensor):
        return value.ndim < 2 or len(value) == 1
    if isinstance(value, dict):
        return not any(value.get(name) for name in SEEDED_CONDS) and all(map(_same_for_all, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_same_for_all, value))
    if isinstance(value, comfy.hooks.HookGroup):
        return all(hook.hook_type is comfy.hooks.EnumHookType.Weight for hook in value.hooks)
    if isinstance(value, comfy.controlnet.ControlBase):
        hints = (value.cond_hint_original, getattr(value, "extra_concat_orig", None), value.previous_controlnet)
        return _same_for_all(hints)
    return True


@contextmanager
def noise_of_each(seeds: Sequence[int]) -> Iterator[None]:
    """Within, ComfyUI's samplers draw the noise of row i as they would for this row alone with ``seeds[i]``."""

    def by_row(make: Callable) -> Callable:
        def made(x: torch.Tensor, *args: Any, seed: Any = None, **options: Any) -> Any:
            each = [make(row, *args, seed=own, **options) for row, own in zip(x.split(1), seeds, strict=True)]
            return lambda sigma, sigma_next: torch.cat([draw(sigma, sigma_next) for draw in each])

        return made

    before = {name: getattr(sampling, name) for name in DRAWS}
    try:
        for name, make in before.items():
            setattr(sampling, name, by_row(make))
        yield
    finally:
        for name, make in before.items():
            setattr(sampling, name, make)


def most_at_once(patcher: ModelPatcher, shape: Sequence[int]) -> int:
    """How many latents of a shape [1, C, ...] a diffusion model takes in one batch, prompt and negative together. On a
    CPU one: it is busy with one, and one after another they are bit-equal to themselves alone."""
    management = comfy.model_management
    if management.is_device_cpu(patcher.load_device):
        return 1
    free = management.get_free_memory(patcher.load_device) - management.extra_reserved_memory()
    free -= max(0, patcher.model_size() - patcher.loaded_size())
    each = patcher.memory_required([2, *shape[1:]])
    return max(1, int(free / (1.5 * each)))  # 1.5: as much room as ComfyUI itself leaves


def telling_levels(sampler: Sampler, tell: Callable[[torch.Tensor | None], None]) -> Sampler:
    """The same sampler, which tells the noise level of each step before ComfyUI's callback, if it knows it: ComfyUI
    passes on only the step's number, and dpm_fast and dpm_adaptive count otherwise."""
    if not isinstance(sampler, comfy.samplers.KSAMPLER):
        return sampler
    function, telling = sampler.sampler_function, copy.copy(sampler)

    @functools.wraps(function)
    def told(*args: Any, callback: Any = None, **options: Any) -> Any:
        def heard(state: dict) -> None:
            tell(state.get("sigma"))
            callback(state)

        return function(*args, callback=heard, **options)

    telling.sampler_function = told
    return telling


def step_of(sigmas: torch.Tensor, level: torch.Tensor) -> int:
    """How many steps are done once a step from this noise level is; sigmas: the planned levels, falling."""
    reached = int((sigmas >= float(level) * (1 - 1e-4)).sum())
    return min(max(1, reached), len(sigmas) - 1)
