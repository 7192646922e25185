"""A folder with annotated pictures, for what they show does not matter to."""

from __future__ import annotations

import json
from pathlib import Path

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
