"""Reads dashboards' files back: W&B's offline runs, TensorBoard's event files.

W&B writes its offline runs as protobuf records in LevelDB's log format, which is read here.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def records(folder: Path) -> Iterator[Any]:
    """The records of the one offline run in a run folder."""
    (path,) = parts(folder)
    yield from records_of(path)


def parts(folder: Path) -> list[Path]:
    """The files of a run folder's offline runs, in the order in which they were begun."""
    return sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))


def records_of(path: Path) -> Iterator[Any]:
    """The records of a file; a kill may have cut it off."""
    from wandb.proto.wandb_internal_pb2 import Record as Proto

    data, position, record = path.read_bytes(), 7, b""
    assert not data or data[:4] == b":W&B"
    while position < len(data):
        left = 32768 - position % 32768
        if left < 7:  # no record begins in the last bytes of a block
            position += left
            continue
        if position + 7 > len(data):
            return
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        if position + 7 + length > len(data) or kind == 0:
            return
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Proto.FromString(record)
            record = b""


def items(found: Any) -> dict[str, Any]:
    """Key and value of a record's items; nested keys joined."""
    joined = {}
    for item in found:
        key = item.key or "/".join(item.nested_key)
        joined[key] = json.loads(item.value_json)
    return joined


def rows(found: Iterable[Any]) -> list[Line]:
    """The history's rows; each has W&B's own step under "_step"."""
    return [items(r.history.item) for r in found if r.HasField("history")]


def lines(found: Iterable[Line]) -> list[Line]:
    """The history's rows in the form of metrics.jsonl."""
    told = []
    for row in found:
        named = {key: value for key, value in row.items() if key[0] != "_"}
        axes = [key.removesuffix("/step") for key in named if key.endswith("/step")]
        if axes:
            (stage,) = axes
            assert all(key.startswith(f"{stage}/") for key in named)
            told.append({"stage": stage} | {k[len(stage) + 1 :]: v for k, v in named.items()})
    return told


def telemetry(folder: Path) -> list[Line]:
    """The history of the one offline run in a run folder, in the form of metrics.jsonl."""
    return lines(rows(records(folder)))


def summary(found: Iterable[Any]) -> dict[str, Any]:
    """What the summary is in the end."""
    told: dict[str, Any] = {}
    for record in found:
        if record.HasField("summary"):
            told |= items(record.summary.update)
    return told


def started(found: Iterable[Any]) -> Any:
    """The record that begins a run."""
    (run,) = [r.run for r in found if r.HasField("run")]
    return run


def written(folder: Path) -> list[Line]:
    """A run folder's metrics.jsonl."""
    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def holding(folder: Path, secrets: Iterable[str]) -> list[tuple[Path, str]]:
    """The files with a secret among their bytes, packed or not."""
    found = []
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data += gzip.decompress(data)
        elif data[:1] == b"\x78":
            data += zlib.decompress(data)
        found += [(path, secret) for secret in secrets if secret.encode() in data]
    return found


def events(folder: Path) -> tuple[dict[str, list[tuple[int, float]]], dict[str, str]]:
    """The scalars, as step and value by tag, and the texts of TensorBoard's event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    found = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    found.Reload()
    values = {
        tag: [(event.step, make_ndarray(event.tensor_proto)) for event in found.Tensors(tag)]
        for tag in found.Tags()["tensors"]
    }
    texts = {tag: values.pop(tag) for tag in [*values] if tag.endswith("/text_summary")}
    scalars = {t: [(s, v.item()) for s, v in points] for t, points in values.items()}
    said = {t.removesuffix("/text_summary"): v[0][1].item().decode() for t, v in texts.items()}
    return scalars, said


def expected_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars that a run folder's own files ask for."""
    told: dict[str, list[tuple[int, float]]] = {}
    for line in written(folder):
        for key in line.keys() - {"stage", "step"}:
            told.setdefault(f"{line['stage']}/{key}", []).append((line["step"], line[key]))
    for key, value in json.loads((folder / "results.json").read_text())["scores"].items():
        told[f"scores/{key}"] = [(0, value)]
    return told
