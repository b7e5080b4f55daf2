"""Score distillation under every way of sampling that ComfyUI knows."""

from types import SimpleNamespace

import comfy.model_base
import comfy.model_sampling as ms
import torch
from comfy_extras import nodes_model_advanced as advanced

from pack.nodes.bridge.sampling.denoiser import GuidedDenoiser
from pack.referee_core.priors.sds import SDS
from pack.referee_core.schedules import constant

found = {}


class Patcher:  # as much of a MODEL as core's sampling nodes ask for
    def __init__(self, sampling):
        self.sampling, self.model = sampling, SimpleNamespace(model_config=CONFIG)

    def clone(self):
        return self

    def get_model_object(self, name):
        return self.sampling

    def add_object_patch(self, name, value):
        self.sampling = value if name == "model_sampling" else self.sampling


CONFIG = SimpleNamespace(sampling_settings={})
of_type = {t.name: comfy.model_base.model_sampling(CONFIG, t) for t in comfy.model_base.ModelType}


def by(node, *values):
    patcher = Patcher(of_type["FLOW"])
    getattr(node, node.FUNCTION)(patcher, *values)
    return patcher.sampling


discrete = "eps", "v_prediction", "lcm", "x0", "img_to_img", "img_to_img_flow"
samplings = of_type | {
    f"discrete {kind}": by(advanced.ModelSamplingDiscrete(), kind, kind == "v_prediction") for kind in discrete
}
samplings |= {
    f"EDM {kind}": by(advanced.ModelSamplingContinuousEDM(), kind, 80.0, 0.002)
    for kind in ("v_prediction", "edm", "edm_playground_v2.5", "eps", "cosmos_rflow")
}
samplings |= {
    "continuous v": by(advanced.ModelSamplingContinuousV(), "v_prediction", 500.0, 0.03),
    "cascade": by(advanced.ModelSamplingStableCascade(), 2.0),
    "SD3 shift": by(advanced.ModelSamplingSD3(), 3.0),
    "AuraFlow shift": by(advanced.ModelSamplingAuraFlow(), 1.73),
    "Flux shift": by(advanced.ModelSamplingFlux(), 1.15, 0.5, 1024, 768),
    "noise scale 8": by(advanced.ModelNoiseScale(), 8.0),
}


def output(sampling, x, level, z, eps):
    """What the network says of x where it believes in this picture and this noise."""
    s = level.double().view(-1, 1, 1, 1)
    vp, data = (1 + s**2).sqrt(), getattr(sampling, "sigma_data", None)
    if isinstance(sampling, advanced.LCM):
        t = 10.0 * sampling.timestep(level).view(-1, 1, 1, 1)
        skip, out = 0.25 / (t**2 + 0.25), t / (t**2 + 0.25) ** 0.5
        return (x - (z - skip * x) / out) / s
    if isinstance(sampling, ms.X0):
        return z
    if isinstance(sampling, ms.CONST):
        return getattr(sampling, "noise_scale", 1.0) * eps - z
    if isinstance(sampling, ms.COSMOS_RFLOW):
        return eps - z
    if isinstance(sampling, ms.V_PREDICTION_DDPM):
        return (x - vp * z) / s
    if isinstance(sampling, ms.EDM):
        return (z - data**2 / (s**2 + data**2) * x) / (s * data / (s**2 + data**2) ** 0.5)
    if isinstance(sampling, ms.V_PREDICTION):
        return (eps - s * z) / vp
    return eps


class Guider:
    model_options, conds = {}, {}

    def __init__(self, sampling, z, eps, wrong):
        self.inner_model = SimpleNamespace(model_sampling=sampling)
        self.z, self.eps, self.wrong, self.levels, self.off = z, eps, wrong, [], []

    def __call__(self, x, level, model_options):
        i = len(self.levels)
        self.levels += level.tolist()
        sampling, z, eps = self.inner_model.model_sampling, self.z[i : i + 1], self.eps[i : i + 1]
        expected = sampling.noise_scaling(level.double(), eps.clone(), z)
        self.off.append(((x - expected).abs().max() / expected.abs().max()).item())
        flow = isinstance(sampling, ms.CONST)
        s = level.double().view(-1, 1, 1, 1)
        ratio = s * getattr(sampling, "noise_scale", 1.0) / (1 - s) if flow else s
        eps = eps + self.wrong[i : i + 1]
        z = z - ratio * self.wrong[i : i + 1]
        return sampling.calculate_denoised(level.double(), output(sampling, x, level, z, eps), x)


def draw(seed):
    return torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(seed)).double()


z, wrong = draw(1), draw(2)
for name, sampling in samplings.items():
    try:
        streams = [torch.Generator().manual_seed(i) for i in range(3)]
        t, eps = [], []
        for g in streams:
            t.append(int(torch.randint(50, 950, (), generator=g)))
            eps.append(torch.randn(4, 8, 8, generator=g))
        result = {}
        for kind, error in ("right", 0 * wrong), ("wrong", wrong):
            guider = Guider(sampling, z, torch.stack(eps).double(), error)
            streams = [torch.Generator().manual_seed(i) for i in range(3)]
            gradient = SDS(GuidedDenoiser(guider, {}), constant(4096 / 2)).gradient(z, 0.0, streams)
            result[kind] = (gradient - error).abs().max().item()
        result |= {
            "x": max(guider.off),
            "levels": guider.levels,
            "expected": [float(sampling.percent_to_sigma(1 - k / 999)) for k in t],
        }
        found[name] = result
    except ValueError as error:
        found[name] = {"error": str(error)}
