"""The Q-Former against transformers' own."""

import pytest
import torch

from referee_core.referees.blip2.model import match_mask

NAMES = (
    ("layers.", "encoder.layer."),
    (".attention.norm", ".attention.output.LayerNorm"),
    (".attention.out.", ".attention.output.dense."),
    *((f".attention.{name}.", f".attention.attention.{name}.") for name in ("query", "key", "value")),
    (".cross_attention.norm", ".crossattention.output.LayerNorm"),
    (".cross_attention.out.", ".crossattention.output.dense."),
    (".cross_attention.", ".crossattention.attention."),
    (".query_mlp.fc1", ".intermediate_query.dense"),
    (".query_mlp.fc2", ".output_query.dense"),
    (".query_mlp.norm", ".output_query.LayerNorm"),
    (".text_mlp.fc1", ".intermediate.dense"),
    (".text_mlp.fc2", ".output.dense"),
    (".text_mlp.norm", ".output.LayerNorm"),
)


@pytest.fixture
def theirs(blip2):
    """Transformers' Q-Former with the same weights; it takes embedded text, so embeddings and queries stay ours."""
    from transformers import Blip2QFormerConfig, Blip2QFormerModel

    c = blip2.config
    model = Blip2QFormerModel(
        Blip2QFormerConfig(
            vocab_size=c.vocab_size,
            hidden_size=c.dim,
            num_hidden_layers=c.layers,
            num_attention_heads=c.heads,
            intermediate_size=c.mlp_dim,
            max_position_embeddings=c.max_positions,
            cross_attention_frequency=c.cross_attention_every,
            encoder_hidden_size=c.vision_dim,
            use_qformer_text_input=True,
        )
    )
    state = {f"layernorm.{name}": value for name, value in blip2.qformer.norm.state_dict().items()}
    for name, value in blip2.qformer.layers.state_dict(prefix="layers.").items():
        for ours, other in NAMES:
            name = name.replace(ours, other)
        state[name] = value
    model.double().load_state_dict(state)
    return model.eval()


def test_a_bidirectional_pass_is_that_of_transformers(blip2, theirs):
    ours, generator = blip2.qformer, torch.Generator().manual_seed(0)
    ids = torch.randint(6, blip2.config.vocab_size, (2, 7), generator=generator)
    visible = torch.arange(7) < torch.tensor([[7], [4]])
    image_tokens = torch.randn(2, 5, blip2.config.vision_dim, generator=generator, dtype=torch.float64)
    hidden = ours(ids, match_mask(visible, ours.queries), ours.image_keys_values(image_tokens))
    text = ours.word_embeddings(ids) + ours.position_embeddings.weight[:7]
    expected = theirs(
        query_embeds=torch.cat([ours.query_tokens.expand(2, -1, -1), text], dim=1),
        query_length=ours.queries,
        attention_mask=torch.cat([torch.ones(2, ours.queries, dtype=torch.long), visible.long()], dim=1),
        encoder_hidden_states=image_tokens,
    ).last_hidden_state
    real = torch.cat([torch.ones(2, ours.queries, dtype=torch.bool), visible], dim=1)
    torch.testing.assert_close(hidden[real], expected[real], rtol=1e-9, atol=1e-9)


def test_only_every_second_layer_reads_the_image(blip2):
    tokens = torch.randn(1, 5, blip2.config.vision_dim, dtype=torch.float64)
    assert [kv is not None for kv in blip2.qformer.image_keys_values(tokens)] == [True, False, True]
