"""A LoRA that learns between rounds."""

from pathlib import Path

import comfy.samplers
import comfy.sd
import comfy.utils
import folder_paths
import torch
from comfy_extras.nodes_train import SaveLoRA

from pack.nodes.runs.adapter import Adapter, adapt
from programs.players import cond, model
from programs.rounds import empty, make, predicted, sigmas

found = {}

with torch.inference_mode():
    untouched = predicted(model)

    def learn(rate=0.002, steps=4):
        return adapt(model, cond, empty, 2.0, make(), sigmas, {"samples": torch.zeros(2, 4, 8, 8)}, 5, 2, rate, steps)

    adapted, lora, latent = learn()
    found["untouched"] = torch.equal(predicted(model), untouched)
    found["shape"] = list(latent["samples"].shape)
    effect = predicted(adapted)
    found["effect"] = (effect - untouched).abs().max().item()
    SaveLoRA.execute(lora, "adapted")
    (file,) = Path(folder_paths.get_output_directory()).glob("adapted*.safetensors")
    read, _ = comfy.sd.load_lora_for_models(model, None, comfy.utils.load_torch_file(str(file), safe_load=True), 1.0, 0)
    file.unlink()
    found["read back"] = (predicted(read) - effect).abs().max().item()
    found["again"] = all(torch.equal(lora[key], other) for key, other in learn()[1].items())
    found["nothing"] = (predicted(learn(rate=0.0)[0]) - untouched).abs().max().item()
    found["layers"] = sorted({key.split(".lora_")[0] for key in lora if ".lora_" in key}) == sorted(
        f"diffusion_model.{name}"
        for name, module in model.model.diffusion_model.named_modules()
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))
    )

    # what it has learned: these latents are predicted better than before
    adapter = Adapter(model, 4, 0.003, 60, 1)
    guider = comfy.samplers.CFGGuider(adapter.patcher)
    guider.set_conds(cond, empty)
    seen = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))

    class Teacher(comfy.samplers.Sampler):
        def sample(self, guider, sigmas, extra_args, *rest, **options):
            values = []
            for last in (False, True):
                x = seen + 0.5 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
                values.append((guider(x, torch.full([2], 0.5), **extra_args) - seen).square().mean().item())
                if not last:
                    adapter.learn(seen, guider, extra_args)
            found["learned"] = values
            return seen

    guider.sample(seen, seen, Teacher(), sigmas, seed=1)
try:
    adapt(model, cond, empty, 2.0, comfy.samplers.sampler_object("euler"), sigmas, {"samples": seen}, 5, 2, 1e-3, 1)
except ValueError as error:
    found["refused"] = str(error)
