"""Model: where the base of a run comes from, and how it is prompted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le

from unlearn_runner.data.prompts import Prompting, Template
from unlearn_runner.models.shape import Shape
from unlearn_runner.training.recipe import Recipe


@dataclass(frozen=True)
class Pretraining:
    """How a base is made from random weights."""

    shape: Shape
    vocab_size: int
    recipe: Recipe


@dataclass(frozen=True)
class GivenBase:
    """Where a base that exists already is found."""

    path: str | None
    revision: str | None


@dataclass(frozen=True)
class Model:
    """Base class of models: says how its base is made, by one of `given` and `pretraining`."""

    template: Prompting = field(default_factory=Template)

    @property
    def given(self) -> GivenBase | None:
        """Where its base is found; none where it is made."""
        return None

    @property
    def pretraining(self) -> Pretraining | None:
        """How its base is made; none where it is found."""
        return None

    @property
    def rehearses(self) -> bool:
        """Whether fine-tuning goes through the pre-training rows, too."""
        return False


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
    def given(self) -> GivenBase | None:
        """The folder or repository."""
        return GivenBase(self.path, self.revision)


@dataclass(frozen=True)
class Scratch(Model):
    """A from-scratch model: random weights, byte-level BPE, a short pre-training."""

    shape: Shape = field(default_factory=Shape)
    vocab_size: Annotated[int, Ge(300), Le(1_048_576)] = 2048
    """Byte-level BPE needs 256 bytes and two special tokens before its first merge."""
    pretrain: Recipe = field(default_factory=Recipe)
    rehearse: bool = True
    """Mix the pre-training rows into fine-tuning: a model this small has no room of its own for
    what it learned first and would forget it within an epoch."""

    @property
    def pretraining(self) -> Pretraining | None:
        """Its shape, vocabulary and recipe."""
        return Pretraining(self.shape, self.vocab_size, self.pretrain)

    @property
    def rehearses(self) -> bool:
        """As `rehearse` says."""
        return self.rehearse
