"""A MODEL under a CONDITIONING that a method changes: gradients reach what the change depends on."""

import comfy.model_management
import comfy.sampler_helpers
import comfy.samplers
import torch
import torch.nn.functional as F
from comfy.samplers import CFGGuider

from ....referee_core.prompt_tokens import PREFIX, SUFFIX, Inserted
from ....referee_core.sampling import Predict

MASK = "attention_mask"  # of the prompt's tokens, which some models want


def insert_tokens(conditioning: list, inserted: Inserted) -> list:
    """The same CONDITIONING with tokens around each of its prompts [B, L, d]; areas, masks, times, pooled text stay."""
    made = []
    for prompt, about in conditioning:
        mask = about.get(MASK)
        if torch.is_tensor(mask) and mask.shape[-1] == prompt.shape[1]:
            about = about | {MASK: F.pad(mask, (inserted.count(PREFIX), inserted.count(SUFFIX)), value=1)}
        made.append([inserted(prompt), about])
    return made


def conditioning_of(guider: CFGGuider, name: str) -> list:
    """The CONDITIONING that a guider was given; none where it has none of this name."""
    given = getattr(guider, "original_conds", {}).get(name) or []
    return [[one.get("cross_attn"), {k: v for k, v in one.items() if k != "cross_attn"}] for one in given]


def copied(conditioning: list) -> list:
    """The same CONDITIONING with copies of its prompts, which autograd takes."""
    return [[prompt.clone(), about] for prompt, about in conditioning]


class Conditioned:
    """Predictions of a guider's model under any positive CONDITIONING, beside the guider's negative one.

    Args:
        guider: one that is sampling. options: the model's. noise: of the run's shape.
    """

    def __init__(self, guider: CFGGuider, options: dict, noise: torch.Tensor, negative: list):
        self.guider, self.options, self.noise, self.negative = guider, options, noise, negative

    def __call__(self, positive: list) -> Predict:
        model, noise = self.guider.inner_model, self.noise
        given = {"positive": positive, "negative": self.negative}
        conds = {name: comfy.sampler_helpers.convert_cond(conditioning) for name, conditioning in given.items()}
        conds = comfy.samplers.process_conds(model, noise, conds, noise.device, torch.zeros_like(noise))

        def predict(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
            comfy.model_management.throw_exception_if_processing_interrupted()
            uncond, cond = conds["negative"], conds["positive"]
            return comfy.samplers.sampling_function(model, x, level, uncond, cond, self.guider.cfg, self.options)

        return predict
