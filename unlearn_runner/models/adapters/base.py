"""Base class of adapters: which part of a model is trained, and how that part is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from unlearn_runner.models.adapters.importance import Importance

Storage = Literal["float32", "bf16", "nf4"]
"""Number format of weights that are not trained; nf4 is 4-bit."""
Floating = Literal["float32", "bf16"]


class Sizes(Protocol):
    """Sizes of a model that an adapter's size depends on."""

    @property
    def parameters(self) -> int:
        """All weights."""
        ...

    def adapted(self, rank: int, attention: bool, mlp: bool) -> int:
        """Returns the weights of low-rank adapters of a rank beside the linear maps of a kind."""
        ...

    def adapted_rows(self, attention: bool, mlp: bool) -> int:
        """Returns the output rows of the linear maps of a kind."""
        ...


@dataclass(frozen=True)
class Adapter(ABC):
    """Base class of adapters: frozen settings; what is trained lives in the model."""

    adapts: ClassVar[bool] = True
    """Whether anything is added to the model; without, all its weights are trained."""

    shardable: ClassVar[bool] = True
    """Whether the frozen weights can be cut into shards."""

    @property
    def storage(self) -> Storage:
        """Number format of weights that are not trained, also when start logprobs are computed."""
        return "float32"

    @property
    def whole(self) -> bool:
        """Whether what is kept is an ordinary model, to be loaded without the start model."""
        return True

    @property
    def trains_a_part(self) -> bool:
        """Whether only what is trained is to be gathered from ranks that hold pieces."""
        return False

    @property
    def drops_out(self) -> bool:
        """Whether training draws any dropout, which keeps further activations."""
        return False

    @property
    def holds_start(self) -> bool:
        """Whether the start model is found inside the trained one; see `start`."""
        return False

    @property
    def importance(self) -> Importance | None:
        """How the row weights that `attach` needs are estimated; none where it needs none."""
        return None

    def trained_parameters(self, sizes: Sizes) -> int:
        """Returns how many numbers are trained, for estimates before a model is loaded."""
        return sizes.parameters

    def check(self, precision: str, save_dtype: str) -> None:
        """Refuses settings of other groups that do not go with the adapter's.

        Args:
            precision: `train.precision`.
            save_dtype: Number format of the unlearned model on disk.

        Raises:
            ConfigError: If they do not go with the adapter's.
        """
        return

    @abstractmethod
    def attach(self, model: Any, seed: int, row_weights: Mapping[str, Any] | None = None) -> Any:
        """Returns the start model with what is trained in it; the rest is frozen.

        Args:
            model: The start model, loaded for training in `storage`; changed in place.
            seed: Seed of anything random.
            row_weights: By adapted module a weight per output row, where `importance` asks for it.

        Raises:
            DataError: If the model has no place for the adapter.
        """

    def load(self, model: Any, folder: Path) -> None:
        """Gives what `attach` returned, not placed yet, the adapter that `save` left in a folder.

        Nothing where all weights are trained: then the folder holds the model itself.
        """
        return

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
    """Start model that a kept adapter belongs to."""

    folder: Path
    name: str
    """Name that is the same on every machine."""
