"""The demo's networks as ComfyUI's own MODEL, CLIP and VAE objects."""

import comfy.latent_formats
import comfy.model_base
import comfy.model_management as mm
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.utils
import torch

from ....referee_core.demo.models import MAX_TEXT_TOKENS, NORM_GROUPS, TEXT_ENCODER, UNET, VAE, VOCABULARY
from ....referee_core.demo.storage import load
from ....referee_core.methods.referee_can_play import LoopSettings
from ....referee_core.referees.blip2.text import Tokenizer
from ...sockets import LoadedPrior

START, END = TEXT_ENCODER["bos_token_id"], TEXT_ENCODER["eos_token_id"]


def _set_groups(module: torch.nn.Module) -> None:
    """ComfyUI's networks have 32 groups in each norm; the demo's are too narrow for that."""
    for part in module.modules():
        if isinstance(part, torch.nn.GroupNorm):
            part.num_groups = NORM_GROUPS


class DemoModelConfig(comfy.supported_models_base.BASE):
    """SD 1.5's kind of model, narrower: eps-prediction, SD's noise schedule and latent scale."""

    unet_extra_config = {"num_heads": UNET["attention_head_dim"], "num_head_channels": -1}
    latent_format = comfy.latent_formats.SD15
    supported_inference_dtypes = [torch.float32]
    memory_usage_factor = 1.0


def load_model() -> comfy.model_patcher.ModelPatcher:
    width, levels = UNET["block_out_channels"][0], len(UNET["block_out_channels"])
    blocks = UNET["layers_per_block"]
    config = {
        "image_size": UNET["sample_size"],
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": width,
        "num_res_blocks": [blocks] * levels,
        "channel_mult": [c // width for c in UNET["block_out_channels"]],
        "transformer_depth": [1] * blocks * levels,
        "transformer_depth_output": [1] * (blocks + 1) * levels,
        "transformer_depth_middle": 1,
        "context_dim": UNET["cross_attention_dim"],
        "use_spatial_transformer": True,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
        "legacy": False,
        "dtype": torch.float32,
    }
    names = comfy.utils.unet_to_diffusers(config)
    model = comfy.model_base.BaseModel(DemoModelConfig(config), device=mm.unet_offload_device())
    _set_groups(model.diffusion_model)
    state = {names[k]: v for k, v in load("unet").items()}
    model.diffusion_model.load_state_dict(state)
    return comfy.model_patcher.ModelPatcher(model, mm.get_torch_device(), mm.unet_offload_device())


def load_vae() -> comfy.sd.VAE:
    width = VAE["block_out_channels"][0]
    config = {
        "embed_dim": VAE["latent_channels"],
        "ddconfig": {
            "double_z": True,
            "z_channels": VAE["latent_channels"],
            "resolution": VAE["sample_size"],
            "in_channels": 3,
            "out_ch": 3,
            "ch": width,
            "ch_mult": [c // width for c in VAE["block_out_channels"]],
            "num_res_blocks": VAE["layers_per_block"],
            "attn_resolutions": [],
            "dropout": 0.0,
        },
    }
    vae = comfy.sd.VAE(sd=load("vae"), config={"params": config}, dtype=torch.float32)
    _set_groups(vae.first_stage_model)
    vae.first_stage_model.is_referee_demo = True
    vae.patcher = comfy.model_patcher.ModelPatcher(vae.first_stage_model, vae.device, mm.vae_offload_device())
    return vae


def demo_note(vae: comfy.sd.VAE, prior: LoadedPrior | None, settings: LoopSettings) -> str:
    """What to tell a user who runs the demo's models with the values of full-size ones; "" if there is nothing."""
    suits = settings.lr.start <= 0.5 and (prior is None or prior.cfg <= 10)
    if suits or not getattr(vae.first_stage_model, "is_referee_demo", False):
        return ""
    return (
        "these are the pack's small models and the values of SD 1.5, which leave little of a picture here: take those "
        "of the template 'Referee - 13 Optimizer, quick demo' (cfg 3, weight 2000, lr 0.2, lr_end 0.05, noise 0.05)"
    )


class WordTokenizer:
    """The demo's words in the shape of the tokenizer that ComfyUI's SDTokenizer drives."""

    def __init__(self):
        self.engine = Tokenizer(VOCABULARY, MAX_TEXT_TOKENS)

    @classmethod
    def from_pretrained(cls, path: str) -> "WordTokenizer":
        return cls()

    def __call__(self, text: str) -> dict:
        return {"input_ids": [START, *self.engine.words(text)[0], END]}

    def get_vocab(self) -> dict[str, int]:
        return self.engine.ids


class DemoTokenizer(comfy.sd1_clip.SDTokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(
            max_length=MAX_TEXT_TOKENS,
            embedding_directory=embedding_directory,
            embedding_size=TEXT_ENCODER["hidden_size"],
            tokenizer_class=WordTokenizer,
            tokenizer_data=tokenizer_data or {},
        )


class DemoPromptTokenizer(comfy.sd1_clip.SD1Tokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(embedding_directory, tokenizer_data or {}, tokenizer=DemoTokenizer)


class DemoTextModel(comfy.sd1_clip.SDClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(
            device=device,
            max_length=MAX_TEXT_TOKENS,
            textmodel_json_config=dict(TEXT_ENCODER),
            dtype=dtype,
            special_tokens={"start": START, "end": END, "pad": END},
            return_projected_pooled=False,
            model_options={k: v for k, v in (model_options or {}).items() if k != "model_name"},
        )
        words = self.operations.Embedding(len(VOCABULARY), TEXT_ENCODER["hidden_size"], dtype=dtype, device=device)
        self.transformer.text_model.embeddings.token_embedding = words  # ComfyUI's own has CLIP's 49408 rows


class DemoClipModel(comfy.sd1_clip.SD1ClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(device=device, dtype=dtype, model_options=model_options or {}, clip_model=DemoTextModel)


def load_clip() -> comfy.sd.CLIP:
    target = comfy.supported_models_base.ClipTarget(DemoPromptTokenizer, DemoClipModel)
    clip = comfy.sd.CLIP(target, model_options={"dtype": torch.float32}, disable_dynamic=True)
    state = {f"clip_l.transformer.{k}": v for k, v in load("text_encoder").items()}
    missing, surplus = clip.cond_stage_model.load_state_dict(state, strict=False)
    unset = [k for k in missing if not k.endswith(("logit_scale", "text_projection.weight"))]
    if unset or surplus:
        raise ValueError(f"the demo's text encoder does not fit: missing {unset}, surplus {surplus}")
    return clip
