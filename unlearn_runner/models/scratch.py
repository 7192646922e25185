"""Small Llama-architecture models from scratch, with a tokenizer trained on the spot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge

from unlearn_runner.errors import ConfigError
from unlearn_runner.models.base import Model
from unlearn_runner.training.recipe import Recipe


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama-architecture decoder."""

    hidden_size: Annotated[int, Ge(8)] = 128
    intermediate_size: Annotated[int, Ge(8)] = 384
    num_layers: Annotated[int, Ge(1)] = 4
    num_heads: Annotated[int, Ge(1)] = 4
    tie_embeddings: bool = True
    context: Annotated[int, Ge(16)] = 512
    """Longest sequence in tokens."""

    def __post_init__(self) -> None:
        pairs = 2 * self.num_heads
        if self.hidden_size % pairs:
            raise ConfigError(
                f"model.shape.hidden_size={self.hidden_size} must be a multiple of twice "
                f"model.shape.num_heads={self.num_heads}: rotary positions need an even head size",
                f"model.shape.hidden_size={-(-self.hidden_size // pairs) * pairs}",
            )


@dataclass(frozen=True)
class Scratch(Model):
    """A from-scratch model: random weights, byte-level BPE, a short pre-training."""

    shape: Shape = field(default_factory=Shape)
    vocab_size: Annotated[int, Ge(300)] = 2048
    """Byte-level BPE needs 256 bytes and two special tokens before its first merge."""
    pretrain: Recipe = field(default_factory=Recipe)
    rehearse: bool = True
    """Mix the pre-training rows into fine-tuning: a model this small has no room of its own for
    what it learned first and would forget it within an epoch."""
