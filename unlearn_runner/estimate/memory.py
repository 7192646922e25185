"""Peak memory of a training step, from sizes alone; `docs/scaling.md` derives the formulas.

All numbers are bytes of tensors on one rank. What a framework keeps beside them (the CUDA context,
the allocator's rounding) is not counted; a GPU needs about 1 GB more.
"""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_runner.estimate.sizes import Sizes

BYTES = {"float32": 4, "bf16": 4, "float64": 8}
"""Of a trained weight: bf16 is how a forward pass computes, never how masters are stored."""


@dataclass(frozen=True)
class Work:
    """One rank's largest micro-batch."""

    rows: int
    length: int
    """Tokens of the longest row."""
    scored: int
    """Answer tokens of all rows together."""

    @property
    def tokens(self) -> int:
        """Tokens computed with, padding included."""
        return self.rows * self.length


@dataclass(frozen=True)
class Setting:
    """What else memory depends on."""

    trained: int
    """Trained weights of the whole model."""
    frozen: int = 0
    precision: str = "float32"
    frozen_bytes: int = 4
    groups: int = 1
    """Gradients that a rectifier keeps apart."""
    kept: int = 0
    """Gradients that it remembers between steps."""
    passes: int = 1
    """Backward passes of the last group: more than one accumulate."""
    held: bool = False
    """Whether a start model is held beside the trained one."""
    over_vocabulary: int = 2
    """Tensors of [scored tokens, vocabulary] that are alive at once in a loss."""
    shards: int = 1
    """Ranks that share a model in pieces; 1 where each has all of it."""
    gathers: bool = False
    """Whether layers are gathered while they compute (fsdp2)."""
    checkpointing: bool = False
    dropout: bool = False
    """Whether adapters drop part of their input."""


@dataclass(frozen=True)
class Peak:
    """Bytes of one rank, by what they are for."""

    weights: int
    moments: int
    memory: int
    """What a rectifier remembers."""
    gradients: int
    start: int
    activations: int
    logits: int
    gathered: int
    """Whole layers and copies in bf16."""

    @property
    def total(self) -> int:
        """The sum."""
        return sum(vars(self).values())


def peak(sizes: Sizes, work: Work, setting: Setting) -> Peak:
    """Returns the bytes at a step's fullest moment, after the first step.

    It is one of two moments of the last group's backward pass: its beginning, when all activations
    are there (and, where passes accumulate, a whole gradient), or its end, when the gradient is.
    """
    number = BYTES[setting.precision]
    share = 1 / setting.shards
    one = int(setting.trained * number * share)
    activations, logits = _activations(sizes, work, setting), _logits(sizes, work, setting)
    before = setting.groups - 1 + (setting.passes > 1)
    widest = 0 if setting.frozen else int(number * sizes.vocab * sizes.hidden * share)
    # The projection's gradient comes first. Of tied embeddings it waits for the embedding's at the
    # very end, and for their sum; where passes accumulate, none of them is the one that stays.
    beginning = (before * one + widest, activations, logits)
    copies = (2 if sizes.tied else 0) + (setting.passes > 1)
    end = (setting.groups * one + copies * widest, 0, 0)
    gradients, activations, logits = max(beginning, end, key=sum)
    start = int((setting.trained + setting.frozen) * number * share) if setting.held else 0
    return Peak(
        weights=int((setting.trained * number + setting.frozen * setting.frozen_bytes) * share),
        moments=2 * one,
        memory=setting.kept * one,
        gradients=gradients,
        start=start,
        activations=activations,
        logits=logits,
        gathered=_gathered(sizes, setting),
    )


def _activations(sizes: Sizes, work: Work, setting: Setting) -> int:
    """Returns what the layers keep for the backward pass.

    Per token and layer: the inputs of both norms and their normalised values (float32 always), the
    norms' results, queries, keys, values, the attention's result; the feed-forward block's two or
    four tensors of the intermediate width.
    """
    wide = BYTES[setting.precision]
    narrow = 2 if setting.precision == "bf16" else wide
    inner, kv = sizes.heads * sizes.head, sizes.kv_heads * sizes.head
    expanded = 2 * inner if sizes.kv_heads < sizes.heads else 2 * kv
    feed = (4 if sizes.gated else 2) * sizes.intermediate
    layer = 4 * sizes.hidden * wide + narrow * (2 * sizes.hidden + 2 * inner + expanded + feed)
    if setting.dropout:
        # Each adapter draws its own: what is left of its input, in float32, and a mask.
        maps = (2 if sizes.gated else 1) * sizes.hidden + sizes.intermediate
        layer += (wide + 1) * (3 * sizes.hidden + inner + maps)
    if setting.checkpointing:
        return work.tokens * (sizes.layers * sizes.hidden * wide + layer)
    return work.tokens * sizes.layers * layer


def _logits(sizes: Sizes, work: Work, setting: Setting) -> int:
    number = 8 if setting.precision == "float64" else 4
    extra = 2 if setting.precision == "bf16" else 0
    return work.scored * sizes.vocab * (setting.over_vocabulary * number + extra)


def _gathered(sizes: Sizes, setting: Setting) -> int:
    if setting.gathers:
        number = 2 if setting.precision == "bf16" else BYTES[setting.precision]
        # This layer and the next, the ends, and one layer's whole gradient before it is scattered.
        return number * (2 * sizes.layer + sizes.ends) + BYTES[setting.precision] * sizes.layer
    # Autocast keeps a bf16 copy of every matrix for the backward pass.
    if setting.precision != "bf16":
        return 0
    return 2 * (setting.trained + (setting.frozen if setting.frozen_bytes > 2 else 0))
