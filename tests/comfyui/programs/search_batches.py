"""Attempts of a search in batches: the noise of each, and what goes alone."""

import comfy.controlnet
import comfy.hooks
import comfy.samplers
import torch
from comfy.k_diffusion import sampling

from pack.nodes.bridge.sampling import batches
from pack.nodes.runs import search as bridge
from pack.referee_core.methods import search as core
from programs.players import model
from programs.search import always, guider, off, run

found = {}

SAMPLERS = (
    "euler euler_ancestral heun dpm_2_ancestral dpmpp_2s_ancestral dpmpp_sde dpmpp_2m_sde_gpu dpmpp_3m_sde ddpm lcm "
    "ipndm er_sde sa_solver seeds_2 res_multistep_ancestral uni_pc ddim dpm_fast"
).split()


def unread(picture, generator):
    return core.Verdict(1.0, {}, None)


ours = (sampling.default_noise_sampler, sampling.BrownianTreeNoiseSampler)
found["samplers"] = {}
for name in SAMPLERS:
    steps = 3 if batches.rows_go_alone(comfy.samplers.sampler_object(name), guider, False) else 2
    alone, _, _ = run(name, steps, 1, judge=unread, attempts=2)
    together, groups, _ = run(name, steps, 2, judge=unread, attempts=2)
    found["samplers"][name] = [groups, off(alone, together), off(alone[:1], alone[1:])]
found["put back"] = ours == (sampling.default_noise_sampler, sampling.BrownianTreeNoiseSampler)


def guider_of(patcher, conds=guider.original_conds, kind=comfy.samplers.CFGGuider):
    made = kind(patcher)
    made.original_conds = conds
    return made


def alone(sampler="euler", conds=guider.original_conds, masked=False, options=None):
    sampler = comfy.samplers.sampler_object(sampler)
    sampler.extra_options = options or {}
    return batches.rows_go_alone(sampler, guider_of(model, conds), masked)


def alone_with(patch):
    patched = model.clone()
    patch(patched)
    return batches.rows_go_alone(comfy.samplers.sampler_object("euler"), guider_of(patched), False)


class OwnGuider(comfy.samplers.CFGGuider):  # of another pack
    pass


class ByRow:
    referee_rows_alone = True

    def after(self, args):
        return args["denoised"]


def marked(out, extra):
    return out


marked.referee_rows_alone = True
group = comfy.hooks.HookGroup()
group.add(comfy.hooks.TransformerOptionsHook())

one, two = torch.zeros(1, 7, 4), torch.zeros(2, 7, 4)
control = comfy.controlnet.ControlBase()
control.cond_hint_original = torch.zeros(2, 3, 8, 8)
behind = comfy.controlnet.ControlBase()
behind.previous_controlnet = control
found["apart"] = {
    "plain": alone(),
    "ancestral": alone("euler_ancestral", options={"eta": 0.5}),
    "mask": alone(masked=True),
    "ddim": alone("ddim"),
    "one prompt": alone(conds={"positive": [{"cross_attn": one}]}),
    "marked function": alone_with(lambda m: m.set_model_attn2_output_patch(marked)),
    "marked object": alone_with(lambda m: m.set_model_sampler_post_cfg_function(ByRow().after)),
    "shift": alone_with(lambda m: m.add_object_patch("model_sampling", object())),
    "attention": alone_with(
        lambda m: m.model_options["transformer_options"].update(optimized_attention_override=lambda f, *a, **k: f(*a))
    ),
    "weight hook": alone(conds={"positive": [{"cross_attn": one, "hooks": comfy.hooks.HookGroup()}]}),
}
found["together"] = {
    "churn": alone(options={"s_churn": 1.0}),
    "clip": alone("lcm", options={"noise_clip_std": 1.0}),
    "own noise": alone("euler_ancestral", options={"noise_sampler": print}),
    "adaptive": alone("dpm_adaptive"),
    "ddim with a mask": alone("ddim", masked=True),
    "two prompts": alone(conds={"positive": [{"cross_attn": two}]}),
    "hints": alone(conds={"positive": [{"cross_attn": one, "control": behind}]}),
    "unclip": alone(conds={"positive": [{"cross_attn": one, "unclip_conditioning": [{"strength": 1.0}]}]}),
    "no conditioning known": batches.rows_go_alone(comfy.samplers.sampler_object("euler"), object(), False),
    "foreign": batches.rows_go_alone(comfy.samplers.KSAMPLER(lambda *a, **k: None), guider, False),
    "attention patch": alone_with(lambda m: m.set_model_attn2_output_patch(lambda out, extra: out)),
    "wrapper": alone_with(lambda m: m.add_wrapper("diffusion_model", lambda f, *a: f(*a))),
    "object": alone_with(lambda m: m.add_object_patch("diffusion_model.forward", print)),
    "injection": alone_with(lambda m: m.set_injections("own", [])),
    "options by a hook": alone(conds={"positive": [{"cross_attn": one, "hooks": group}]}),
    "guider of another pack": batches.rows_go_alone(
        comfy.samplers.sampler_object("euler"), guider_of(model, kind=OwnGuider), False
    ),
    "not a KSAMPLER": batches.rows_go_alone(comfy.samplers.Sampler(), guider, False),
}
sampling.default_noise_sampler, kept = (lambda x, seed=None: None), sampling.default_noise_sampler
found["together"]["noise of another pack"] = alone()
sampling.default_noise_sampler = kept
found["note"] = run("dpm_fast", 2, 2, judge=unread, attempts=1)[2].notes
on_a_cpu = bridge.most_at_once


def batches_of(most, steps=1, **changes):
    bridge.most_at_once = lambda *a: most
    return run(steps=steps, judge=unread, attempts=9, **changes)[1]


found["doubling"] = (
    batches_of(3, stop_at=1.0),
    batches_of(4),
    batches_of(9, at_once=5),
    batches_of(9, steps=2, prune_at=0.5, worth=always),
    batches_of(9, prune_at=0.5),  # no look within one step
)
bridge.most_at_once = on_a_cpu
