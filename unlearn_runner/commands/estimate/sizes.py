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
    biases: int = 0
    """Further weights of a layer: biases, and norms beside the usual two."""
    end_biases: int = 0
    """Further weights outside the layers."""

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
            family, vocab = config.get("model_type", ""), config["vocab_size"]
            width = config.get("intermediate_size") or config.get("n_inner") or 4 * hidden
            kv = config.get("num_key_value_heads") or heads
            head = config.get("head_dim") or hidden // heads
            projected = (heads + 2 * kv) * head
            further = {
                "phi": (projected + 2 * hidden + width, hidden + vocab),  # one norm, with a bias
                "qwen2": (projected, 0),
                "gemma2": (2 * hidden, 0),
                "llava": (0, config.get("vision_weights", 0)),
                "gpt_neo": (  # learned positions
                    4 * hidden + width,
                    hidden * (1 + config.get("max_position_embeddings", 2048)),
                ),
            }
            return cls(
                hidden,
                width,
                first("num_hidden_layers", "n_layer", "num_layers"),
                heads,
                kv,
                head,
                vocab,
                bool(config.get("tie_word_embeddings", family in ("gpt_neo", "gpt2"))),
                family not in UNGATED,
                *further.get(family, (0, 0)),
            )
        except StopIteration:
            raise KeyError("hidden_size, num_attention_heads and num_hidden_layers") from None

    @classmethod
    def of_folder(cls, folder: Path) -> Sizes:
        """Returns the sizes of a model folder."""
        return cls.of_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))

    @classmethod
    def of_name(cls, hub_id: str) -> Sizes | None:
        """Returns the sizes of a model that `conf/model` names, or none; nothing is fetched."""
        import yaml

        text = Path(__file__).with_name("shapes.yaml").read_text(encoding="utf-8")
        shape = yaml.safe_load(text).get(hub_id)
        return None if shape is None else cls.of_config(shape)

    @property
    def layer(self) -> int:
        """Weights of a decoder layer: attention, feed-forward block, two norms."""
        attention = 2 * self.hidden * self.head * (self.heads + self.kv_heads)
        mlp = (3 if self.gated else 2) * self.hidden * self.intermediate
        return attention + mlp + 2 * self.hidden + self.biases

    @property
    def ends(self) -> int:
        """Weights outside the layers: embeddings, vocabulary projection, the last norm."""
        ends = self.vocab * self.hidden * (1 if self.tied else 2)
        return ends + self.hidden + self.end_biases

    @property
    def parameters(self) -> int:
        """All weights; exact for the models that `conf/model` names.

        Of other families biases, which are a thousandth of them, are left out.
        """
        return self.layers * self.layer + self.ends

    def adapted_rows(self, attention: bool, mlp: bool) -> int:
        """Returns the output rows of the linear maps of a kind."""
        inner, kv = self.heads * self.head, self.kv_heads * self.head
        rows = (inner + 2 * kv + self.hidden) * attention
        return self.layers * (rows + ((1 + self.gated) * self.intermediate + self.hidden) * mlp)

    def adapted(self, rank: int, attention: bool, mlp: bool) -> int:
        """Returns the weights of low-rank adapters of a rank beside the linear maps of a kind."""
        inner, kv = self.heads * self.head, self.kv_heads * self.head
        count = 0
        if attention:
            count += 2 * (self.hidden + inner) + 2 * (self.hidden + kv)
        if mlp:
            count += (3 if self.gated else 2) * (self.hidden + self.intermediate)
        return rank * count * self.layers
