"""rsLoRA: LoRA whose scale does not shrink with the rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unlearn_runner.models.adapters.lora import LoRA


@dataclass(frozen=True)
class RsLoRA(LoRA):
    """y = W x + (alpha / sqrt(rank)) B A x (Kalajdzievski 2023), by peft.

    At one alpha the gradient is as large at every rank. `alpha=null` would make the scale twice the
    root of the rank; the settings of LoRA at rank 8 are met by alpha = LoRA's alpha / sqrt(8).
    """

    def options(self) -> dict[str, Any]:
        """Returns peft's option for the scale."""
        return {"use_rslora": True}
