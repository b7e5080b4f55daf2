"""A low-rank adapter of a MODEL that learns from pictures, in ComfyUI's own classes for weight adapters."""

from dataclasses import replace

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from comfy.samplers import CFGGuider
from comfy.weight_adapter.lora import LoRAAdapter

from ...referee_core.methods.iterated_linearisation import score_matching
from ..bridge.gradients.block import differentiable
from ..bridge.gradients.memory import memory_for
from ..bridge.gradients.model import DifferentiableModel
from ..bridge.inputs import check_finite
from ..bridge.sampling.denoiser import noise_level
from ..bridge.sampling.latents import rows_that_fit, samples_for
from .rounds import Rounds

NETWORK = "diffusion_model"


class Adapter:
    """LoRA on every linear and convolutional layer; it starts as no change at all, and stays on the model's device:
    ComfyUI would move it in inference mode, where weights cease to learn.

    Args:
        steps: of Adam, each at a noise level of its own, whenever it learns.
    """

    def __init__(self, model: ModelPatcher, rank: int, lr: float, steps: int, seed: int):
        DifferentiableModel(model)
        self.patcher, self.steps, self.parts = model.clone(), steps, {}
        self.generator = torch.Generator().manual_seed(seed)
        device = model.load_device
        with torch.inference_mode(False), torch.random.fork_rng([]):
            torch.manual_seed(seed)  # by which ComfyUI's class draws its weights
            for name, module in model.model.diffusion_model.named_modules(prefix=NETWORK):
                weight = getattr(module, "weight", None)
                if hasattr(module, "weight_function") and weight is not None and weight.ndim >= 2:
                    part = LoRAAdapter.create_train(torch.empty(1).expand(weight.shape), rank=rank, alpha=float(rank))
                    self.parts[name] = part.train().to(device)
                    part.move_to = lambda device: 0  # bytes moved
                    self.patcher.add_weight_wrapper(f"{name}.weight", part)
        trained = [p for part in self.parts.values() for p in part.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(trained, lr=lr)

    def learn(self, z: torch.Tensor, guider: CFGGuider, extra_args: dict) -> None:
        """Denoising score matching on latents [B, C, ...] of the model's scale, under the guider's prompt."""
        model, through = guider.inner_model, DifferentiableModel(guider.model_patcher)
        options, sampling = through.options(extra_args["model_options"]), guider.inner_model.model_sampling
        with (
            memory_for("teaching the adapter", "Use a smaller picture or batch, or a lower rank."),
            differentiable(through, also_load=guider.loaded_models, shape=z.shape),
        ):
            z0 = z.detach().clone()
            for _ in range(self.steps):
                percent = float(torch.rand((), generator=self.generator, dtype=torch.float32).clamp(0.001, 0.999))
                level = torch.full([len(z0)], float(sampling.percent_to_sigma(percent)), device=z0.device)
                eps = torch.randn(z0.shape, generator=self.generator, dtype=torch.float32).to(z0)
                alpha, sigma, _ = noise_level(sampling, level)

                def predict(x: torch.Tensor, _: torch.Tensor, level=level, alpha=alpha) -> torch.Tensor:
                    x = x * alpha.view(-1, *[1] * (x.ndim - 1)).to(x)
                    return comfy.samplers.calc_cond_batch(model, [guider.conds["positive"]], x, level, options)[0]

                score_matching(predict, z0, sigma / alpha, eps).mean().backward()
                self.optimiser.step()
                self.optimiser.zero_grad()
                comfy.model_management.throw_exception_if_processing_interrupted()

    def weights(self) -> dict[str, torch.Tensor]:
        """As in a LoRA's file."""
        named = ((f"{name}.{key}", p) for name, part in self.parts.items() for key, p in part.named_parameters())
        with torch.inference_mode(False):
            return {name: p.detach().cpu().clone() for name, p in named}


def adapt(
    model: ModelPatcher,
    positive: list,
    negative: list,
    cfg: float,
    rounds: Rounds,
    sigmas: torch.Tensor,
    latent: dict,
    seed: int,
    rank: int,
    lr: float,
    steps: int,
) -> tuple[ModelPatcher, dict[str, torch.Tensor], dict]:
    """Algorithm 2: (MODEL with the LoRA, LORA_MODEL, LATENT of the best pictures)."""
    if not isinstance(rounds, Rounds):
        raise ValueError(
            "The input 'sampler' is not a Referee Rounds, between whose rounds the model learns: connect one, and your "
            "sampler to that."
        )
    check_finite("latent_image", latent["samples"])
    latent, _ = rows_that_fit(latent)
    adapter = Adapter(model, rank, lr, steps, seed)
    guider = comfy.samplers.CFGGuider(adapter.patcher)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    samples = samples_for(model, latent)
    noise = comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    taught = replace(rounds, learn=adapter.learn)
    made = guider.sample(noise, samples, taught, sigmas, denoise_mask=latent.get("noise_mask"), seed=seed)
    made = made.to(comfy.model_management.intermediate_device())
    lora = adapter.weights()
    adapted, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)
    out = {k: v for k, v in latent.items() if not k.startswith("downscale_ratio")}
    return adapted, lora, out | {"samples": made}
