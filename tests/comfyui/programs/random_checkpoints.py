"""Checkpoints of real architectures with random weights, in the published key layouts. Runs inside ComfyUI.

Shapes come from ComfyUI's own classes on the meta device; nothing is ever held in memory but one tensor at a time of
the file that is written.
"""

from copy import deepcopy

import comfy.ldm.modules.diffusionmodules.mmdit as mmdit
import comfy.ops
import comfy.supported_models
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from safetensors.torch import save_file

META = torch.device("meta")
UNET = dict(
    image_size=32, in_channels=4, out_channels=4, use_spatial_transformer=True, legacy=False,
    use_temporal_attention=False,
    device=META, operations=comfy.ops.manual_cast,
)  # fmt: skip
SD = dict(
    num_res_blocks=[2, 2, 2, 2], channel_mult=[1, 2, 4, 4], model_channels=320, transformer_depth_middle=1,
    adm_in_channels=None,
    transformer_depth=[1, 1, 1, 1, 1, 1, 0, 0], transformer_depth_output=[1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
)  # fmt: skip
ARCHITECTURES = {
    "SD15": SD | dict(context_dim=768, num_heads=8, use_linear_in_transformer=False),
    "SD20": SD | dict(context_dim=1024, num_head_channels=64, use_linear_in_transformer=True),
    "SDXL": dict(
        num_res_blocks=[2, 2, 2], channel_mult=[1, 2, 4], model_channels=320, transformer_depth=[0, 0, 2, 2, 10, 10],
        transformer_depth_output=[0, 0, 0, 2, 2, 2, 10, 10, 10], transformer_depth_middle=10, context_dim=2048,
        num_head_channels=64, use_linear_in_transformer=True, num_classes="sequential", adm_in_channels=2816,
    ),
}  # fmt: skip
AUTOENCODER = dict(
    double_z=True, resolution=256, in_channels=3, out_ch=3, ch=128, ch_mult=[1, 2, 4, 4], num_res_blocks=2,
    attn_resolutions=[],
    dropout=0.0,
)  # fmt: skip
V_PREDICTION = "output_blocks.11.1.transformer_blocks.0.norm1.bias"  # by whose spread ComfyUI tells v-prediction

numbers = torch.randn(2**22, generator=torch.Generator().manual_seed(0))


def fill(name: str, shape: torch.Size, spread: float) -> torch.Tensor:
    """Random half-precision weights; norms near the identity."""
    size = shape.numel()
    values = numbers[:size] if size <= len(numbers) else numbers.repeat(-(-size // len(numbers)))[:size]
    if len(shape) == 1 and name.endswith("weight"):
        return (1 + 0.1 * values.view(shape)).half()
    if len(shape) > 1:
        spread = min(spread, shape[1:].numel() ** -0.5)
    return (spread * values.view(shape)).half()


def write(path: str, state: dict, spread: float = 0.05) -> None:
    save_file({k: fill(k, v.shape, 0.3 if k.endswith(V_PREDICTION) else spread) for k, v in state.items()}, path)


def autoencoder(channels: int = 4) -> dict:
    with META:
        return AutoencoderKL(embed_dim=channels, ddconfig=AUTOENCODER | {"z_channels": channels}).state_dict()


def vae(path: str, channels: int) -> None:
    write(path, autoencoder(channels))


def checkpoint(path: str, architecture: str) -> None:
    """A whole checkpoint: UNet, text encoders and autoencoder."""
    sizes = ARCHITECTURES[architecture]
    config = getattr(comfy.supported_models, architecture)(dict(sizes))
    unet = UNetModel(**UNET, **deepcopy(sizes))  # it empties the lists it is given
    state = {f"model.diffusion_model.{k}": v for k, v in unet.state_dict().items()}
    clip = config.clip_target({}).clip(device=META, dtype=torch.float16, model_options={})
    state |= config.process_clip_state_dict_for_saving(clip.state_dict())
    state |= {f"first_stage_model.{k}": v for k, v in autoencoder().items()}
    write(path, state)


def sd3(path: str, context: int, pooled: int) -> None:
    """Stable Diffusion 3's transformer, two blocks deep and 128 wide, reading another text encoder's states."""
    linear = {"target": "torch.nn.Linear", "params": {"in_features": context, "out_features": 128}}
    model = mmdit.MMDiT(
        input_size=None, patch_size=2, in_channels=16, depth=2, adm_in_channels=pooled, context_embedder_config=linear,
        num_patches=36864, pos_embed_max_size=192, pos_embed_scaling_factor=None, device=META,
        operations=comfy.ops.manual_cast,
    )  # fmt: skip
    state = model.state_dict() | {"pos_embed": torch.empty(1, 36864, 128, device=META)}
    write(path, {f"model.diffusion_model.{k}": v for k, v in state.items()})


def lora(path: str) -> None:
    """A LoRA of rank 4 on two cross-attentions of SD 1.5, in kohya's layout."""
    state, generator = {}, torch.Generator().manual_seed(1)
    for i in range(2):
        name = f"lora_unet_down_blocks_0_attentions_{i}_transformer_blocks_0_attn2_to_k"
        state[f"{name}.lora_up.weight"] = torch.randn(320, 4, generator=generator)
        state[f"{name}.lora_down.weight"] = torch.randn(4, 768, generator=generator)
        state[f"{name}.alpha"] = torch.tensor(4.0)
    save_file(state, path)


def controlnet(path: str) -> None:
    """A ControlNet for SD 1.5 in its original layout."""
    from comfy.cldm.cldm import ControlNet

    sizes = {k: v for k, v in ARCHITECTURES["SD15"].items() if k != "transformer_depth_output"}
    options = {k: v for k, v in UNET.items() if k != "out_channels"}
    model = ControlNet(**options, **deepcopy(sizes), hint_channels=3)
    write(path, {f"control_model.{k}": v for k, v in model.state_dict().items()})
