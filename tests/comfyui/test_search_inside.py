"""Search inside ComfyUI, without a server: batches, giving up, cancelling, memory that runs out."""

import pytest

from comfyui import inside

SEARCH = """
from types import SimpleNamespace
import comfy.samplers, comfy.sample
from comfy.k_diffusion import sampling
from pack.nodes.bridge.sampling import batches
from pack.nodes.runs import search as bridge
from pack.nodes.bridge.judging.judge import Judge
from pack.referee_core.methods import search as core

guider = comfy.samplers.CFGGuider(model)
guider.set_conds(cond, cond)
guider.set_cfg(1.0)
sampling_of_model = model.get_model_object("model_sampling")
EMPTY = {"samples": torch.zeros(1, 4, 8, 8)}

class Quiet:
    finish_asked, best = False, None
    def __init__(self):
        self.groups, self.shares = [], [1.0]
    def step(self, at_once, share):
        if share <= self.shares[-1]:
            self.groups.append(at_once)
        self.shares.append(share)
    def sampled(self, attempts):
        pass

def run(sampler="euler", steps=4, at_once=0, worth=core.better_half, judge=None, seed=3, latent=EMPTY, **settings):
    # all attempts, and the sizes of the batches
    settings, quiet = core.SearchSettings(**{"stop_at": 0.0, "keep": 99} | settings), Quiet()
    sigmas = comfy.samplers.calculate_sigmas(sampling_of_model, "normal", steps)
    sampler = comfy.samplers.sampler_object(sampler) if isinstance(sampler, str) else sampler
    with torch.inference_mode():
        looks = settings.looks_after(steps)
        sample = bridge.Attempts(guider, sampler, sigmas, latent, vae, at_once, settings.stop_at > 0, looks, quiet)
        for attempts in core.search(sample, judge or Judge(loss), settings, seed, worth):
            pass
    return attempts, quiet.groups, sample

def off(one, other):
    return max((a.picture.latent - b.picture.latent).abs().max().item() for a, b in zip(one, other))
"""

BATCHES = """
SAMPLERS = (
    "euler euler_ancestral heun dpm_2_ancestral dpmpp_2s_ancestral dpmpp_sde dpmpp_2m_sde_gpu dpmpp_3m_sde ddpm lcm "
    "ipndm er_sde sa_solver seeds_2 res_multistep_ancestral uni_pc ddim dpm_fast"
).split()
unread = lambda picture, generator: core.Verdict(1.0, {}, None)
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

def alone(sampler="euler", conds=guider.original_conds, masked=False, options={}):
    sampler = comfy.samplers.sampler_object(sampler)
    sampler.extra_options = options
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
    "plain": alone(), "ancestral": alone("euler_ancestral", options={"eta": 0.5}),
    "mask": alone(masked=True), "ddim": alone("ddim"), "one prompt": alone(conds={"positive": [{"cross_attn": one}]}),
    "marked function": alone_with(lambda m: m.set_model_attn2_output_patch(marked)),
    "marked object": alone_with(lambda m: m.set_model_sampler_post_cfg_function(ByRow().after)),
    "shift": alone_with(lambda m: m.add_object_patch("model_sampling", object())),
    "attention": alone_with(
        lambda m: m.model_options["transformer_options"].update(optimized_attention_override=lambda f, *a, **k: f(*a))
    ),
    "weight hook": alone(conds={"positive": [{"cross_attn": one, "hooks": comfy.hooks.HookGroup()}]}),
}
found["together"] = {
    "churn": alone(options={"s_churn": 1.0}), "clip": alone("lcm", options={"noise_clip_std": 1.0}),
    "own noise": alone("euler_ancestral", options={"noise_sampler": print}), "adaptive": alone("dpm_adaptive"),
    "ddim with a mask": alone("ddim", masked=True), "two prompts": alone(conds={"positive": [{"cross_attn": two}]}),
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

always = lambda predicted, earlier: True
found["doubling"] = (
    batches_of(3, stop_at=1.0), batches_of(4), batches_of(9, at_once=5),
    batches_of(9, steps=2, prune_at=0.5, worth=always), batches_of(9, prune_at=0.5),  # no look within one step
)
bridge.most_at_once = on_a_cpu
"""

PRUNING = """
full, _, _ = run("euler_ancestral", 6, attempts=5, prune_at=0.5, worth=always)
plain, _, _ = run("euler_ancestral", 6, attempts=5)
calls = []
model.model.diffusion_model.register_forward_pre_hook(lambda *_: calls.append(1))
pruned, _, sample = run("euler_ancestral", 6, attempts=5, prune_at=0.5)
found["calls"] = len(calls)
found["full"] = [[a.predicted.loss, a.verdict.loss] for a in full]
found["pruned"] = [[a.predicted.loss, a.verdict and a.verdict.loss] for a in pruned]
found["same"] = [torch.equal(a.picture.latent, b.picture.latent) for a, b in zip(full, plain)]
found["report"] = bridge.report(pruned, sample.steps, 6).splitlines()

seen = []
class Half(comfy.samplers.Sampler):  # what ComfyUI's sampler predicts in its third step, by its own callback
    def sample(self, *args, **kwargs):
        args = list(args)
        args[3] = lambda i, x0, x, total: seen.append(x0.clone()) if i == 2 else None
        return comfy.samplers.sampler_object("euler_ancestral").sample(*args, **kwargs)
with torch.inference_mode():
    guider.sample(comfy.sample.prepare_noise(EMPTY["samples"], 3), EMPTY["samples"], Half(),
        comfy.samplers.calculate_sigmas(sampling_of_model, "normal", 6), seed=3)
    image = vae.decode(model.model.process_latent_out(seen[0])).movedim(-1, 1)
    views = core.generators([3 + core.OWN_SEEDS], core.PURPOSES)["predicted"][0]
    found["by hand"] = core.judge_views(loss.loss, image, core.VIEWS, views).loss

setup = sampler.Setup(vae, loss, prior.make, replace(augment.PAPER, count=2), settings=LoopSettings(tail=0, noise=0.1))
optimiser = sampler.RefereeCanPlay(setup)
method, _, _ = run(optimiser, 3, attempts=3, prune_at=0.3, worth=always)
again, _, _ = run(optimiser, 3, attempts=3)
found["method"] = [torch.equal(a.picture.latent, b.picture.latent) for a, b in zip(method, again)]
found["method predicted"] = [a.predicted.loss for a in method]

class Twice(comfy.samplers.Sampler):  # more steps than levels, as Referee Rounds
    def sample(self, model, sigmas, args, callback, *rest, **kwargs):
        for k in range(2):
            each = lambda i, x0, x, n: callback(k * n + i, x0, x, 2 * n)
            made = comfy.samplers.sampler_object("euler").sample(model, sigmas, args, each, *rest, **kwargs)
        return made
# a LATENT of one image with what is left of a batch of four
masks = torch.cat([torch.full((1, 1, 8, 8), v) for v in (1.0, 0.0, 0.0, 0.0)])
left = EMPTY | {"batch_index": [0, 1, 2, 3], "noise_mask": masks}
own, _, sample = run(latent=left, attempts=2)
first, _, _ = run(latent=EMPTY | {"noise_mask": masks[:1]}, attempts=2)
found["rows"] = [torch.equal(a.picture.latent, b.picture.latent) for a, b in zip(own, first)], sample.notes
kept = sample.latent_of([a.picture for a in own])
found["kept"] = sorted(kept), list(kept["noise_mask"].shape)

_, _, sample = run(Twice(), 2, attempts=2)
found["twice"] = sample.progress.shares[1:], sample.steps
"""

CANCEL = """
def cancel(part, nth, **changes):
    # a run in which Cancel is pressed when this part of a network is called for the nth time
    calls, after = [], []
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
found["cancelled"] = {
    "sampling": cancel(network, 2), "decoding": cancel(decoder, 2), "judging": cancel(vision, 2),
    "judging a prediction": cancel(vision, 1, prune_at=0.5),
}
found["next"] = off(first, run("euler", 4, attempts=2)[0])
"""


@pytest.fixture(scope="module")
def found():
    return inside.run(inside.PLAYERS + SEARCH + BATCHES + PRUNING + CANCEL)


def test_in_a_batch_each_attempt_gets_the_noise_it_gets_alone(found):
    in_batches = {name: run for name, run in found["samplers"].items() if run[0] == [2]}
    assert set(found["samplers"]) - set(in_batches) == {"dpm_fast"}
    for name, (_, off, apart) in in_batches.items():
        assert off < 1e-2 < 0.1 < apart, name


def test_what_would_differ_in_a_batch_goes_alone(found):
    groups, off, _ = found["samplers"]["dpm_fast"]
    assert groups == [1, 1] and off == 0
    assert all(found["apart"].values()), found["apart"]
    assert not any(found["together"].values()), found["together"]
    assert found["note"] == [
        "one at a time: with this sampler, conditioning or patches of the model a batch could change each attempt"
    ]


def test_comfyuis_noise_is_put_back(found):
    assert found["put back"]


def test_how_many_go_together(found):
    assert found["doubling"] == [[1, 1, 2, 3, 2], [4, 4, 1], [5, 4], [1] * 9, [9]]


def test_what_is_given_up_costs_no_further_step(found):
    given_up = sum(verdict is None for _, verdict in found["pruned"])
    assert 0 < given_up < 5 and found["calls"] == 6 * 5 - 3 * given_up
    assert sum("given up after step 3 of 6, predicted loss" in line for line in found["report"]) == given_up


def test_a_look_on_the_way_changes_nothing_in_what_goes_on(found):
    assert found["same"] == [True] * 5
    assert [a for a, _ in found["full"]] == [a for a, _ in found["pruned"]]
    for (_, full), (_, verdict) in zip(found["full"], found["pruned"], strict=True):
        assert verdict in (None, full)


def test_the_predicted_picture_is_what_the_sampler_predicts_in_that_step(found):
    assert found["full"][0][0] == pytest.approx(found["by hand"], rel=1e-5)


def test_a_look_into_referee_can_play_changes_nothing(found):
    assert found["method"] == [True] * 3
    assert len(set(found["method predicted"])) == 3


def test_what_is_left_of_a_larger_batch_changes_no_attempt(found):
    same, (note,) = found["rows"]
    assert same == [True, True] and "'batch_index'" in note and "'noise_mask'" in note
    assert found["kept"] == [["noise_mask", "samples"], [1, 1, 8, 8]]


def test_a_sampler_with_more_steps_than_levels(found):
    assert found["twice"] == [[0.25, 0.5, 0.75, 1.0] * 2, [4, 4]]


@pytest.mark.parametrize("stage", ["sampling", "decoding", "judging", "judging a prediction"])
def test_cancel_acts_in_each_stage(found, stage):
    ended, calls, pending = found["cancelled"][stage]
    assert ended == "InterruptProcessingException" and not pending
    assert calls <= (1 if stage == "judging a prediction" else 2) + (stage == "sampling")


def test_the_run_after_a_cancelled_one_is_the_same(found):
    assert found["next"] == 0
