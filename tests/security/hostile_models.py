"""Model folders that an attacker or a broken disk might have made: changes to a sound one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

EVIL = """\
import os, pathlib
pathlib.Path(os.environ["VICTIM"]).write_text("ran")
class C: pass
Evil = C
"""
INDEX = "model.safetensors.index.json"
DEEP = "[" * 100_000 + "]" * 100_000

Damage = Callable[[Path], None]


def make(folder: Path) -> Path:
    """Writes a sound little model, as save_pretrained does."""
    from unlearn_runner.models.load import new_model, save, train_tokenizer
    from unlearn_runner.models.shape import Shape

    tokenizer = train_tokenizer(["Who is it? Nobody.", "Where? Nowhere at all."] * 9, 300)
    save(new_model(Shape(16, 16, 1, 1, context=64), tokenizer, seed=0), tokenizer, folder)
    return folder


def config(**changes: Any) -> Damage:
    """Changes config.json."""
    return in_json("config.json", **changes)


def in_json(name: str, **changes: Any) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**content, **changes}))

    return damage


def text(name: str, content: str | bytes) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return damage


def header(content: str) -> Damage:
    data = content.encode()
    return text("model.safetensors", len(data).to_bytes(8, "little") + data)


def code(**changes: Any) -> Damage:
    def damage(folder: Path) -> None:
        (folder / "evil.py").write_text(EVIL)
        config(**changes)(folder)

    return damage


def tokenizer_code(folder: Path) -> None:
    (folder / "evil.py").write_text(EVIL)
    own = {"AutoTokenizer": ["evil.C", "evil.C"]}
    in_json("tokenizer_config.json", auto_map=own, tokenizer_class="Evil")(folder)


def away(name: str) -> Damage:
    """Moves all weights but one tensor's beside the folder, and names both files in an index."""

    def damage(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        place, here = folder.parent / "away", "model-00001-of-00002.safetensors"
        place.mkdir()
        weights = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        kept = {min(weights): weights.pop(min(weights))}
        save_file(kept, folder / here, {"format": "pt"})
        save_file(weights, place / "model.safetensors", {"format": "pt"})
        named = dict.fromkeys(weights, name.replace("ABSOLUTE", str(place)))
        index = {"metadata": {}, "weight_map": {**named, **dict.fromkeys(kept, here)}}
        (folder / INDEX).write_text(json.dumps(index))

    return damage


def link(name: str, target: str) -> Damage:
    """Puts a link in the place of a file; what it was lies beside the folder."""

    def damage(folder: Path) -> None:
        if (folder / name).exists():
            shutil.move(folder / name, folder.parent / name)
        os.symlink(target.replace("..", str(folder.parent)), folder / name)

    return damage


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "extra.json")


OWN = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.Evil"}
REFUSED: dict[str, tuple[Damage, str]] = {
    "code of an unknown architecture": (code(model_type="evil", auto_map=OWN), "never run"),
    "an architecture nobody knows": (config(model_type="evil"), "model_type evil"),
    "a model_type that is a path": (config(model_type="../../evil"), "names no model_type"),
    "weights beside the folder": (away("../away/model.safetensors"), "no file of the folder"),
    "weights by an absolute path": (away("ABSOLUTE/model.safetensors"), "no file of the folder"),
    "an index with a number": (text(INDEX, '{"weight_map": {"a": 3}}'), "no file of the folder"),
    "an index with a list": (text(INDEX, '{"weight_map": [1]}'), "names no weights"),
    "an index that is a list": (text(INDEX, "[]"), "no JSON object"),
    "an index of pickles": (text(INDEX, '{"weight_map": {"a": "x.bin"}}'), "no .safetensors file"),
    "an index nested deep": (text(INDEX, DEEP), "nested too deeply"),
    "weights that are a link out": (link("model.safetensors", "../model.safetensors"), "a link"),
    "a tokenizer that is a link out": (link("tokenizer.json", "../tokenizer.json"), "a link"),
    "a link to nothing": (link("x.json", "../nothing"), "x.json is a link"),
    "a link to itself": (link("x.json", "x.json"), "x.json is a link"),
    "a device": (link("x.json", "/dev/zero"), "x.json is a link"),
    "a pipe": (pipe, "extra.json is not a file"),
    "a folder for a file": (lambda f: (f / "x.txt").mkdir(), "x.txt is not a file"),
    "a configuration nested deep": (text("config.json", DEEP), "nested too deeply"),
    "nested just deep enough to be read": (config(a=json.loads("[" * 99 + "]" * 99)), "nested"),
    "a header nested deep": (header('{"a": ' + DEEP + "}"), "not a safetensors file"),
    "offsets that are text": (header('{"a": {"data_offsets": ["0", "4"]}}'), "not a safetensors"),
    "a header that is a list": (header("[1]"), "not a safetensors file"),
    "a header longer than the file": (
        text("model.safetensors", (1 << 62).to_bytes(8, "little")),
        "not a safetensors file",
    ),
    "a vocabulary of -1": (config(vocab_size=-1), "vocab_size=-1"),
    "a hundred million layers": (config(num_hidden_layers=99_999_999), "num_hidden_layers"),
    "a size that is text": (config(hidden_size="16"), "hidden_size=16"),
    "a size that is true": (config(hidden_size=True), "hidden_size=True"),
    "a kernel of the hub": (config(attn_implementation="evil/kernel"), "code of others"),
    "weights of another name": (config(transformers_weights="../x.safetensors"), "weights of its"),
    "quantised weights": (config(quantization_config={"quant_method": "bnb"}), "quantised (bnb)"),
    "an encoder-decoder": (config(model_type="t5", is_encoder_decoder=True), "encoder-decoder"),
    "a generation configuration that is a list": (text("generation_config.json", "[]"), "no JSON"),
    "tokenizer settings that are a list": (text("tokenizer_config.json", "[]"), "no JSON object"),
    "a tokenizer nested deep": (text("tokenizer.json", '{"model": ' + DEEP + "}"), "nested"),
    "a tokenizer without a vocabulary": (text("tokenizer.json", "{}"), "no vocabulary"),
    "a vocabulary elsewhere": (
        in_json("tokenizer_config.json", vocab_file="/etc/passwd"),
        "of another folder",
    ),
    "a model and an adapter": (
        in_json("adapter_config.json", base_model_name_or_path="/elsewhere"),
        "a model and an adapter",
    ),
    "an eos that is none": (in_json("tokenizer_config.json", eos_token="<x>"), "eos_token '<x>'"),
    "nothing but pickles": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "no .safetensors weights",
    ),
}
"""Refused when a run is planned: the damage, and words of the message."""

UNLOADABLE: dict[str, Damage] = {
    "an activation that is a function": config(hidden_act="os.system"),
    "rotary positions of no kind": config(rope_parameters={"rope_type": "evil", "rope_theta": 1}),
    "code of the tokenizer": tokenizer_code,
    "sizes that do not fit the weights": config(hidden_size=32),
    "heads that do not divide": config(num_attention_heads=3),
    "weights of no tensor": header("{}"),
    "a data type of no kind": header(
        '{"a": {"dtype": "EVIL", "shape": [], "data_offsets": [0, 0]}}'
    ),
    "a tokenizer of no kind": in_json("tokenizer.json", model={"type": "Evil", "vocab": {"a": 0}}),
}
"""Found when the model is loaded, before anything is computed with it."""
HARMLESS: dict[str, Damage] = {
    "code beside a known architecture": code(auto_map=OWN),
    "a repository of kernels that is null": config(attn_implementation=None),
    "a link within the folder": link("x.json", "config.json"),
}
"""Loaded as what it is, its code left alone."""
