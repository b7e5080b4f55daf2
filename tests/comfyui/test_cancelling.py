"""Cancel is pressed inside each stage of a step: the run ends there, and nothing of it is left."""

import pytest

from comfyui import inside

pytestmark = pytest.mark.slow

STAGES = ("denoising", "decoding", "judging", "backward", "recomputing")  # the last: a checkpointed VAE, going back

CODE = """
import gc, weakref
modules = (vae.first_stage_model, referee.referee.network, model.model)
decoder, network = vae.first_stage_model.decoder, referee.referee.network

def state():
    # all that a run swaps or switches
    parts = [part for module in modules for part in module.modules()]
    tensors = [t for part in parts for t in (*part._parameters.values(), *part._buffers.values()) if t is not None]
    return (
        [(id(t), t.requires_grad, t.is_inference(), t.data_ptr()) for t in tensors],
        [(part.__dict__.get("forward"), part.__dict__.get("optimized_attention"), part.training) for part in parts],
        [(p.load_device, p.loaded_size(), p.current_loaded_device(), p.model.model_lowvram) for p in patchers],
        (referee.referee.checkpointing, torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    )

def cancel(at):
    # one run in whose second step Cancel is pressed inside a stage
    steps, decodes, kept, pressed = [], [], [], []

    def press(*_):
        if len(steps) == 1 and not pressed and (at != "recomputing" or torch._C._current_graph_task_id() != -1):
            pressed.append(at)
            mm.interrupt_current_processing()

    def keep(module, inputs, output):
        if len(steps) == 1 and isinstance(output, torch.Tensor):
            kept.append(weakref.ref(output))

    inside = {
        "denoising": model.model.diffusion_model.time_embed, "decoding": decoder.conv_out, "judging": network.vision,
        "backward": network.vision, "recomputing": decoder.mid.block_1.conv1,
    }[at]
    hooks = [part.register_forward_hook(keep) for part in (*decoder.modules(), *network.modules())]
    hooks.append(decoder.register_forward_pre_hook(lambda *_: decodes.append(1)))
    hooks.append((inside.register_full_backward_hook if at == "backward" else inside.register_forward_pre_hook)(press))
    ended = "to its end"
    try:
        play(steps=3, on_step=steps.append)
    except BaseException as error:
        ended = type(error).__name__
    for hook in hooks:
        hook.remove()
    seen = dict(ended=ended, pressed=len(pressed), pending=mm.processing_interrupted())
    seen |= dict(steps=len(steps), decodes=len(decodes))
    steps.clear()
    gc.collect()
    return seen | dict(made=len(kept), alive=sum(t() is not None for t in kept))

patchers = (vae.patcher, referee.patcher, model)
first = play()
for at in STAGES:
    if at == "recomputing":
        mm.is_device_cpu = lambda device: False
        sampler.Decoder.memory_required = lambda *a, **k: 2.0**60
        first = play()
    before = state()
    found[at] = cancel(at)
    found[at] |= {"restored": state() == before, "next": torch.equal(play(), first)}
"""


@pytest.fixture(scope="module")
def found():
    return inside.run(f"{inside.PLAYERS}\nSTAGES = {STAGES!r}\n{CODE}")


@pytest.mark.parametrize("at", STAGES)
def test_no_further_step_is_begun(found, at):
    assert found[at]["ended"] == "InterruptProcessingException"
    assert found[at]["pressed"] == 1 and not found[at]["pending"]
    assert found[at]["steps"] <= 2
    assert found[at]["decodes"] == (1 if at == "denoising" else 2)


@pytest.mark.parametrize("at", STAGES)
def test_everything_is_put_back_and_the_next_run_is_the_same(found, at):
    assert found[at]["restored"]
    assert found[at]["next"]


@pytest.mark.parametrize("at", STAGES)
def test_nothing_of_the_cancelled_step_stays_in_memory(found, at):
    assert (found[at]["made"] > 0) == (at != "denoising")  # which comes first, before VAE and referee
    assert found[at]["alive"] == 0
