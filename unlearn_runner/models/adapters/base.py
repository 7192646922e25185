"""What an adapter is: which part of a model is trained, and how that part is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unlearn_runner.training.recipe import Recipe

Storage = Literal["float32", "bf16"]


@dataclass(frozen=True)
class Adapter(ABC):
    """Base class of adapters: frozen settings; what is trained lives in the model."""

    @property
    def storage(self) -> Storage:
        """Number format of weights that are not trained; the start numbers are made with it."""
        return "float32"

    @property
    def whole(self) -> bool:
        """Whether what is kept is an ordinary model, to be loaded without the start model."""
        return True

    @property
    def trains_a_part(self) -> bool:
        """Whether only what is trained is to be gathered from ranks that hold pieces."""
        return False

    def check(self, recipe: Recipe, save_dtype: str) -> None:
        """Looks at settings of other groups.

        Raises:
            ConfigError: If they do not go with the adapter's.
        """
        return

    @abstractmethod
    def attach(self, model: Any, seed: int) -> Any:
        """Returns the start model with what is trained in it; the rest is frozen.

        Args:
            model: The start model, loaded for training in `storage`; changed in place.
            seed: Seed of anything random.

        Raises:
            DataError: If the model has no place for the adapter.
        """

    def start(self, model: Any) -> Any | None:
        """Returns the start model as it is found inside the trained one.

        None where it is not there: then whoever needs it holds a copy.
        """
        return None

    @abstractmethod
    def save(
        self,
        model: Any,
        tokenizer: Any,
        folder: Path,
        base: Base,
        dtype: str,
        state: dict[str, Any] | None = None,
    ) -> None:
        """Writes what is kept of a trained model, and its tokenizer.

        Args:
            model: What `attach` returned, trained; left as it is.
            tokenizer: Of the start model.
            folder: Where.
            base: The start model.
            dtype: Number format of a whole model's weights on disk.
            state: The model's weights, or those that are trained where only a part is, where the
                model itself holds only pieces.
        """


@dataclass(frozen=True)
class Base:
    """The start model, for what is kept without it."""

    folder: Path
    name: str
    """What to call it, the same on every machine."""
