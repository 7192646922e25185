"""No adapter: every weight is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from unlearn_runner.models.adapters.base import Adapter, Base


@dataclass(frozen=True)
class NoAdapter(Adapter):
    """The whole model is trained, and the result is an ordinary model."""

    adapts: ClassVar[bool] = False

    def attach(self, model: Any, seed: int, row_weights: Mapping[str, Any] | None = None) -> Any:
        """Returns the model as it is."""
        return model

    def save(
        self,
        model: Any,
        tokenizer: Any,
        folder: Path,
        base: Base,
        dtype: str,
        state: dict[str, Any] | None = None,
    ) -> None:
        """Writes an ordinary model folder."""
        from unlearn_runner.models.load import save

        save(model, tokenizer, folder, dtype, state)
