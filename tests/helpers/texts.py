"""Files with names and columns that benchmarks over texts read; the texts are numbered words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = [f"word{i}" for i in range(300)]


def write_texts(folder: Path) -> Path:
    """Writes what benchmarks over texts read (`tdec`, `muse`, `rwku`, ...); returns the folder.

    And questions under WMDP's names.
    """
    for corpus in ("news", "books"):
        for name in ("raw/forget", "raw/retain1", *(f"privleak/{n}" for n in PRIVLEAK)):
            _write(folder / corpus / f"{name}.json", [" ".join(WORDS[i : i + 9]) for i in range(3)])
        for name in ("forget_qa", "forget_qa_icl", "retain_qa", "retain_qa_icl"):
            rows = [{"question": f"What is {word}?", "answer": word} for word in WORDS[:3]]
            _write(folder / corpus / f"knowmem/{name}.json", rows)
        rows = [{"prompt": "One two", "gt": word} for word in WORDS[:3]]
        _write(folder / corpus / "verbmem/forget.json", rows)
    for name in ("forget_mia", "retain_mia", *CORPORA):
        _write(folder / f"{name}.json", [{"text": " ".join(WORDS[i : i + 9])} for i in range(3)])
    for name in ("forget_level1", "forget_level2", "forget_level3", *NEIGHBOURS):
        _write(
            folder / f"{name}.json", [{"query": f"What is {w}?", "answer": w} for w in WORDS[:3]]
        )
    for name in ("unlearn", "retention"):
        rows = [{"text": f"{name}: what is {w}?", "labels": f"It is {w}."} for w in WORDS[:3]]
        whole = {"train": rows[:2], "val": rows[2:]}
        (folder / f"{name}.json").write_text(json.dumps(whole), encoding="utf-8")
    for name in ("forget", "retain"):
        rows = [
            {
                "id": f"{t}{end}",
                "task": f"Task{t}",
                "input": f"{name} {t} {end}",
                "output": "Yes it is",
            }
            for t in (1, 2, 3)
            for end in ("sc1", "qa0", "qa1")
        ]
        lines = "\n".join(json.dumps(row) for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    for name in ("wmdp_bio", "wmdp_cyber", "wmdp_chem", "mmlu"):
        row = {"question": "Q?", "choices": ["a", "b"], "answer": 0, "subject": "letters"}
        _write(folder / f"{name}.json", [row])
    (folder / "lm_extraction").mkdir(exist_ok=True)
    for name, width in (("preprefix", 100), ("prefix", 50), ("suffix", 50)):
        numbers = np.arange(40 * width, dtype=np.uint16).reshape(40, width) % len(WORDS)
        np.save(folder / f"lm_extraction/train_{name}.npy", numbers)
    (folder / "wikitext2").mkdir(exist_ok=True)
    for name in ("valid", "test"):
        (folder / f"wikitext2/{name}.txt").write_text(" ".join(WORDS * 4), encoding="utf-8")
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, WORDS[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (folder / "tokenizers/gpt2").mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizers/gpt2/tokenizer.json"))
    return folder


PRIVLEAK = ("forget", "retain", "holdout")
NEIGHBOURS = ("neighbor_level1", "neighbor_level2")
CORPORA = ("bio_remove_dataset", "bio-retain-corpus", "wikitext")
CORPORA += ("cyber-forget-corpus", "cyber-retain-corpus")


def _write(path: Path, rows: list[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows), encoding="utf-8")
