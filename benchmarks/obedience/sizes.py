"""Operations of one call of models that people use, counted on ComfyUI's own classes without weights.

    python -m benchmarks.obedience.sizes        # the numbers of cost.SIZES, in TFLOP

Configurations are those that ComfyUI's classes have by default or its loader reads from the published files.
"""

from collections.abc import Callable

from scripts.environment import enter

PIXELS, TOKENS = 1024, 64  # side of the picture; tokens of a prompt
VIEW = 448  # side of a view


def count(call: Callable[[], object]) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e12


def qwen_image() -> tuple[float, float]:
    """(a pass, parameters in billions) of Qwen-Image's transformer: 60 blocks, a stream for the picture and one for the
    text, each with weights of its own."""
    import comfy.ops
    import torch
    from comfy.ldm.qwen_image.model import QwenImageTransformer2DModel

    model = QwenImageTransformer2DModel(
        device="meta", dtype=torch.bfloat16, operations=comfy.ops.disable_weight_init
    ).eval()
    x = torch.empty(1, 16, 1, PIXELS // 8, PIXELS // 8, device="meta", dtype=torch.bfloat16)
    text = torch.empty(1, TOKENS, 3584, device="meta", dtype=torch.bfloat16)
    t = torch.empty(1, device="meta", dtype=torch.bfloat16)
    return count(lambda: model(x, t, text)), _billions(model)


def z_image() -> tuple[float, float]:
    """(a pass, parameters in billions) of Z-Image's transformer: 30 blocks for picture and text together."""
    import comfy.ops
    import torch
    from comfy.ldm.lumina.model import NextDiT

    model = NextDiT(
        patch_size=2, in_channels=16, dim=3840, n_layers=30, n_refiner_layers=2, n_heads=30, n_kv_heads=30,
        cap_feat_dim=2560, axes_dims=[32, 48, 48], axes_lens=[1536, 512, 512], qk_norm=True, z_image_modulation=True,
        rope_theta=256.0, time_scale=1000.0, pad_tokens_multiple=32, ffn_dim_multiplier=8 / 3, device="meta",
        dtype=torch.bfloat16, operations=comfy.ops.disable_weight_init,
    ).eval()  # fmt: skip
    x = torch.empty(1, 16, PIXELS // 8, PIXELS // 8, device="meta", dtype=torch.bfloat16)
    text = torch.empty(1, TOKENS, 2560, device="meta", dtype=torch.bfloat16)
    t = torch.empty(1, device="meta", dtype=torch.bfloat16)
    return count(lambda: model(x, t, text, TOKENS)), _billions(model)


def decodes() -> tuple[float, float]:
    """One decode by Qwen-Image's autoencoder (Wan's), and by Flux's, which Z-Image has too."""
    import torch
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.wan.vae import WanVAE

    flux = dict(double_z=True, z_channels=16, resolution=256, in_channels=3, out_ch=3, ch=128, ch_mult=[1, 2, 4, 4],
                num_res_blocks=2, attn_resolutions=[], dropout=0.0)  # fmt: skip
    with torch.device("meta"):
        wan = WanVAE(dim=96, z_dim=16, temperal_downsample=[False, True, True]).eval()
        kl = AutoencoderKL(embed_dim=16, ddconfig=flux).eval()
        z = torch.empty(1, 16, PIXELS // 8, PIXELS // 8)
        return count(lambda: wan.decode(z[:, :, None])), count(lambda: kl.decoder(z))


def qwen3_vl_4b() -> float:
    """A view seen by Qwen3-VL 4B, by hand: 24 layers of 1024 (4096 inside) over 28 x 28 patches of 16 pixels; 36 layers
    of 2560 (9728 inside, 32 heads of 128 and 8 of keys and values) over a quarter as many tokens and the text's."""
    patches = (VIEW // 16) ** 2
    tower = 24 * (2 * patches * (4 * 1024**2 + 2 * 1024 * 4096) + 4 * patches**2 * 1024)
    tokens = patches // 4 + TOKENS
    weights = 2 * 2560 * 32 * 128 + 2 * 2560 * 8 * 128 + 3 * 2560 * 9728
    language = 36 * (2 * tokens * weights + 4 * tokens**2 * 32 * 128)
    return (tower + language) / 1e12


def _billions(model: object) -> float:
    return sum(p.numel() for p in model.parameters()) / 1e9


def main() -> None:
    import sys

    sys.path.insert(0, str(enter()))
    import comfy.cli_args

    comfy.cli_args.args.cpu = comfy.cli_args.args.use_pytorch_cross_attention = True
    import comfy.model_management

    comfy.model_management.in_training = True  # its other kernels are not counted
    wan, kl = decodes()
    for name, (operations, size), decode in (("Qwen-Image", qwen_image(), wan), ("Z-Image", z_image(), kl)):
        print(f"{name}: {size:.1f} billion, a pass {operations:.1f}, a decode {decode:.2f}")
    print(f"Qwen3-VL 4B: a view {qwen3_vl_4b():.2f}")


if __name__ == "__main__":
    main()
