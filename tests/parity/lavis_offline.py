"""LAVIS 1.0.2's own BLIP-2 stage-1 model, unmodified, at any size and without a network. Runs in LAVIS's environment
only.

The environment (Python 3.11): pip install --no-deps torch==2.13.0 transformers==4.26.1 timm==0.4.12
salesforce-lavis==1.0.2, then "numpy<2" filelock typing_extensions sympy networkx jinja2 fsspec "tokenizers<0.14"
"huggingface-hub<0.26" regex requests pyyaml packaging tqdm omegaconf iopath safetensors pillow.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types
from functools import partial
from pathlib import Path

import torch

OPTIONAL = ("fairscale", "torchvision", "pandas", "cv2", "decord")  # imported by LAVIS, of no use to this model
PACKAGES = ("lavis", "lavis.models", "lavis.processors", "lavis.models.blip_models")
WORDS = (
    "[PAD] [unused0] [UNK] [CLS] [SEP] [MASK] a an the red green blue cat dog on of and with photo sitting under "
    "table big small two ##s ##ing house tree at sea ' - , ?"
).split()


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for modules that are not installed: any attribute is an empty class."""

    def __init__(self, roots):
        self.roots = roots

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.roots:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__path__ = []
        module.__getattr__ = lambda name: type(name, (), {})
        return module

    def exec_module(self, module):
        pass


def prepare() -> None:
    """Make LAVIS's model files importable without its tasks and data sets."""
    import transformers.models.bert.modeling_bert  # noqa: F401  (looks at what is installed, so before the stand-ins)

    sys.meta_path.append(Absent([name for name in OPTIONAL if importlib.util.find_spec(name) is None]))
    root = importlib.util.find_spec("lavis").submodule_search_locations[0]
    for package in PACKAGES:
        module = types.ModuleType(package)
        module.__path__ = [os.path.join(root, *package.split(".")[1:])]
        sys.modules[package] = module
    from lavis.models.base_model import BaseModel
    from lavis.processors.base_processor import BaseProcessor

    sys.modules["lavis.models"].BaseModel = BaseModel
    sys.modules["lavis.processors"].BaseProcessor = BaseProcessor


def build(sizes: dict, vocabulary: Path, seed: int) -> torch.nn.Module:
    """A Blip2ITM in which no parameter is trivial. What would be downloaded is made from ``sizes`` instead."""
    import lavis.models.blip2_models.blip2 as blip2
    import lavis.models.blip2_models.Qformer as qformer
    import lavis.models.eva_vit as eva_vit
    from lavis.models.blip2_models.blip2_image_text_matching import Blip2ITM
    from transformers import BertTokenizer

    vocabulary.write_text("\n".join(WORDS) + "\n")

    class Words(BertTokenizer):
        @classmethod
        def from_pretrained(cls, name, **options):
            return BertTokenizer(str(vocabulary), do_lower_case=True, model_max_length=512, **options)

    class Sizes(qformer.BertConfig):
        @classmethod
        def from_pretrained(cls, name, **options):
            return qformer.BertConfig(
                vocab_size=len(WORDS),
                hidden_size=sizes["dim"],
                num_hidden_layers=sizes["layers"],
                num_attention_heads=sizes["heads"],
                intermediate_size=sizes["mlp_dim"],
                max_position_embeddings=sizes["max_positions"],
            )

    class Bert(qformer.BertLMHeadModel):
        @classmethod
        def from_pretrained(cls, name, config):
            model = qformer.BertLMHeadModel(config)
            model.tie_weights()
            return model

    def tower(image_size, *_):
        return eva_vit.VisionTransformer(
            img_size=image_size,
            patch_size=sizes["patch_size"],
            embed_dim=sizes["vision_dim"],
            depth=sizes["vision_depth"],
            num_heads=sizes["vision_heads"],
            mlp_ratio=sizes["vision_mlp_dim"] / sizes["vision_dim"],
            qkv_bias=True,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        )

    blip2.BertTokenizer, blip2.BertConfig, blip2.BertLMHeadModel, blip2.create_eva_vit_g = Words, Sizes, Bert, tower
    model = Blip2ITM(
        img_size=sizes["image_size"],
        vit_precision="fp32",
        num_query_token=sizes["queries"],
        cross_attention_freq=sizes["cross_attention_every"],
        embed_dim=8,
        max_txt_len=sizes["max_text_tokens"],
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if name == "temp":
                continue
            if "norm" in name.lower() or name.startswith("ln_vision"):
                p.copy_(0.2 * noise + name.endswith("weight"))
            elif p.ndim == 1:
                p.copy_(0.2 * noise)
            elif "embed" in name or "token" in name:
                p.copy_(0.5 * noise)
            else:
                p.copy_(1.5 * noise / p[0].numel() ** 0.5)
    return model.eval()


def in_double(model: torch.nn.Module) -> torch.nn.Module:
    """The model in float64. LAVIS casts to float32 in two places; from here on these casts mean float64."""
    model = model.double()
    norm = torch.nn.LayerNorm(model.ln_vision.normalized_shape, eps=model.ln_vision.eps).double()
    norm.load_state_dict(model.ln_vision.state_dict())
    model.ln_vision = norm
    torch.Tensor.float = torch.Tensor.double
    return model
