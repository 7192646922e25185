"""Model: where the base of a run comes from, and how it is prompted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le

from unlearn_runner.data.prompts import Prompting, Template
from unlearn_runner.models.shape import Shape
from unlearn_runner.training.recipe import Recipe


@dataclass(frozen=True)
class Model:
    """Base class of models: one of `given` and `pretraining` says where the base comes from."""

    template: Prompting = field(default_factory=Template)

    @property
    def given(self) -> Pretrained | None:
        """Itself, where its base exists already."""
        return None

    @property
    def pretraining(self) -> Scratch | None:
        """Itself, where its base is made."""
        return None


@dataclass(frozen=True)
class Pretrained(Model):
    """A causal language model that exists already."""

    path: str | None = None
    """A local folder, or a hub id (`owner/name`); needed when something is fine-tuned from it. The
    hub is reached only for an id whose files are not in its cache (`HF_HOME`), and never under
    `HF_HUB_OFFLINE=1`."""
    revision: str | None = None
    """Commit, tag or branch of a hub id; null is its main branch as it is when planned."""

    @property
    def given(self) -> Pretrained:
        """Itself."""
        return self


@dataclass(frozen=True)
class Scratch(Model):
    """A from-scratch model: random weights, byte-level BPE, a short pre-training."""

    shape: Shape = field(default_factory=Shape)
    vocab_size: Annotated[int, Ge(300), Le(1048576)] = 2048
    """Byte-level BPE needs 256 bytes and two special tokens before its first merge."""
    pretrain: Recipe = field(default_factory=Recipe)
    rehearse: bool = True
    """Mix the pre-training rows into fine-tuning: a model this small has no room of its own for
    what it learned first and would forget it within an epoch."""

    @property
    def pretraining(self) -> Scratch:
        """Itself."""
        return self
