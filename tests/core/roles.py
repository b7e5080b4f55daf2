"""Whoever plays a part in the methods has all that the part asks for: read by mypy (test_types.py), never run."""

from referee_core.hosts.diffusers import GuidedUNet
from referee_core.interfaces import Denoiser, Prior, Referee
from referee_core.methods.gradient_guidance import Constant, Judged, Objective, Relative, Strength, TrustRegion
from referee_core.methods.iterated_linearisation import Linearised
from referee_core.priors.sds import SDS
from referee_core.referees.blip2.lavis import LavisReferee
from referee_core.referees.blip2.referee import Blip2Referee


def referee(one: Blip2Referee | LavisReferee) -> Referee:
    return one


def denoiser(one: GuidedUNet) -> Denoiser:
    return one


def prior(one: SDS) -> Prior:
    return one


def objective(one: Judged | Linearised) -> Objective:
    return one


def strength(one: Relative | Constant | TrustRegion) -> Strength:
    return one
