"""The scale of latents that a run uses: that of its MODEL; without a MODEL only what the VAE alone tells."""

from typing import Any

import torch

NOTE = "Latent scale of SD 1.5: without a MODEL it cannot be told from SDXL's. Connect 'model' for any other model."


def choose_latent_format(vae: Any, model: Any = None, name: str = "model") -> tuple[Any, str]:
    """The latent format of a run, and a note to show (empty if there is nothing to say).

    Without a MODEL, VAEs of four channels count as SD 1.5's. Wan's two autoencoders, whose statistics are the same in
    all models that use them (Qwen-Image's among them), are known by their class.

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


def check_family(latent_format: Any, vae: Any, name: str = "model") -> None:
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


def _of_vae(vae: Any) -> tuple[Any, str]:
    import comfy.ldm.wan.vae
    import comfy.ldm.wan.vae2_2

    if vae.latent_channels == 4 and vae.latent_dim == 2:
        return comfy.latent_formats.SD15(), NOTE
    if isinstance(vae.first_stage_model, comfy.ldm.wan.vae.WanVAE):
        return comfy.latent_formats.Wan21(), ""
    if isinstance(vae.first_stage_model, comfy.ldm.wan.vae2_2.WanVAE):
        return comfy.latent_formats.Wan22(), ""
    raise ValueError(
        f"The scale of this VAE's latents ({vae.latent_channels} channels) is not known: models with such a VAE "
        "scale them differently. Connect the MODEL that the input 'vae' belongs to, to 'model', or an SDS Guidance "
        "with it to 'prior'."
    )


@torch.inference_mode()
def _decoded_channels(latent_format: Any) -> int:
    """Channels of what the VAE gets; a format may fold frames into channels."""
    size = (1, 2, 2)[-latent_format.latent_dimensions :]
    return latent_format.process_out(torch.zeros(1, latent_format.latent_channels, *size)).shape[1]


def _factor(latent_format: Any) -> int | None:
    """How much smaller than the image; None where the format only inherits a default."""
    own = [c for c in type(latent_format).__mro__[:-2] if "spacial_downscale_ratio" in vars(c)]
    return latent_format.spacial_downscale_ratio if own else None


def _vae_factor(vae: Any) -> int | None:
    """How much larger the image is; None for 8, which is also ComfyUI's default for what it does not know."""
    factor = vae.upscale_ratio[-1] if isinstance(vae.upscale_ratio, tuple) else vae.upscale_ratio
    return None if factor == 8 else factor
