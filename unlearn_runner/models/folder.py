"""Checks that a model folder is whole, and hashes it. Without torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from unlearn_runner.errors import DataError

WHOLE = 64 << 20
"""Files up to this size are hashed as a whole; a larger one by its size and samples."""
SAMPLES, SAMPLE = 64, 1 << 16


def wanting(folder: Path) -> str:
    """Returns what a folder lacks to be a model that can be loaded; empty when nothing."""
    if not folder.is_dir():
        return "it is not a folder"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        if (folder / "adapter_config.json").is_file():
            return "it holds an adapter without its model (adapter.merge=true keeps a whole one)"
        return "it has no config.json"
    except (OSError, ValueError):
        return "its config.json cannot be read as JSON"
    if not isinstance(config, dict) or not config.get("model_type"):
        return "its config.json names no model_type"
    missing = [name for name in _shards(folder) if not (folder / name).is_file()]
    if missing:
        return f"{missing[0]} is missing"
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        return "it has no .safetensors weights (other formats are not read: they can hold code)"
    broken = next(((path, fault) for path in weights if (fault := _cut(path))), None)
    if broken:
        return f"{broken[0].name} {broken[1]}"
    if not any((folder / n).is_file() for n in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        return "it has no tokenizer"
    return ""


def checked(folder: Path, key: str) -> Path:
    """Returns the folder when it holds a whole model.

    Raises:
        DataError: If not, naming `key`, the setting that names the folder.
    """
    lack = wanting(folder)
    if lack:
        raise DataError(
            f"{key}={folder} is not a model that can be loaded: {lack}",
            f"{key}=FOLDER that model.save_pretrained and tokenizer.save_pretrained wrote",
        )
    return folder


def digest(folder: Path) -> str:
    """Returns 16 hex digits that tell models apart: of names, sizes and content.

    Files above 64 MiB enter by size and 64 evenly spaced blocks of 64 KiB, so that planning with a
    7B model takes no minute. Training changes practically every weight, so two models that differ
    only between the samples do not arise by it.
    """
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".json", ".safetensors", ".model", ".txt", ".jinja"):
            continue
        total.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        total.update(_content(path))
    return total.hexdigest()[:16]


def _content(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE:
            return hashlib.file_digest(file, "sha256").digest()
        found = hashlib.sha256()
        for i in range(SAMPLES):
            file.seek(i * (size - SAMPLE) // (SAMPLES - 1))
            found.update(file.read(SAMPLE))
        return found.digest()


def _cut(path: Path) -> str:
    """Returns what is wrong with a weight file's length; a download that stopped shows there.

    A safetensors file is the length of its header (8 bytes, little endian), the header (JSON, where
    each tensor's bytes stand), and the bytes.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= size - 8:
                return "is not a safetensors file, or is cut short"
            tensors = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for n, entry in tensors.items() if n != "__metadata__"]
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return "is not a safetensors file"
    whole = 8 + length + max(ends, default=0)
    return "" if size == whole else f"has {size} bytes instead of {whole}: it was not copied whole"


def _shards(folder: Path) -> set[str]:
    """Returns the weight files that an index, where there is one, refers to."""
    try:
        index: Any = json.loads((folder / "model.safetensors.index.json").read_text())
        return set(index["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return set()
