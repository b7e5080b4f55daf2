"""The look-ahead gradient of the first guided call, against differences of the whole way."""

import torch

from pack.nodes.runs import guidance as bridge
from pack.referee_core.methods.gradient_guidance import Constant, GuidanceSettings
from programs.guidance import KINDS, guide, sample

found = {}


def first_call(patcher):
    """The first guided call, caught: the gradient by x in k-space, against differences of the whole way."""
    guided, guidance = guide(patcher, GuidanceSettings("look-ahead", Constant(1e-6)))
    caught = {}

    def catch(z, x, sigma, judged, settings, predict=None, mask=None, own=bridge.guided):
        made = own(z, x, sigma, judged, settings, predict, mask)
        if not caught:
            states = [g.get_state() for g in judged.streams]

            def value(x):
                for g, state in zip(judged.streams, guidance.begun, strict=True):
                    g.set_state(state)
                with torch.no_grad():
                    predicted = predict(x)
                return judged(predicted)[0].double().sum().item()

            g, h = made.gradient, 0.1 * x.norm().item() / 100
            along = g / g.norm()

            def difference(h):
                return (value(x + h * along) - value(x - h * along)) / (2 * h)

            slope = (4 * difference(h / 2) - difference(h)) / 3
            off = (predict(x) - z).abs().max() / z.abs().max()
            caught.update(slope=g.norm().item() / slope, off=off.item())
            for g, state in zip(judged.streams, states, strict=True):
                g.set_state(state)
        return made

    begun = bridge.Run.streams_of

    def remember(run, x):
        streams = begun(run, x)
        guidance.begun = [g.get_state() for g in streams]
        return streams

    bridge.Run.streams_of, own = remember, bridge.guided
    bridge.guided = catch
    # from the middle on, where the model knows what it sees
    sample(guided, steps=4)
    bridge.guided, bridge.Run.streams_of = own, begun
    return caught


for kind, patcher in KINDS.items():
    found[kind] = first_call(patcher)
