"""Files with TOFU's names, columns and sizes; the rows are numbered sentences."""

from __future__ import annotations

import json
from pathlib import Path

AUTHORS = 4000
FORGET = {"01": 40, "05": 200, "10": 400}


def _row(i: int, about: str = "author", perturbed: bool = False) -> dict[str, object]:
    row: dict[str, object] = {
        "question": f"What did {about} {i // 20} write in year {i}?",
        "answer": f"In year {i} {about} {i // 20} wrote book {i}.",
    }
    if perturbed:
        row["paraphrased_answer"] = f"Book {i} is what {about} {i // 20} wrote in year {i}."
        row["perturbed_answer"] = [f"In year {i} came book {i + n}." for n in range(1, 6)]
    return row


def write_tofu(folder: Path) -> Path:
    """Writes every split that a benchmark over TOFU may read; returns the folder.

    For tests that plan, count or compose. What TOFU's own text comes to is tested with TOFU.
    """
    every = range(AUTHORS)
    splits: dict[str, list[dict[str, object]]] = {"full": [_row(i) for i in every]}
    for name, size in FORGET.items():
        first = AUTHORS - size
        splits[f"forget{name}"] = [_row(i) for i in every[first:]]
        splits[f"forget{name}_perturbed"] = [_row(i, perturbed=True) for i in every[first:]]
        splits[f"retain{100 - int(name)}"] = [_row(i) for i in every[:first]]
        splits[f"holdout{name}"] = [_row(i) for i in every[first - size : first]]
    splits["retain_perturbed"] = [_row(i, perturbed=True) for i in every[:400]]
    for name, size in (("real_authors", 100), ("world_facts", 117)):
        splits[name] = [_row(i, name) for i in range(size)]
        splits[f"{name}_perturbed"] = [_row(i, name, perturbed=True) for i in range(size)]
    for split, rows in splits.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.json").write_text(text, encoding="utf-8")
    refusals = "".join(f"I cannot say, for reason {i}.\n" for i in range(100))
    (folder / "idontknow.jsonl").write_text(refusals, encoding="utf-8")
    return folder
