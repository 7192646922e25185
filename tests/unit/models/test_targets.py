"""Adapters go to the text part of a model of several modalities, by the names modules have."""

from __future__ import annotations

import pytest

from unlearn_runner.errors import DataError
from unlearn_runner.models.adapters.targets import Targets, chosen

TEXT = (
    "model.language_model.layers.0.self_attn.q_proj",
    "model.language_model.layers.0.mlp.down_proj",
    "model.layers.3.self_attn.o_proj",
    "model.layers.3.mlp.experts.2.gate_proj",
    "transformer.h.1.attn.c_attn",
    "transformer.h.1.mlp.c_fc",
    "gpt_neox.layers.0.attention.query_key_value",
)
TOWERS = (
    "model.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj",
    "model.visual.blocks.0.attn.qkv",
    "visual.merger.mlp.0",
    "model.audio_tower.layers.0.self_attn.k_proj",
    "model.embed_vision.embedding_projection",
    "model.embed_audio.embedding_projection",
    "model.multi_modal_projector.linear_1",
    "model.mm_projector.0",
    "model.connector.modality_projection.proj",
    "model.vision_embed_tokens.img_processor.encoder.layers.0.mlp.fc1",
    "model.speech_encoder.layers.0.ffn.w_1",
    "vision_model.encoder.layers.0.mlp.fc2",
)


@pytest.mark.parametrize("targets", ["all_linear", "attention", "mlp"])
def test_vision_and_audio_towers_are_left_out(targets: Targets) -> None:
    found = chosen([*TOWERS, *TEXT], targets, None, None)
    assert found
    assert set(found) <= set(TEXT)


def test_all_linear_takes_all_of_the_text_part() -> None:
    assert chosen([*TOWERS, *TEXT], "all_linear", None, None) == list(TEXT)


def test_an_expression_does_not_bring_a_tower_back() -> None:
    with pytest.raises(DataError):
        chosen(TOWERS, "all_linear", "q_proj", None)
