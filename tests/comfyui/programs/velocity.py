"""A way of sampling of newer versions of ComfyUI, imitated before the pack first looks for it."""

from dataclasses import replace

import comfy.model_sampling

found = {}


class IMG_TO_IMG_VELOCITY(comfy.model_sampling.CONST):
    pass


class Velocity(IMG_TO_IMG_VELOCITY, comfy.model_sampling.ModelSamplingDiscreteFlow):
    pass


def play_on_it():
    from programs.players import model, play, prior

    flowing = model.clone()
    flowing.add_object_patch("model_sampling", Velocity())
    play(prior=replace(prior, model=flowing))


comfy.model_sampling.IMG_TO_IMG_VELOCITY = IMG_TO_IMG_VELOCITY
try:
    play_on_it()
except ValueError as error:
    found["refused"] = str(error)
