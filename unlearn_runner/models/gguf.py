"""Quantised models in GGUF files, as ordinary models in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from unlearn_runner.errors import DataError
from unlearn_runner.models.load import OWN_CODE
from unlearn_runner.models.quiet import quietly


def dequantized(file: Path) -> tuple[Any, Any]:
    """Returns the causal LM of a GGUF file, its weights dequantised to float32, and its tokenizer.

    Raises:
        DataError: If transformers cannot read it.
    """
    which = {"gguf_file": file.name, **OWN_CODE}
    try:
        with quietly():
            tokenizer = AutoTokenizer.from_pretrained(file.parent, **which)
            loaded = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **which)
    except Exception as error:  # of many kinds, by what the file says
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{file} cannot be read as a GGUF model: {reason}",
            "install the package again, or model.path=FOLDER of another copy",
        ) from None
    # The same model that knows of no quantisation: save_pretrained refuses one that does.
    config: Any = loaded.config
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    return model, tokenizer
