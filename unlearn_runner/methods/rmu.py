"""Representation misdirection."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from unlearn_runner.errors import ConfigError
from unlearn_runner.methods import losses
from unlearn_runner.methods.base import Count, Objective, Positive, Term


@dataclass(frozen=True)
class RMU(Objective):
    """Steer the hidden states of forget answers to one random direction.

    Source: Li et al. 2024. `layer` counts blocks: the state after so many of them, 0 the
    embeddings, the last one before the final norm (Hugging Face's hidden_states but for that).
    Module names count from 0, so what leaves `layers.7` is the state after 8 blocks: `layer=8`.
    Published: module 7, so layer 8, and coefficient 2 (open-unlearning, Llama-3.2-1B; WMDP with
    6.5 and a retain weight of 1200); 9 and 4 for Phi-1.5, 21 and 2 for Llama-2-7B,
    `direction=uniform` (G-effect, whose code takes `over=mean`; its figures say 22, its index may
    be off by one). open-unlearning's code divides every row by the other rows' lengths, and masks
    the label positions (see decision 12); this does not.

    Its loss reaches the blocks below `layer` alone, and so does that of `retain.loss=rr`: what lies
    behind (weights, or an adapter's tensors) has no gradient but that of another retain loss or of
    what rectifies a step, and otherwise stays as it is.
    """

    loss = losses.Steering

    layer: Count | None = None
    """After how many blocks; null is three eighths of them, rounded up (9 of Phi-1.5's 24)."""
    coefficient: Positive = 2.0
    """Length of the direction that states are steered to."""
    direction: Literal["unit", "uniform"] = "unit"
    """Whether the drawn direction is brought to length 1, or left as drawn from [0, 1)."""
    over: Literal["sum", "mean"] = "sum"
    """The squared norm as printed, or its mean over the hidden dimension as coded; `retain.over`
    is the retain term's."""
    parameters: str | None = None
    """Regular expression for the names of the parameters trained; null trains all (G-effect, and
    in effect open-unlearning). WMDP: 'layers\\.[567]\\.mlp\\.down_proj', modules counted from 0,
    with `layer=8`: at 7, `layers.7` would get no gradient."""

    def __post_init__(self) -> None:
        if self.parameters is not None:
            try:
                re.compile(self.parameters)
            except re.error as error:
                raise ConfigError(
                    f"method.parameters={self.parameters} is no regular expression: {error}",
                    "method.parameters=null trains all",
                ) from None

    def trains(self, name: str) -> bool:
        """Returns whether `parameters` is found in the name."""
        return self.parameters is None or re.search(self.parameters, name) is not None

    def terms(self) -> tuple[Term, ...]:
        """Returns the steering term on forget rows and the retain term at the same layer."""
        layer = self.layer if self.retain.layer is None else self.retain.layer
        retain = replace(self.retain, layer=layer)
        return self.forget_term(), *retain.terms(self.unit)
