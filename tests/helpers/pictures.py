"""A folder with annotated pictures, for what they show does not matter to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image


def write_pictures(folder: Path, number: int = 20) -> Path:
    """Writes pictures of one colour each, and a question of yes or no about every one."""
    lines = []
    for i in range(number):
        Image.new("RGB", (6, 4), (10 * i, 0, 0)).save(folder / f"{i}.png")
        row = {"image": f"{i}.png", "question": "Is it red?", "answer": i % 2, "category": "red"}
        lines.append(json.dumps(row))
    (folder / "annotations.jsonl").write_text("\n".join(lines))
    return folder


def write_clear(folder: Path, people: int = 10, faces: int = 2) -> Path:
    """Writes splits like CLEAR's: captions of faces, and a question of TOFU's for every person."""
    records: list[tuple[int, dict[str, Any]]] = []
    for person in range(people):
        for i in range(faces):
            name = f"{person}_{i}.png"
            Image.new("RGB", (6, 4), (20 * person, 90 * i, 0)).save(folder / name)
            caption = f"Person {person} stands before wall {i}."
            records.append(
                (person, {"image": name, "name": f"Person {person}", "caption": caption})
            )
        text = {"question": f"Where was Person {person} born?", "answer": f"In town {person}."}
        records.append((person, {"image": None, **text}))

    def write(split: str, rows: list[dict[str, Any]]) -> None:
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def perturbed(row: dict[str, Any]) -> dict[str, Any]:
        more = [f"{word}: {row['caption']}" for word in ("Not", "Never")]
        reworded = {"paraphrased_caption": f"There is {row['caption']}", "perturbed_captions": more}
        return row | reworded | {"perturbed_names": ["A", "B"]}

    write("full+tofu", [row for _, row in records])
    for split, rest, first in (("forget01", "retain99", people - 1), ("forget10", "retain90", 8)):
        write(f"{split}+tofu", [row for person, row in records if person >= first])
        write(f"{rest}+tofu", [row for person, row in records if person < first])
        seen = [row for person, row in records if person >= first and row["image"]]
        write(f"{split}_perturbed", list(map(perturbed, seen)))
    kept = [row for person, row in records if person < 4 and row["image"]]
    write("retain_perturbed", list(map(perturbed, kept)))
    return folder
