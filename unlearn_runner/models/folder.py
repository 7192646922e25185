"""Checks that a model folder is whole and stays within itself, and hashes it. Without torch.

A model folder is anyone's: nothing it says is run, and no file beyond it is read. What this module
lets through is loaded by `models.load` alone.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unlearn_runner.errors import DataError
from unlearn_runner.models import contents
from unlearn_runner.models.contents import Fault

WHOLE = 64 << 20
"""Files up to this size are hashed as a whole; a larger one by its size and samples."""
SAMPLES, SAMPLE = 64, 1 << 16
READ = (".json", ".safetensors", ".model", ".txt", ".jinja")
"""Endings of the files that a loader may read: they enter the key."""
ADAPTER = "adapter_config.json"
TEMPLATES = "additional_chat_templates"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
CONVERT = (
    "python -c 'import sys; from transformers import AutoModelForCausalLM as M; "
    "M.from_pretrained(sys.argv[1], trust_remote_code=False).save_pretrained(sys.argv[1])'"
)
"""Writes safetensors beside pickled weights; transformers reads those without running them."""


def wanting(folder: Path) -> str:
    """Returns what a folder lacks to be a model that can be loaded; empty when nothing."""
    try:
        _check_model(folder)
    except Fault as fault:
        return fault.problem
    return ""


def checked(folder: Path, key: str) -> Path:
    """Returns the folder when it holds a whole model.

    Raises:
        DataError: If not, naming `key`, the setting that names the folder.
    """
    try:
        _check_model(folder)
    except Fault as fault:
        raise DataError(
            f"{key}={folder} is not a model that can be loaded: {fault.problem}",
            fault.fix.replace("KEY=", f"{key}=")
            or f"{key}=FOLDER that model.save_pretrained and tokenizer.save_pretrained wrote",
        ) from None
    return folder


def is_adapter(folder: Path) -> bool:
    """Returns whether a folder holds an adapter alone, as peft saves it."""
    return (folder / ADAPTER).is_file() and not (folder / "config.json").is_file()


def adapter_base(folder: Path, key: str) -> str:
    """Returns what a folder's adapter says its base is: a hub id or a path, not to be trusted.

    Raises:
        DataError: If it holds no LoRA adapter that can be loaded, naming `key`.
    """
    weights = folder / "adapter_model.safetensors"
    try:
        _check_files(folder)
        config = contents.read_adapter(folder / ADAPTER)
        if not weights.is_file():
            other = "(other formats are not read: they can hold code)"
            raise Fault(f"it has no {weights.name} {other}")
        contents.check_weights(weights)
    except Fault as fault:
        raise DataError(
            f"{key}={folder} is not an adapter that can be loaded: {fault.problem}",
            fault.fix or f"{key}=FOLDER that peft's save_pretrained wrote",
        ) from None
    return str(config.get("base_model_name_or_path"))


def digest(folder: Path) -> str:
    """Returns 16 hex digits that tell models apart: of names, sizes and content.

    Files above 64 MiB enter by size and 64 evenly spaced blocks of 64 KiB, so that planning with a
    7B model takes no minute. Training changes practically every weight, so two models that differ
    only between the samples do not arise by it.
    """
    total = hashlib.sha256()
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        total.update(f"{name}\0{path.stat().st_size}\0".encode())
        total.update(_content(path))
    return total.hexdigest()[:16]


def _files(folder: Path) -> list[Path]:
    """Returns the files that a loader may read, in order of their names."""
    found = [path for path in folder.iterdir() if path.suffix in READ]
    if (folder / TEMPLATES).is_dir():
        found += (path for path in (folder / TEMPLATES).iterdir() if path.suffix in READ)
    return sorted(found)


def _check_model(folder: Path) -> None:
    try:
        _check_files(folder)
        config = _config(folder)
        _check_weights(folder)
        _check_tokenizer(folder, config)
    except OSError as error:
        reason = f"{error.filename or folder} cannot be read: {error.strerror or error}"
        raise Fault(reason) from None


def _check_files(folder: Path) -> None:
    if not os.path.isdir(folder):  # unlike Path's, false for names that no folder can have
        raise Fault("it is not a folder")
    for path in [*_files(folder), folder / TEMPLATES]:
        name = path.relative_to(folder)
        if path.is_symlink() and not _inside(path, folder):
            raise Fault(f"{name} is a link that leaves the folder", "copy the file itself there")
        if path.name != TEMPLATES and not stat.S_ISREG(os.stat(path).st_mode):
            raise Fault(f"{name} is not a file")


def _inside(link: Path, folder: Path) -> bool:
    """Returns whether a link ends at a file of the folder, or of the hub cache it is a part of."""
    try:
        target, home = link.resolve(strict=True), folder.resolve()
    except (OSError, RuntimeError):  # it dangles, or leads to itself
        return False
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    return target.is_relative_to(home) or target.parent == blobs


def _config(folder: Path) -> dict[str, Any]:
    """Returns the configuration of what must be a model, whole and alone in its folder."""
    if not (folder / "config.json").is_file():
        if is_adapter(folder):
            raise Fault(
                "it holds an adapter without its model",
                "KEY=FOLDER of a whole model; target.path= and retain_model.path= take an adapter",
            )
        raise Fault("it has no config.json")
    if (folder / ADAPTER).is_file():
        raise Fault("it holds a model and an adapter", "keep the two in folders of their own")
    return contents.read_config(folder / "config.json")


def _check_weights(folder: Path) -> None:
    index = folder / INDEX
    if index.exists():
        missing = sorted(n for n in contents.read_index(index) if not (folder / n).is_file())
        if missing:
            raise Fault(f"{missing[0]} is missing")
    elif not (folder / WEIGHTS).is_file():
        if any(next(folder.glob(pattern), None) for pattern in PICKLES):
            raise Fault(
                "it has no .safetensors weights (other formats are not read: they can hold code)",
                f"{CONVERT} {shlex.quote(str(folder))}",
            )
        raise Fault(f"it has no .safetensors weights: neither {WEIGHTS} nor {INDEX}")
    for path in sorted(folder.glob("*.safetensors")):
        contents.check_weights(path)


def _check_tokenizer(folder: Path, config: dict[str, Any]) -> None:
    if not any((folder / n).is_file() for n in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise Fault("it has no tokenizer")
    for name in ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            contents.read_object(folder / name)
    if (folder / "tokenizer.json").is_file():
        contents.check_tokenizer(folder, config)
    elif (folder / "tokenizer.model").is_file() and find_spec("sentencepiece") is None:
        raise Fault(
            "its tokenizer.model needs the SentencePiece library, which is not installed",
            "pip install sentencepiece protobuf",
        )


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
