"""The vision tower against transformers' own."""

import pytest
import torch


@pytest.fixture
def pixels():
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_tower_and_norm_are_those_of_transformers(blip2, pixels):
    from transformers import Blip2VisionConfig, Blip2VisionModel

    c = blip2.config
    theirs = Blip2VisionModel(
        Blip2VisionConfig(
            hidden_size=c.vision_dim,
            intermediate_size=c.vision_mlp_dim,
            num_hidden_layers=c.vision_depth,
            num_attention_heads=c.vision_heads,
            image_size=c.image_size,
            patch_size=c.patch_size,
        )
    )
    theirs = theirs.double().eval()
    theirs.post_layernorm.eps = 1e-5  # LAVIS's value; transformers' own is 1e-6
    state = {}
    for name, value in blip2.vision.state_dict().items():
        if "q_bias" in name:
            v_bias = blip2.vision.state_dict()[name.replace("q_bias", "v_bias")]
            name, value = name.replace("q_bias", "qkv.bias"), torch.cat([value, torch.zeros_like(value), v_bias])
        for ours, other in (
            ("patch_embed", "embeddings.patch_embedding"),
            ("cls_token", "embeddings.class_embedding"),
            ("pos_embed", "embeddings.position_embedding"),
            ("blocks.", "encoder.layers."),
            (".attn.proj.", ".self_attn.projection."),
            (".attn.", ".self_attn."),
            (".norm", ".layer_norm"),
        ):
            name = name.replace(ours, other)
        if not name.endswith("v_bias"):
            state[name] = value
    state |= {f"post_layernorm.{name}": value for name, value in blip2.vision_norm.state_dict().items()}
    theirs.load_state_dict(state)
    tokens = blip2.vision_norm(blip2.vision(pixels))
    assert tokens.shape == (3, 1 + 4, c.vision_dim)
    torch.testing.assert_close(tokens, theirs(pixels).last_hidden_state, rtol=1e-9, atol=1e-9)


def test_checkpointing_changes_neither_tokens_nor_gradient(blip2, pixels):
    results = []
    for blip2.vision.checkpointing in (False, True):
        leaf = pixels.clone().requires_grad_()
        tokens = blip2.vision(leaf)
        results.append((tokens, *torch.autograd.grad(tokens.sin().sum(), leaf)))
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_checkpointing_keeps_less_for_the_backward_pass(blip2, pixels):
    def kept(checkpointing):
        sizes = []
        blip2.requires_grad_(False).vision.checkpointing = checkpointing
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()), lambda _: None):
            blip2.vision(pixels.clone().requires_grad_())
        return sum(sizes)

    assert kept(True) < kept(False) / 2
