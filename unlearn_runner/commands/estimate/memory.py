"""Peak memory of a training step, from sizes alone; `docs/scaling.md` derives the formulas.

All numbers are bytes of tensors on one rank. What a framework keeps beside them (the CUDA context,
the allocator's rounding) is not counted; a GPU needs about 1 GB more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from unlearn_runner.commands.estimate.sizes import Sizes


@dataclass(frozen=True)
class LargestBatch:
    """One rank's largest micro-batch."""

    rows: int
    length: int
    """Tokens of the longest row."""
    scored: int
    """Answer tokens of all rows together."""
    other_length: int = 0
    """The same of the other answers, where a preference compares both: 0 where none does."""
    other_scored: int = 0

    @property
    def tokens(self) -> int:
        """Tokens computed with, padding included."""
        return self.rows * self.length

    @property
    def compared(self) -> int:
        """Tokens of the other answers' rows, whose graph is there at the same time."""
        return self.rows * self.other_length


@dataclass(frozen=True)
class Setting:
    """What else memory depends on."""

    trained: int
    """Trained weights of the whole model."""
    frozen: int = 0
    precision: str = "float32"
    frozen_bytes: float = 4
    groups: int = 1
    """Gradients that a rectifier keeps apart."""
    kept: int = 0
    """Gradients that it remembers between steps."""
    passes: int = 1
    """Backward passes of the last group: more than one accumulate."""
    compared_after: int = 0
    """Gradients that are there when a preference's first backward pass begins at the latest."""
    holds_start_model: bool = False
    """Whether a start model is held beside the trained one."""
    over_vocabulary: int = 2
    """Tensors of [scored tokens, vocabulary] that are alive at once in a loss."""
    shards: int = 1
    """Ranks that share a model in pieces; 1 where each has all of it."""
    gathers: bool = False
    """Whether layers are gathered while they compute (fsdp2)."""
    offload: bool = False
    """Whether weights, moments and gradients lie in host memory."""
    checkpointing: bool = False
    dropout: bool = False
    """Whether adapters drop part of their input."""

    @property
    def stored(self) -> int:
        """Bytes of a trained weight: bf16 is how a pass computes, never how masters are stored."""
        return 8 if self.precision == "float64" else 4

    @property
    def computed(self) -> int:
        """Bytes of a number that a forward pass computes with."""
        return 2 if self.precision == "bf16" else self.stored


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
    host: int = 0
    """What lies in host memory instead of the device's."""

    @property
    def total(self) -> int:
        """The sum on the device."""
        return sum(vars(self).values()) - self.host


def peak(sizes: Sizes, work: LargestBatch, setting: Setting) -> Peak:
    """Returns the bytes at a step's fullest moment, after the first step."""
    number = setting.stored
    share = 1 / setting.shards
    one = int(setting.trained * number * share)
    moments = _moments(sizes, work, setting, one)
    # Gradients that lie elsewhere do not make a moment fuller.
    fullest = max(moments, key=lambda parts: sum(parts[1:] if setting.offload else parts))
    gradients, activations, logits = fullest
    start = setting.trained + setting.frozen if setting.holds_start_model else 0
    held = {
        "weights": int((setting.trained * number + setting.frozen * setting.frozen_bytes) * share),
        "moments": 2 * one,
        "memory": setting.kept * one,
        "gradients": gradients,
        "start": int(start * number * share),
    }
    host = 0
    if setting.offload:
        host = sum({**held, "gradients": max(parts[0] for parts in moments)}.values())
        held = dict.fromkeys(held, 0)
    gathered = _gathered(sizes, setting)
    return Peak(**held, activations=activations, logits=logits, gathered=gathered, host=host)


def _moments(
    sizes: Sizes, work: LargestBatch, setting: Setting, one: int
) -> list[tuple[int, int, int]]:
    """Returns gradients, activations and logits of the moments that may be the fullest.

    The beginning of a backward pass, when all activations are there (and, where passes accumulate,
    a whole gradient), that of a preference, which compares two answers and has two graphs, and the
    end of the last backward pass, when the gradient is.
    `one` is the bytes of a gradient.
    """
    widest = (
        0 if setting.frozen else int(setting.stored * sizes.vocab * sizes.hidden / setting.shards)
    )
    # The projection's gradient comes first. Of tied embeddings it waits for the embedding's at the
    # very end, and for their sum; where passes accumulate, none of them is the one that stays.
    copies = (2 if sizes.tied else 0) + (setting.passes > 1)
    before = setting.groups - 1 + (setting.passes > 1)
    beginnings = [(before, replace(work, other_length=0, other_scored=0))]
    if work.other_length:
        beginnings.append((setting.compared_after, work))
    return [
        (setting.groups * one + copies * widest, 0, 0),
        *(
            (n * one + widest, _activations(sizes, w, setting), _logits(sizes, w, setting))
            for n, w in beginnings
        ),
    ]


def _activations(sizes: Sizes, work: LargestBatch, setting: Setting) -> int:
    """Returns what the layers keep for the backward pass.

    Per token and layer: the inputs of both norms and their normalised values (float32 always), the
    norms' results, queries, keys, values, the attention's result; the feed-forward block's two or
    four tensors of the intermediate width.
    """
    wide, narrow = setting.stored, setting.computed
    inner, kv = sizes.heads * sizes.head, sizes.kv_heads * sizes.head
    expanded = 2 * inner if sizes.kv_heads < sizes.heads else 2 * kv
    feed = (4 if sizes.gated else 2) * sizes.intermediate
    layer = 4 * sizes.hidden * wide + narrow * (2 * sizes.hidden + 2 * inner + expanded + feed)
    if setting.dropout:
        # Each adapter draws its own: what is left of its input, in float32, and a mask.
        maps = (2 if sizes.gated else 1) * sizes.hidden + sizes.intermediate
        layer += (wide + 1) * (3 * sizes.hidden + inner + maps)
    tokens = work.tokens + work.compared
    if setting.checkpointing:
        # One layer is computed again at a time, of one of both graphs.
        again = max(work.tokens, work.compared)
        return tokens * sizes.layers * sizes.hidden * wide + again * layer
    return tokens * sizes.layers * layer


def _logits(sizes: Sizes, work: LargestBatch, setting: Setting) -> int:
    number = setting.stored
    extra = 2 if setting.precision == "bf16" else 0
    # Of two graphs, one is computed with; of the other one tensor waits.
    smaller, larger = sorted((work.scored, work.other_scored))
    return sizes.vocab * (larger * (setting.over_vocabulary * number + extra) + smaller * number)


def _gathered(sizes: Sizes, setting: Setting) -> int:
    if setting.gathers:
        # This layer and the next, the ends, and one layer's whole gradient before it is scattered.
        return setting.computed * (2 * sizes.layer + sizes.ends) + setting.stored * sizes.layer
    # Autocast keeps a bf16 copy of every matrix for the backward pass.
    if setting.precision != "bf16":
        return 0
    return 2 * (setting.trained + (setting.frozen if setting.frozen_bytes > 2 else 0))
