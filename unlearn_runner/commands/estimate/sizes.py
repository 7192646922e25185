"""How large a model is, before it is loaded: from its configuration alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNGATED = ("phi", "gpt_neox", "gpt_neo", "gpt2")
"""Families whose feed-forward block has two matrices instead of three."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a decoder-only model."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    vocab: int
    tied: bool
    gated: bool = True

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Sizes:
        """Returns the sizes that a `config.json` names, in any family's words.

        Raises:
            KeyError: If it names none.
        """

        def first(*names: str) -> Any:
            return next(config[name] for name in names if config.get(name) is not None)

        try:
            hidden = first("hidden_size", "n_embd")
            heads = first("num_attention_heads", "n_head", "num_heads")
            family = config.get("model_type", "")
            return cls(
                hidden,
                config.get("intermediate_size") or config.get("n_inner") or 4 * hidden,
                first("num_hidden_layers", "n_layer", "num_layers"),
                heads,
                config.get("num_key_value_heads") or heads,
                config.get("head_dim") or hidden // heads,
                config["vocab_size"],
                bool(config.get("tie_word_embeddings", family in ("gpt_neo", "gpt2"))),
                family not in UNGATED,
            )
        except StopIteration:
            raise KeyError("hidden_size, num_attention_heads and num_hidden_layers") from None

    @classmethod
    def of_folder(cls, folder: Path) -> Sizes:
        """Returns the sizes of a model folder."""
        return cls.of_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))

    @property
    def layer(self) -> int:
        """Weights of a decoder layer: attention, feed-forward block, two norms."""
        attention = 2 * self.hidden * self.head * (self.heads + self.kv_heads)
        mlp = (3 if self.gated else 2) * self.hidden * self.intermediate
        return attention + mlp + 2 * self.hidden

    @property
    def ends(self) -> int:
        """Weights outside the layers: embeddings, vocabulary projection, the last norm."""
        return self.vocab * self.hidden * (1 if self.tied else 2) + self.hidden

    @property
    def parameters(self) -> int:
        """All weights; biases, which are a thousandth of them, left out."""
        return self.layers * self.layer + self.ends

    def adapted(self, rank: int, attention: bool, mlp: bool) -> int:
        """Returns the weights of low-rank adapters of a rank beside the linear maps of a kind."""
        inner, kv = self.heads * self.head, self.kv_heads * self.head
        count = 0
        if attention:
            count += 2 * (self.hidden + inner) + 2 * (self.hidden + kv)
        if mlp:
            count += (3 if self.gated else 2) * (self.hidden + self.intermediate)
        return rank * count * self.layers
