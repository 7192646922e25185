"""DoRA: the length of each row of weights is trained apart from its direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unlearn_runner.models.adapters.base import Sizes
from unlearn_runner.models.adapters.files import NAME
from unlearn_runner.models.adapters.lora import LoRA


@dataclass(frozen=True)
class DoRA(LoRA):
    """y = m (W + s B A) x / |W + s B A|, row by row, with m, A and B trained.

    Source: Liu et al. 2024, by peft; the norm takes part in no gradient (its section 4.3). m begins
    as |W|, so that training begins at the start model. Deviation: m is computed in float32 also of
    a bf16 base, or the model would begin a bf16 rounding away from it. A forward pass makes W + s B
    A anew, which costs a multiple of LoRA's time.
    """

    def options(self) -> dict[str, Any]:
        """Returns peft's option for magnitudes."""
        return {"use_dora": True}

    def begin(
        self, module: Any, name: str, seed: int, row_weights: Mapping[str, Any] | None
    ) -> None:
        """Draws A as LoRA does, and measures the rows of W."""
        super().begin(module, name, seed, row_weights)
        magnitude = module.lora_magnitude_vector[NAME].weight
        weight = module.get_base_layer().weight.detach().to(magnitude.dtype)
        magnitude.data = weight.norm(dim=0 if module.fan_in_fan_out else 1)

    def trained_parameters(self, sizes: Sizes) -> int:
        """Returns the size of A, B and m beside all targets."""
        rows = sizes.adapted_rows(self.targets != "mlp", self.targets != "attention")
        return super().trained_parameters(sizes) + rows
