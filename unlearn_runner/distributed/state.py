"""State of a model that training changes, which is what a checkpoint stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def trainable_state(model: Any) -> dict[str, Tensor]:
    """Returns a model's state by name: all of it, or the trained tensors if some are frozen."""
    if all(parameter.requires_grad for parameter in model.parameters()):
        return model.state_dict()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {name: tensor for name, tensor in model.state_dict().items() if name in trained}


def restore_trainable(model: Any, state: Mapping[str, Tensor]) -> None:
    """Loads what `trainable_state` returned.

    Raises:
        RuntimeError: If it is of another model, or of other parts of it.
    """
    differ = sorted(set(trainable_state(model)) ^ set(state))
    if differ:
        raise RuntimeError(f"other tensors are trained: {', '.join(differ[:3])}")
    model.load_state_dict(state, strict=False)
