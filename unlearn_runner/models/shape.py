"""Small Llama-architecture models from scratch, with a tokenizer trained on the spot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from unlearn_runner.errors import ConfigError

MAX_WEIGHTS = 10**11
"""Of a model made here."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama-architecture decoder."""

    hidden_size: Annotated[int, Ge(8), Le(65536)] = 128
    intermediate_size: Annotated[int, Ge(8), Le(262144)] = 384
    num_layers: Annotated[int, Ge(1), Le(1024)] = 4
    num_heads: Annotated[int, Ge(1), Le(1024)] = 4
    tie_embeddings: bool = True
    context: Annotated[int, Ge(16), Le(1048576)] = 512
    """Longest sequence in tokens."""

    def __post_init__(self) -> None:
        each = self.hidden_size * (4 * self.hidden_size + 3 * self.intermediate_size)
        if self.num_layers * each > MAX_WEIGHTS:
            raise ConfigError(
                f"model.shape: {self.num_layers} layers of {each:.1e} weights; allowed: "
                f"{MAX_WEIGHTS:.0e} weights in all"
            )
        pairs = 2 * self.num_heads
        if self.hidden_size % pairs:
            raise ConfigError(
                f"model.shape.hidden_size={self.hidden_size} must be a multiple of twice "
                f"model.shape.num_heads={self.num_heads}: rotary positions need an even head size",
                f"model.shape.hidden_size={-(-self.hidden_size // pairs) * pairs}",
            )
