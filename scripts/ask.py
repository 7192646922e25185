"""What the models of a sweep say to a question: base, target and each unlearned model.

    python scripts/ask.py outputs/sweeps/demo-pretrained "What is the capital of France?" Paris

Answers are greedy, of at most 32 tokens, prompted as the runs prompt. Exit code 1 where one lacks
the expected words.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from unlearn_runner.config.build import build
from unlearn_runner.data.prompts import Prompting
from unlearn_runner.models.folder import is_adapter
from unlearn_runner.models.load import load_frozen, load_tokenizer
from unlearn_runner.report.discovery import find_runs
from unlearn_runner.report.run_folder import RunFolder

NEW_TOKENS = 32


def models(run: RunFolder) -> dict[str, tuple[Path, Path | None]]:
    """Returns the folders of a run's models by what it calls them; an adapter's with its base's."""
    found: dict[str, tuple[Path, Path | None]] = {}
    for name in ("base", "target", "unlearn"):
        ran = run.stage(name)
        folder = None if ran is None else run.artifact(ran)
        if folder is not None:
            found[name] = (folder, found["target"][0] if is_adapter(folder) else None)
    return found


def answer(model: Any, tokenizer: Any, template: Prompting, question: str) -> str:
    """Returns what a model says."""
    rendered = template.render(tokenizer, question, "x")
    prompt = rendered.text[: rendered.prompt_end]
    ids = tokenizer(
        prompt, return_tensors="pt", add_special_tokens=rendered.special_tokens
    ).input_ids
    new = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    return str(tokenizer.decode(new[0, ids.shape[1] :], skip_special_tokens=True)).strip()


def main() -> int:
    """Asks each model once, and prints what it says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("folder", type=Path, help="a sweep's, or a run's")
    parser.add_argument("question")
    parser.add_argument("expected")
    args = parser.parse_args()
    asked: dict[Path, bool] = {}
    print(args.question)
    for run in find_runs([args.folder]).runs:
        template = build(run.config["model"]["template"], Prompting, "model.template")
        for name, (folder, base) in models(run).items():
            if folder in asked:
                continue
            model = load_frozen(folder, "float32", torch.device("cpu"), base=base)
            said = answer(model, load_tokenizer(base or folder), template, args.question)
            asked[folder] = args.expected in said
            label = f"unlearned, {run.choice('rectifier')}" if name == "unlearn" else name
            print(f"  {label:<16} {said}", flush=True)
    return 0 if asked and all(asked.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
