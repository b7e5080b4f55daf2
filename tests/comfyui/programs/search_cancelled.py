"""Searches in which Cancel is pressed."""

import comfy.model_management as mm

from programs.players import model, referee, vae
from programs.search import off, run

found = {}


def cancel(part, nth, **changes):
    """A run in which Cancel is pressed when this part of a network is called for the nth time."""
    calls = []

    def press(*_):
        calls.append(1)
        if len(calls) == nth:
            mm.interrupt_current_processing()

    hook = part.register_forward_pre_hook(press)
    ended = "to its end"
    try:
        run("euler", 4, attempts=3, **changes)
    except BaseException as error:
        ended = type(error).__name__
    hook.remove()
    pending = mm.processing_interrupted()
    mm.interrupt_current_processing(False)
    return [ended, len(calls), pending]


network, decoder = model.model.diffusion_model, vae.first_stage_model.decoder
vision = referee.referee.network.vision
first, _, _ = run("euler", 4, attempts=2)
found |= {
    "sampling": cancel(network, 2),
    "decoding": cancel(decoder, 2),
    "judging": cancel(vision, 2),
    "judging a prediction": cancel(vision, 1, prune_at=0.5),
}
found["next"] = off(first, run("euler", 4, attempts=2)[0])
