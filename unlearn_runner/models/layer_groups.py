"""Layer groups: embedding, thirds of the decoder blocks, norm and unembedding, by parameter name.

Source of the groups: G-effect (ICLR 2025, arXiv 2502.19301), whose paper cuts Llama-2-7B's layers
at 11 and 22 and whose code cuts its 32 blocks at 10 and 20. Here the cuts are thirds of the depth
unless given, and the final norm is a group of its own (the code counts it to the last block read).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from unlearn_runner.models.towers import TOWER

GROUPS = ("embed", "shallow", "middle", "deep", "norm", "lm")
"""Names of the groups, from the input to the output."""
Scope = Literal["whole", "group", "tensor"]
"""Over what inner products of gradients are taken: all trainable parameters as one vector, each
layer group, or each tensor."""

_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|wte|wpe|embed_in|word_embeddings)\.")
_OUTPUT = re.compile(r"(?:^|\.)(?:lm_head|embed_out)\.")


def layer_groups(names: Sequence[str], boundaries: tuple[int, int] | None = None) -> list[str]:
    """Returns the layer group of each parameter.

    Args:
        names: Names of parameters, as `named_parameters` has them; an adapter's belong to the
            layer that they adapt.
        boundaries: First block of `middle` and of `deep`; none: thirds, rounded down.

    Tied embeddings are one parameter and count as `embed`, as does all that a model sees with.
    """
    blocks = [_block(name) for name in names]
    depth = 1 + max((block for block in blocks if block is not None), default=0)
    middle, deep = boundaries or (depth // 3, 2 * depth // 3)
    groups = []
    for name, block in zip(names, blocks, strict=True):
        if block is not None:
            groups.append("shallow" if block < middle else "middle" if block < deep else "deep")
        elif _EMBEDDING.search(name) or TOWER.search(name):
            groups.append("embed")
        else:
            groups.append("lm" if _OUTPUT.search(name) else "norm")
    return groups


def _block(name: str) -> int | None:
    found = None if TOWER.search(name) else _BLOCK.search(name)
    return None if found is None else int(found[1])
