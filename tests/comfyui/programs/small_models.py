"""Small instances of ComfyUI's own classes for the models that people use, with random weights. Runs inside ComfyUI."""

from copy import deepcopy

import comfy.model_management
import comfy.model_patcher
import comfy.samplers
import comfy.sd
import comfy.supported_models
import torch

UNET = dict(
    image_size=32, in_channels=4, out_channels=4, use_spatial_transformer=True, legacy=False,
    use_temporal_attention=False, num_res_blocks=[1, 1], channel_mult=[1, 2], model_channels=64,
    transformer_depth=[1, 1], transformer_depth_output=[1, 1, 1, 1], transformer_depth_middle=1, context_dim=48,
    adm_in_channels=None,
)  # fmt: skip
FLUX = dict(
    in_channels=16, out_channels=16, patch_size=2, vec_in_dim=64, context_in_dim=96, hidden_size=128, mlp_ratio=4.0,
    num_heads=2, depth=1, depth_single_blocks=1, axes_dim=[16, 24, 24], theta=10000, qkv_bias=True, txt_ids_dims=[],
)  # fmt: skip
MODELS = {
    "SD 1.5": ("SD15", UNET | dict(num_heads=8, use_linear_in_transformer=False), (4, 8, 8), 48, 0),
    "SD 2.1": ("SD20", UNET | dict(num_head_channels=64, use_linear_in_transformer=True), (4, 8, 8), 48, 0),
    "SDXL": (
        "SDXL",
        UNET | dict(num_head_channels=64, use_linear_in_transformer=True, adm_in_channels=2816,
                    num_classes="sequential"),
        (4, 8, 8), 48, 1280,
    ),
    "SD3": (
        "SD3",
        dict(in_channels=16, patch_size=2, out_channels=16, depth=2, input_size=None, adm_in_channels=64,
             context_embedder_config={"target": "torch.nn.Linear", "params": {"in_features": 96, "out_features": 128}},
             num_patches=4096, pos_embed_max_size=64, pos_embed_scaling_factor=None),
        (16, 8, 8), 96, 64,
    ),
    "Flux": ("Flux", FLUX | dict(image_model="flux", guidance_embed=True), (16, 8, 8), 96, 64),
    "Flux.2": (
        "Flux2",
        FLUX | dict(image_model="flux2", in_channels=128, out_channels=128, patch_size=1, vec_in_dim=None,
                    mlp_ratio=3.0, axes_dim=[16, 16, 16, 16], theta=2000, qkv_bias=False, guidance_embed=True,
                    global_modulation=True, mlp_silu_act=True, ops_bias=False, txt_ids_dims=[3]),
        (128, 4, 4), 96, 0,
    ),
    "Chroma": (
        "Chroma",
        FLUX | dict(image_model="chroma", in_channels=64, out_channels=64, vec_in_dim=0, in_dim=64, out_dim=128,
                    hidden_dim=64, n_layers=1),
        (16, 8, 8), 96, 0,
    ),
    "Z-Image": (
        "ZImage",
        dict(image_model="lumina2", patch_size=2, in_channels=16, dim=256, cap_feat_dim=96, n_layers=2,
             n_refiner_layers=1, n_heads=4, n_kv_heads=4, axes_dims=[16, 24, 24], axes_lens=[64, 64, 64], qk_norm=True,
             z_image_modulation=True, rope_theta=256.0, time_scale=1000.0, pad_tokens_multiple=32,
             ffn_dim_multiplier=8 / 3),
        (16, 8, 8), 96, 0,
    ),
    "Qwen-Image": (
        "QwenImage",
        dict(image_model="qwen_image", in_channels=64, out_channels=16, num_layers=2, attention_head_dim=32,
             num_attention_heads=2, joint_attention_dim=96, axes_dims_rope=(8, 12, 12)),
        (16, 1, 8, 8), 96, 0,
    ),
    "Krea 2": (
        "Krea2",
        dict(image_model="krea2", features=128, tdim=64, txtdim=96, heads=2, kvheads=1, layers=2, txtlayers=2,
             txtheads=2, txtkvheads=2),
        (16, 1, 8, 8), 192, 0,
    ),
    "Wan 2.1": (
        "WAN21_T2V",
        dict(image_model="wan2.1", model_type="t2v", dim=128, ffn_dim=256, num_heads=2, num_layers=2, text_dim=96,
             in_dim=16, out_dim=16, freq_dim=64, patch_size=(1, 2, 2), qk_norm=True, cross_attn_norm=True, eps=1e-6,
             window_size=(-1, -1)),
        (16, 1, 8, 8), 96, 0,
    ),
}  # fmt: skip
"""By name: ComfyUI's class in supported_models, its configuration, the latent's shape, widths of text and pooled
text."""


def known() -> list[str]:
    """Those that this ComfyUI has."""
    return [name for name, (kind, *_) in MODELS.items() if hasattr(comfy.supported_models, kind)]


def build(name: str, dtype: torch.dtype) -> comfy.model_patcher.ModelPatcher:
    kind, config, *_ = MODELS[name]
    config = getattr(comfy.supported_models, kind)(deepcopy(config))
    config.set_inference_dtype(dtype, None)
    model, generator = config.get_model({}, "", device="cpu").eval(), torch.Generator().manual_seed(0)
    for key, p in model.diffusion_model.named_parameters():
        values = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        if p.ndim > 1:
            values *= max(1, p.shape[1:].numel()) ** -0.5
        else:
            values = 0.1 * values + float(key.endswith(("weight", "scale")))
        p.data = values.to(dtype)
    places = getattr(model.diffusion_model, "pos_embed", None)  # SD3's, which a checkpoint brings
    if places is not None:
        places.copy_(0.1 * torch.randn(places.shape, generator=generator))
    management = comfy.model_management
    return comfy.model_patcher.ModelPatcher(model, management.get_torch_device(), management.unet_offload_device())


def prompt(name: str, seed: int) -> list:
    """A conditioning of random numbers."""
    *_, width, pooled = MODELS[name]
    generator = torch.Generator().manual_seed(seed)
    more = {"pooled_output": torch.randn(1, pooled, generator=generator)} if pooled else {}
    return [[torch.randn(1, 7, width, generator=generator), more]]


def autoencoder(shape: tuple[int, ...]) -> comfy.sd.VAE:
    """A narrow one for latents of this shape: of Stable Diffusion's kind, of Flux.2's (128 channels) or of Wan's
    (video)."""
    if len(shape) == 4:
        return _wan()
    from comfy.ldm.models.autoencoder import AutoencoderKL

    channels, folded = (shape[0] // 4, True) if shape[0] == 128 else (shape[0], False)
    sizes = dict(
        double_z=True, z_channels=channels, resolution=64, in_channels=3, out_ch=3, ch=32, ch_mult=[1, 1, 1, 1],
        num_res_blocks=1, attn_resolutions=[], dropout=0.0,
    )  # fmt: skip
    if folded:
        sizes["batch_norm_latent"] = True
    config = {"ddconfig": sizes, "embed_dim": channels}
    state = _random(AutoencoderKL(**config).state_dict())
    vae = comfy.sd.VAE(sd=state, config={"params": config}, dtype=torch.float32)
    vae.latent_channels = shape[0]
    if folded:
        vae.downscale_ratio = vae.upscale_ratio = 16
    return vae


def _wan() -> comfy.sd.VAE:
    from comfy.ldm.wan.vae import WanVAE

    state = WanVAE(dim=8, z_dim=16, num_res_blocks=2, temperal_downsample=[False, True, True]).state_dict()
    return comfy.sd.VAE(sd=_random(state), dtype=torch.float32)


def _random(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    made, generator = {}, torch.Generator().manual_seed(0)
    for key, value in state.items():
        if not value.is_floating_point():
            made[key] = torch.zeros_like(value)
            continue
        values = torch.randn(value.shape, generator=generator)
        if key.endswith(("gamma", "running_var")):
            made[key] = torch.ones_like(values)
        else:
            wide = value.ndim > 1
            made[key] = values * value[0].numel() ** -0.5 if wide else 0.1 * values + float(key.endswith("weight"))
    return made
