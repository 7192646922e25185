"""What training changes in a model, and so what a checkpoint must hold of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def trainable_state(model: Any) -> dict[str, Tensor]:
    """Returns all of a model by name, or, where parts are frozen, the trained tensors alone."""
    if all(parameter.requires_grad for parameter in model.parameters()):
        return model.state_dict()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {name: tensor for name, tensor in model.state_dict().items() if name in trained}


def restore_trainable(model: Any, state: Mapping[str, Tensor]) -> None:
    """Puts back what `trainable_state` returned.

    Raises:
        RuntimeError: If it was of another model, or of another part of it.
    """
    differ = sorted(set(trainable_state(model)) ^ set(state))
    if differ:
        raise RuntimeError(f"other tensors are trained: {', '.join(differ[:3])}")
    model.load_state_dict(state, strict=False)
