"""Reads the files of a model folder, each hostile until checked: JSON, weight headers, ids."""

from __future__ import annotations

import functools
import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

NAME = re.compile(r"[\w.-]+")
DEEPEST, LARGEST = 64, 256 << 20
"""How deep JSON of a model folder may be nested, and how many bytes a header or file may have."""
BOUNDS: dict[str, int] = {
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers"), 1 << 10),
    **dict.fromkeys(("vocab_size", "hidden_size", "n_embd", "d_model", "n_inner"), 1 << 24),
    **dict.fromkeys(("intermediate_size", "num_attention_heads", "n_head", "head_dim"), 1 << 24),
}
"""Upper bounds of sizes in a configuration."""


class Fault(Exception):
    """What is wrong with a folder, and what helps; no more is read of one that has any."""

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(problem)
        self.problem, self.fix = problem, fix


def read_object(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file.

    Raises:
        Fault: If it holds none. So do all readers and checks here, of what they are about.
    """
    if path.stat().st_size > LARGEST:
        raise Fault(f"its {path.name} has more than {LARGEST >> 20} MiB")
    too_deep = Fault(f"its {path.name} cannot be read as JSON (it is nested too deeply)")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise Fault(f"its {path.name} cannot be read as JSON") from None
    except RecursionError:
        raise too_deep from None
    if not isinstance(content, dict):
        raise Fault(f"its {path.name} is no JSON object")
    if _depth(content) > DEEPEST:
        raise too_deep
    return content


def _depth(content: object) -> int:
    level, depth = [content], 0
    while level and depth <= DEEPEST:
        depth += 1
        inner = [part for part in level if isinstance(part, dict | list)]
        level = [v for part in inner for v in (part.values() if isinstance(part, dict) else part)]
    return depth


def read_config(path: Path) -> dict[str, Any]:
    """Returns a model's configuration, of which a causal language model can be made."""
    config = read_object(path)
    kind = config.get("model_type")
    if not isinstance(kind, str) or not NAME.fullmatch(kind):
        raise Fault("its config.json names no model_type")
    if f'"{kind}"' not in _architectures():
        own = config.get("auto_map")
        code = ", and the code that its auto_map names is never run" if own else ""
        raise Fault(
            f"its model_type {kind} is none that the installed transformers knows{code}",
            "pip install --upgrade transformers, or a folder of another architecture",
        )
    if config.get("is_encoder_decoder"):
        raise Fault(
            "it is an encoder-decoder, and only causal (decoder-only) language models are unlearned"
        )
    for part in (config, *(v for v in config.values() if isinstance(v, dict))):
        _check_part(part)
    return config


def _check_part(part: dict[str, Any]) -> None:
    """Checks a configuration, or that of one modality inside it."""
    for key, value in part.items():
        if key == "quantization_config" and value:
            method = value.get("quant_method") if isinstance(value, dict) else value
            raise Fault(
                f"its weights are quantised ({str(method)[:40]}), and only whole ones are trained",
                "KEY=FOLDER of the model as it was before (bf16, float16 or float32 weights)",
            )
        if key == "transformers_weights" and value is not None:
            raise Fault("its config.json names weights of its own (transformers_weights)")
        if "implementation" in key and isinstance(value, str) and not NAME.fullmatch(value):
            raise Fault(f"its config.json asks for code of others ({key}: {value[:40]!r})")
        bound = BOUNDS.get(key)
        for number in value if isinstance(value, list) else (value,):  # some have one per layer
            whole = type(number) is int and 0 < number <= (bound or 0)
            if bound and number is not None and not whole:
                raise Fault(f"its config.json has {key}={str(number)[:40]}, not 1 to {bound}")


def read_adapter(path: Path) -> dict[str, Any]:
    """Returns the configuration of an adapter that can be loaded."""
    config = read_object(path)
    if config.get("peft_type") != "LORA":
        kind = str(config.get("peft_type"))[:40]
        raise Fault(f"its peft_type is {kind}, and only LORA is read")
    # Of these the first imports a module that the file names, the others change the base.
    for key in ("megatron_config", "loftq_config", "layer_replication", "init_lora_weights"):
        if config.get(key) not in (None, True, False, {}, "gaussian"):
            raise Fault(f"its {path.name} has {key}, which is not followed")
    return config


@functools.cache
def _architectures() -> str:
    """Returns transformers' own tables of architectures, as text: importing them loads torch."""
    spec = find_spec("transformers")
    folder = Path(spec.origin or "").parent / "models" / "auto" if spec else Path()
    places = (*folder.glob("auto_mappings.py"), *folder.glob("configuration_auto.py"))
    return "\n".join(path.read_text(encoding="utf-8") for path in places)


def read_index(path: Path) -> set[str]:
    """Returns the weight files that an index names, all of its own folder."""
    weight_map = read_object(path).get("weight_map")
    names = list(weight_map.values()) if isinstance(weight_map, dict) else []
    for name in names:
        if not isinstance(name, str) or not NAME.fullmatch(name) or name.startswith("."):
            raise Fault(f"its {path.name} names {str(name)[:60]!r}, no file of the folder")
        if not name.endswith(".safetensors"):
            raise Fault(f"its {path.name} names {name[:60]!r}, no .safetensors file")
    if not names:
        raise Fault(f"its {path.name} names no weights")
    return set(names)


def check_weights(path: Path) -> None:
    """Checks the length of a weight file; a download that stopped shows there.

    A safetensors file is the length of its header (8 bytes, little endian), the header (JSON, where
    each tensor's bytes stand), and the bytes.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size - 8:
            raise Fault(f"{path.name} is not a safetensors file, or is cut short")
        if length > LARGEST:
            raise Fault(f"{path.name} has a header of more than {LARGEST >> 20} MiB")
        header = file.read(length)
    try:
        tensors = json.loads(header)
        ends = [entry["data_offsets"][1] for n, entry in tensors.items() if n != "__metadata__"]
        last = max(ends, default=0)
        if not all(type(end) is int for end in ends) or _depth(tensors) > DEEPEST:
            raise ValueError
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise Fault(f"{path.name} is not a safetensors file") from None
    whole = 8 + length + last
    if size != whole:
        raise Fault(f"{path.name} has {size} bytes instead of {whole}: it was not copied whole")


def check_tokenizer(folder: Path, config: dict[str, Any]) -> None:
    """Checks that a tokenizer.json goes with its model, which must have rows for its ids.

    A padding token may lie beyond (another one pads then), and special tokens that nothing writes.
    """
    content = read_object(folder / "tokenizer.json")
    path = folder / "tokenizer_config.json"
    settings = read_object(path) if path.is_file() else {}
    for name in ("vocab_file", "merges_file", "tokenizer_file"):
        value = settings.get(name)
        if isinstance(value, str) and Path(value).name != value:
            raise Fault(
                f"its tokenizer_config.json names a {name} of another folder",
                f"remove {name} from tokenizer_config.json",
            )
    try:
        vocabulary = _ids(content)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Fault("its tokenizer.json has no vocabulary that can be read") from None
    eos = _content(settings.get("eos_token"))
    if eos is not None and eos not in vocabulary:
        raise Fault(
            f"its tokenizer_config.json has eos_token {eos[:40]!r}, which is not in the vocabulary",
            "save the tokenizer again with an eos_token that the model knows",
        )
    size = vocab_size(config)
    if size is None:
        return
    pad = _content(settings.get("pad_token"))
    surplus = [
        token
        for token, (i, special) in vocabulary.items()
        if i >= size and (token == eos or not (special or token == pad))
    ]
    if surplus:
        raise Fault(
            f"its tokenizer has {len(surplus)} tokens more than the model's {size} "
            f"({surplus[0][:40]!r} is one)",
            "in Python: model.resize_token_embeddings(len(tokenizer)), then save both again",
        )


def vocab_size(config: dict[str, Any]) -> int | None:
    """Returns how many ids a configuration says that its model has rows for."""
    text = config.get("text_config")
    size = config.get("vocab_size", text.get("vocab_size") if isinstance(text, dict) else None)
    return size if isinstance(size, int) else None


def _content(token: object) -> str | None:
    """Returns the text of a token of a tokenizer's settings."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _ids(content: dict[str, Any]) -> dict[str, tuple[int, bool]]:
    """Returns id by token, and whether the token is a special one."""
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, list):  # Unigram: pairs of token and score
        vocabulary = {token: i for i, (token, _) in enumerate(vocabulary)}
    found = {token: (int(i), False) for token, i in vocabulary.items()}
    for added in content.get("added_tokens") or ():
        found[added["content"]] = (int(added["id"]), bool(added.get("special")))
    return found
