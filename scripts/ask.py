"""What the models of a sweep say to a question: base, target and each unlearned model.

    python scripts/ask.py outputs/sweeps/demo-pretrained "What is the capital of France?" Paris

Also to the first question that was to be forgotten. Answers are greedy, of at most 32 tokens,
prompted as the runs prompt. Exit code 1 where an answer to the given question lacks the expected
words.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from unlearn_runner.config.build import build
from unlearn_runner.data.prompts import Prompting
from unlearn_runner.evaluation.benchmarks.base import Benchmark
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


def say_all(runs: Sequence[RunFolder], question: str) -> list[str]:
    """Prints and returns what each model of the runs says, each model once."""
    said: dict[Path, str] = {}
    print(question)
    for run in runs:
        template = build(run.config["model"]["template"], Prompting, "model.template")
        for name, (folder, base) in models(run).items():
            if folder in said:
                continue
            model = load_frozen(folder, "float32", torch.device("cpu"), base=base)
            said[folder] = answer(model, load_tokenizer(base or folder), template, question)
            label = f"unlearned, {run.choice('rectifier')}" if name == "unlearn" else name
            print(f"  {label:<16} {said[folder]}", flush=True)
    return list(said.values())


def main() -> int:
    """Asks each model two questions, and prints what it says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("folder", type=Path, help="a sweep's, or a run's")
    parser.add_argument("question")
    parser.add_argument("expected")
    args = parser.parse_args()
    runs = find_runs([args.folder]).runs
    if not runs:
        parser.error(f"{args.folder} holds no run")
    known = say_all(runs, args.question)
    benchmark = build(runs[0].config["benchmark"], Benchmark, "benchmark")
    forgotten = benchmark.splits().forget.items[0]
    say_all(runs, forgotten.question)
    print(f"  {'to be forgotten':<16} {forgotten.answer}")
    return 0 if all(args.expected in words for words in known) else 1


if __name__ == "__main__":
    sys.exit(main())
