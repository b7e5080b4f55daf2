"""The model files that the example graphs need: where they come from, and what the graphs say of them."""

from collections.abc import Iterable

CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
CHECKPOINT_PAGE = "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive"
REFEREE = "model.safetensors"
REFEREE_PAGE = "https://huggingface.co/Salesforce/blip2-itm-vit-g"
FLUX = {
    "flux1-dev.safetensors": ("https://huggingface.co/Comfy-Org/flux1-dev", "diffusion_models", ""),
    "clip_l.safetensors": ("https://huggingface.co/comfyanonymous/flux_text_encoders", "text_encoders", ""),
    "t5xxl_fp16.safetensors": ("https://huggingface.co/comfyanonymous/flux_text_encoders", "text_encoders", ""),
    "ae.safetensors": ("https://huggingface.co/Comfy-Org/Lumina_Image_2.0_Repackaged", "vae", "split_files/vae/"),
}
SDXL = {
    "sd_xl_base_1.0.safetensors": ("https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0", "checkpoints", "")
}
QWEN_PAGE = "https://huggingface.co/Comfy-Org/Qwen-Image_ComfyUI"
QWEN = {
    "qwen_image_fp8_e4m3fn.safetensors": (QWEN_PAGE, "diffusion_models", "split_files/diffusion_models/"),
    "qwen_2.5_vl_7b_fp8_scaled.safetensors": (QWEN_PAGE, "text_encoders", "split_files/text_encoders/"),
    "qwen_image_vae.safetensors": (QWEN_PAGE, "vae", "split_files/vae/"),
}
Z_IMAGE_PAGE = "https://huggingface.co/Comfy-Org/z_image_turbo"
Z_IMAGE = {
    "z_image_turbo_bf16.safetensors": (Z_IMAGE_PAGE, "diffusion_models", "split_files/diffusion_models/"),
    "qwen_3_4b.safetensors": (Z_IMAGE_PAGE, "text_encoders", "split_files/text_encoders/"),
    "ae.safetensors": FLUX["ae.safetensors"],
}
KREA_PAGE = "https://huggingface.co/Comfy-Org/Krea-2"
VISION_LANGUAGE = {"qwen3vl_4b_fp8_scaled.safetensors": (KREA_PAGE, "text_encoders", "text_encoders/")}
KREA = {
    "krea2_turbo_fp8_scaled.safetensors": (KREA_PAGE, "diffusion_models", "diffusion_models/"),
    **VISION_LANGUAGE,
    "qwen_image_vae.safetensors": QWEN["qwen_image_vae.safetensors"],
}
FILES_OF = FLUX | SDXL | QWEN | Z_IMAGE | KREA
"""By name: page, folder of ComfyUI's models, folder on the page."""
SIZES = {
    "sd_xl_base_1.0.safetensors": "7 GB",
    "z_image_turbo_bf16.safetensors": "12 GB",
    "qwen_3_4b.safetensors": "8 GB",
    "ae.safetensors": "0.3 GB",
    "krea2_turbo_fp8_scaled.safetensors": "13 GB",
    "qwen3vl_4b_fp8_scaled.safetensors": "5 GB",
    "qwen_image_vae.safetensors": "0.3 GB",
}
CAPTION_HEAD = "https://storage.googleapis.com/sfr-vision-language-research/LAVIS/models/BLIP2/blip2_pretrained.pth"


def downloads(page: str, name: str, directory: str, folder: str = "") -> list[dict]:
    """What a loader's ``properties.models`` says, so that the editor offers a missing file."""
    return [{"name": name, "url": f"{page}/resolve/main/{folder}{name}", "directory": directory}]


def files(*names: str) -> list[dict]:
    return [entry for name in names for entry in downloads(FILES_OF[name][0], name, *FILES_OF[name][1:])]


def listed(title: str, names: Iterable[str]) -> str:
    """The files for a note, a line each."""
    return "\n".join(["\nThe editor offers what is missing when the graph opens.\n", *list_files(title, names), ""])


def list_files(title: str, names: Iterable[str]) -> list[str]:
    sizes = {name: f", {SIZES[name]}" if name in SIZES else "" for name in names}
    return [
        f"- **{title}**, [{name}]({FILES_OF[name][0]}){size}, into `models/{FILES_OF[name][1]}`"
        for name, size in sizes.items()
    ]


FILES = f"""
The editor offers what is missing when the graph opens. Or, in ComfyUI's folder:

- **Stable Diffusion 1.5**, [{CHECKPOINT}]({CHECKPOINT_PAGE}), 2 GB:
`hf download {CHECKPOINT_PAGE.split(".co/")[1]} {CHECKPOINT} --local-dir models/checkpoints`
"""
REFEREE_FILES = f"""- **BLIP-2**, [{REFEREE}]({REFEREE_PAGE}), 4.7 GB, for matching:
`hf download {REFEREE_PAGE.split(".co/")[1]} {REFEREE} --local-dir models/referee`
- For captioning too, as in the paper: [blip2_pretrained.pth]({CAPTION_HEAD}) from LAVIS, 0.7 GB, beside it. Then set
*caption_weight* of Referee Loss to 1.
`curl -L -o models/referee/blip2_pretrained.pth {CAPTION_HEAD}`
"""
REFRESH = "\nThen press **R** in the editor, and the loaders list them."
