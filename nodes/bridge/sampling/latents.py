"""What a LATENT says beside its samples, its noise, and the scale of latents that a run uses: that of its MODEL;
without a MODEL only what the VAE alone tells."""

from collections.abc import Sequence

import comfy.latent_formats
import comfy.sample
import comfy.sampler_helpers
import comfy.utils
import torch
from comfy.latent_formats import LatentFormat
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE

WAN_FORMATS = {16: "Wan21", 48: "Wan22", 64: "QwenImage21"}
"""By the channels of a VAE of Wan's classes; the last one is in newer ComfyUI versions only."""
NOTE = "Latent scale of SD 1.5: without a MODEL it cannot be told from SDXL's. Connect 'model' for any other model."


def rows_that_fit(latent: dict) -> tuple[dict, str]:
    """A LATENT whose ``batch_index`` and ``noise_mask`` have a row for each image, and a note on what was changed.

    Packs pick images out of a batch and leave the rest of the LATENT as it was. Masks are repeated or cut as ComfyUI's
    samplers do; numbers of another batch are left out.
    """
    count, fitting, changed = len(latent["samples"]), dict(latent), []
    if latent.get("batch_index") is not None and len(latent["batch_index"]) != count:
        del fitting["batch_index"]
        changed.append("'batch_index' does not fit its batch and was left out")
    mask = latent.get("noise_mask")
    if mask is not None and mask.ndim > 2 and len(mask) not in (1, count):
        fitting["noise_mask"] = comfy.utils.repeat_to_batch_size(mask, count)
        changed.append(f"'noise_mask' has {len(mask)} masks for {count} images; they were given in order")
    return fitting, f"the latent's {' and '.join(changed)}" if changed else ""


def samples_for(model: ModelPatcher, latent: dict) -> torch.Tensor:
    """The samples of a LATENT, with an empty one in the channels and the size that this model makes."""
    ratios = ("downscale_ratio_spacial", "downscale_ratio_temporal")  # the latter is unknown to ComfyUI 0.20
    given = {name: latent[name] for name in ratios if latent.get(name) is not None}
    return comfy.sample.fix_empty_latent_channels(model, latent["samples"], **given)


def restore_outside(samples: torch.Tensor, latent: dict) -> torch.Tensor:
    """Where the mask is 0, what came in, bit for bit: scaling into the model's range and back has rounded it."""
    mask = latent.get("noise_mask")
    if mask is None or samples.shape != latent["samples"].shape:
        return samples
    mask = comfy.sampler_helpers.prepare_mask(mask, samples.shape, samples.device)
    return torch.where(mask > 0, samples, latent["samples"].to(samples))


def draw_noise(samples: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
    """ComfyUI's noise of each seed."""
    return torch.cat([comfy.sample.prepare_noise(row, seed) for row, seed in zip(samples.split(1), seeds, strict=True)])


def choose_latent_format(vae: VAE, model: ModelPatcher | None = None, name: str = "model") -> tuple[LatentFormat, str]:
    """The latent format of a run, and a note to show (empty if there is nothing to say).

    Without a MODEL, VAEs of four channels count as SD 1.5's. Wan's autoencoders, whose statistics are the same in all
    models that use them (Qwen-Image's among them), are known by their class and the number of their channels.

    Args:
        model: the run's ModelPatcher, or None. name: of the input it comes from, for messages.
    Raises:
        ValueError: MODEL and VAE belong to different families, or the VAE alone does not tell.
    """
    if model is None:
        return _of_vae(vae)
    latent_format = model.get_model_object("latent_format")
    check_family(latent_format, vae, name)
    return latent_format, ""


def check_family(latent_format: LatentFormat, vae: VAE, name: str = "model") -> None:
    """Raise a ValueError unless the VAE decodes such latents."""
    channels, factor = _decoded_channels(latent_format), _factor(latent_format)
    if channels != vae.latent_channels:
        mismatch = f"makes latents of {channels} channels and the VAE decodes {vae.latent_channels}"
    elif factor and _vae_factor(vae) and factor != _vae_factor(vae):
        mismatch = (
            f"makes latents {factor} times smaller than the image and the VAE enlarges them {_vae_factor(vae)} times"
        )
    else:
        return
    raise ValueError(
        f"The inputs '{name}' and 'vae' belong to two model families: the model {mismatch}. Connect the VAE that "
        f"belongs to the model of '{name}', and an empty latent or a picture encoded with that VAE."
    )


def _of_vae(vae: VAE) -> tuple[LatentFormat, str]:
    import comfy.ldm.wan.vae
    import comfy.ldm.wan.vae2_2

    if vae.latent_channels == 4 and vae.latent_dim == 2:
        return comfy.latent_formats.SD15(), NOTE
    wan = (comfy.ldm.wan.vae.WanVAE, comfy.ldm.wan.vae2_2.WanVAE)
    named = WAN_FORMATS.get(vae.latent_channels) if isinstance(vae.first_stage_model, wan) else None
    if named is not None and hasattr(comfy.latent_formats, named):
        return getattr(comfy.latent_formats, named)(), ""
    raise ValueError(
        f"The scale of this VAE's latents ({vae.latent_channels} channels) is not known: models with such a VAE "
        "scale them differently. Connect the MODEL that the input 'vae' belongs to, to 'model', or an SDS Guidance "
        "with it to 'prior'."
    )


@torch.inference_mode()
def _decoded_channels(latent_format: LatentFormat) -> int:
    """Channels of what the VAE gets; a format may fold frames into channels."""
    size = (1, 2, 2)[-latent_format.latent_dimensions :]
    return latent_format.process_out(torch.zeros(1, latent_format.latent_channels, *size)).shape[1]


def _factor(latent_format: LatentFormat) -> int | None:
    """How much smaller than the image; None where the format only inherits a default."""
    own = [c for c in type(latent_format).__mro__[:-2] if "spacial_downscale_ratio" in vars(c)]
    return latent_format.spacial_downscale_ratio if own else None


def _vae_factor(vae: VAE) -> int | None:
    """How much larger the image is; None for 8, which is also ComfyUI's default for what it does not know."""
    factor = vae.upscale_ratio[-1] if isinstance(vae.upscale_ratio, tuple) else vae.upscale_ratio
    return None if factor == 8 else factor
