"""Files of a kept adapter: `adapter_config.json` and its tensors, as peft has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from unlearn_runner.errors import DataError

NAME = "default"
"""Name that peft gives an only adapter; it stands in no file."""
PREFIX = "base_model.model."
"""What a file has before the name of a tensor."""
WEIGHTS = "adapter_model.safetensors"
Tensors = dict[str, Any]
"""Tensors by name, as in `model.layers.0.mlp.up_proj.lora_A.weight`."""


def write_adapter(
    model: Any,
    folder: Path,
    base: str,
    state: Tensors | None,
    exported: Callable[[Any, Any, Tensors], Tensors],
) -> None:
    """Writes `adapter_config.json` and `adapter_model.safetensors`; see `LoRA.exported`.

    Not by peft's `save_pretrained`: it asks the hub for the base's configuration, adds a model card
    with blanks, and lists the modules in an order that changes from process to process.
    """
    from copy import copy

    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    config = copy(model.peft_config[NAME])
    config.base_model_name_or_path, config.inference_mode = base, True
    state = get_peft_model_state_dict(
        model, state_dict=state, adapter_name=NAME, save_embedding_layers=False
    )
    state = exported(model, config, state)
    config.save_pretrained(str(folder))
    tensors = {
        f"{PREFIX}{name}": tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in state.items()
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def read_adapter(model: Any, folder: Path, imported: Callable[[Tensors], Tensors]) -> None:
    """Loads what `write_adapter` wrote into a model with the same adapter; see `LoRA.imported`.

    Raises:
        DataError: If the folder holds another adapter, or none.
    """
    from peft import set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(folder / WEIGHTS)
        state = imported({name.removeprefix(PREFIX): x for name, x in tensors.items()})
        found = set_peft_model_state_dict(model, state, adapter_name=NAME)
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        lacking = trained & set(found.missing_keys) or set(found.unexpected_keys)
        if lacking:
            raise ValueError(f"{sorted(lacking)[0]} is in one of them alone")
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise DataError(
            f"the adapter in {folder} is not the one that was attached: "
            f"{' '.join(str(error).split())[:160]}",
            "verify=true: the same command makes a damaged one again",
        ) from None
