"""Optimize Prompt on the demo's models: what comes out, and what it does under ComfyUI's own sampler."""

import comfy.sample
import folder_paths
import torch

from pack.nodes import plots, prompt_files, prompts
from pack.nodes.bridge.models import prompt_files as files
from pack.nodes.runs import ipgo as run
from pack.nodes.sockets import LoadedPrompt
from pack.referee_core.methods import ipgo as core
from pack.referee_core.prompt_tokens import NO_TOKENS
from programs import given
from programs.players import clip, cond, loss, model, referee, vae

found = {}
folder_paths.folder_names_and_paths["referee_prompts"] = ([given["folder"]], {".safetensors"})
EMPTY = {"samples": torch.zeros(1, 4, 16, 16)}
COMMON = {
    "latent_image": EMPTY, "seed": 5, "steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal",
    "rounds": 2, "learning_rate": 0.1, "last_steps": 2, "noises": 2, "other_noises": 2, "check_every": 1,
    "stop_at": 0.0, "patience": 0, "tokens": 3, "side": "before and after", "rank": 16, "conformity": 0.001,
    "record_every": 1,
}  # fmt: skip


def optimize(**changes):
    with torch.inference_mode():
        given = {"model": model, "positive": cond, "negative": cond, "vae": vae, "loss": loss} | COMMON | changes
        return prompts.RefereePromptOptimizer.execute(**given).result


def sample(positive, seed=7):
    with torch.inference_mode():
        noise = comfy.sample.prepare_noise(EMPTY["samples"], seed)
        latent = EMPTY["samples"]
        return comfy.sample.sample(model, noise, 4, 3.0, "euler", "normal", positive, cond, latent, seed=seed).clone()


weights = {name: p.clone() for name, p in model.model.named_parameters()}
conditioning, tokens, image, history, report = optimize()
again = optimize()
found["report"] = report.splitlines()
found["shapes"] = [list(conditioning[0][0].shape), list(cond[0][0].shape), list(image.shape), history.steps]
found["same again"] = torch.equal(conditioning[0][0], again[0][0][0]) and torch.equal(image, again[2])
found["weights"] = all(torch.equal(p, weights[name]) for name, p in model.model.named_parameters())

# with tokens whatever they are worth: the looks' pictures are those of KSampler with the same seeds
best = core.Learned.best
core.Learned.best = property(lambda self: self.candidates[-1])
conditioning, tokens, image, *_ = optimize()
core.Learned.best = best
with torch.inference_mode():
    pictures = [vae.decode(sample(conditioning, 5 + 2 + i)) for i in range(2)]
found["as KSampler"] = float((torch.cat(pictures) - image).abs().max())
found["tokens move the picture"] = float((sample(conditioning) - sample(cond)).abs().max())

# what the history shows
with torch.inference_mode():
    (chart,) = plots.RefereeHistoryPlot.execute(history, 0).result
    strip = plots.RefereeFilmstrip.execute(history, 0, 4, 64).result[0]
    found["plots"] = [list(chart.shape)[-1], list(strip.shape)[-1]]
    try:
        plots.RefereeGradientView.execute(history, 0, 4, 64)
    except ValueError as error:
        found["gradients"] = str(error)

# other conditioning beside it, areas and times kept
regions = [[cond[0][0], cond[0][1] | {"area": (8, 16, 0, 0), "strength": 0.5}], [cond[0][0], {"start_percent": 0.5}]]
put = run.apply(tokens, regions, model)
found["regions"] = [put[0][1]["area"], put[1][1]["start_percent"], [list(c[0].shape) for c in put]]
found["combined"] = bool(sample(put + cond).isfinite().all())
masked = run.apply(tokens, [[cond[0][0], {"attention_mask": torch.ones(1, 24)}]], model)
found["mask"] = list(masked[0][1]["attention_mask"].shape)
none = run.apply(LoadedPrompt(NO_TOKENS, "SDXL"), cond, model)
found["no tokens"] = none[0][0] is cond[0][0]

# as a file
prompt_files.RefereeSavePrompt.execute(tokens, "mine")
(back,) = prompt_files.RefereeLoadPrompt.execute("mine.safetensors").result
(applied,) = prompt_files.RefereeApplyPrompt.execute(back, cond, model).result
found["file"] = [torch.equal(applied[0][0], conditioning[0][0]), back.family]


def message(call, *inputs, **more):
    try:
        call(*inputs, **more)
    except ValueError as error:
        return str(error)
    return ""


found["errors"] = {
    "again": message(prompt_files.RefereeSavePrompt.execute, tokens, "mine"),
    "nothing": message(prompt_files.RefereeSavePrompt.execute, LoadedPrompt(NO_TOKENS, "SD15"), "other"),
    "family": message(run.apply, LoadedPrompt(tokens.inserted, "Flux"), cond, model),
    "width": message(run.apply, tokens, [[torch.zeros(1, 7, 768), {}]], model),
    "other file": message(files.load_prompt, given["other"]),
    "broken file": message(files.load_prompt, given["broken"]),
    "no text": message(optimize, positive=[]),
    "one prompt": message(
        prompts.RefereePromptTrainer.execute, model, clip, vae, referee, "a cat\n a cat", "", 0.25, 1.0, 1.0, **COMMON
    ),
}

# IPGO+
with torch.inference_mode():
    lines = "a red circle\na blue square\n\na green cross\n"
    trained, pictures, history, report = prompts.RefereePromptTrainer.execute(
        model, clip, vae, referee, lines, "", 0.3, 1.0, 0.0, **COMMON
    ).result
found["list"] = [report.splitlines(), list(pictures.shape), history.steps, trained.inserted.attending]
