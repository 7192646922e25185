"""What an evaluation costs, beside a plain evaluator that makes a pass for every metric.

    python benchmarks/evaluation.py --data FOLDER --work FOLDER    FOLDER holds TOFU's JSON files
    python benchmarks/evaluation.py --data FOLDER --work FOLDER --share 0.1 --rounds 1

Both sides evaluate one model on the same rows, each turn in a process of its own: processor
seconds without loading, most memory of the process, every row's scores and texts, which must be
equal. The model is a Llama of 5.3 M weights with a tokenizer of 4,096 pieces, trained on a part of
TOFU and kept in --work: it ends most answers, and runs to 200 tokens where it has learned too
little.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from compare import write
from plain_evaluator import PlainEvaluator, Scores
from rich.table import Table
from workload import TEMPLATE

from unlearn_runner.api import compose
from unlearn_runner.data.encode import collate, encode_rows
from unlearn_runner.data.rows import Rows
from unlearn_runner.data.sources import Tofu
from unlearn_runner.distributed.ranks import ALONE
from unlearn_runner.evaluation.evaluator import Evaluator
from unlearn_runner.evaluation.metrics import suites
from unlearn_runner.evaluation.metrics.base import compute
from unlearn_runner.evaluation.metrics.evidence import Evidence
from unlearn_runner.evaluation.metrics.membership import attacks
from unlearn_runner.evaluation.metrics.memorisation.exact import exact_memorisation
from unlearn_runner.evaluation.metrics.memorisation.extraction import extraction_strength
from unlearn_runner.evaluation.metrics.rouge import rouge_l_recall
from unlearn_runner.evaluation.schema import Generation, View
from unlearn_runner.models.forward import scored_logits
from unlearn_runner.models.load import load_frozen, load_tokenizer, new_model, save, train_tokenizer
from unlearn_runner.models.shape import Shape
from unlearn_runner.utils.console import console, results_console

SHAPE, VOCABULARY = Shape(256, 1024, num_layers=4, num_heads=4), 4096
STEPS, BATCH, RATE, WARMUP = 500, 4, 2e-3, 50
Views = dict[str, tuple[View, Rows]]
ROLES = (".answer", ".paraphrased", ".perturbed")
COMMAND = "python benchmarks/evaluation.py --data FOLDER --work FOLDER"
SIDES, SUITES = ("plain", "ours"), ("default", "full")
EQUAL = 1e-6
"""Greatest relative difference of a row's score, and of one below 1 greatest difference."""
ROUGH = {"mia_min_k_plus_plus": 1e-5}
"""Where published code itself rounds more: it has a variance as a difference of squares."""


@dataclass(frozen=True)
class Measured:
    """One suite: what the turns took, and how far apart the two sides' rows are."""

    suite: str
    rows: int
    texts: int
    new_tokens: int
    seconds: dict[str, list[float]]
    """Processor seconds of each turn."""
    peak_gb: dict[str, float]
    """Most memory of a turn's process, libraries and model included."""
    ratio: float
    """Median over rounds of the plain evaluator's seconds over ours."""
    lowest: float
    highest: float
    apart: dict[str, float]
    """Greatest difference between two scores of a row, by score."""
    equal_texts: int


def main() -> None:
    """Measures, compares, prints, writes; or takes one turn."""
    args = _arguments()
    torch.set_num_threads(1)
    if args.turn:
        return turn(args)
    if not (args.work / "config.json").exists():
        prepare(args.data, args.work)
    found = [measure(args, suite) for suite in args.suites]
    show(found)
    if args.json:
        facts = {
            "command": f"{COMMAND} --share {args.share} --rounds {args.rounds}",
            "processor": platform.machine(),
            "threads": 1,
            "torch": torch.__version__,
            "share": args.share,
        }
        content = {**facts, "suites": [asdict(one) for one in found]}
        args.json.write_text(json.dumps(content, indent=1) + "\n")
    if args.baseline:
        write(args.baseline, f"{COMMAND} --share {args.share}", figures(found))
    scores = [pair for one in found for pair in one.apart.items()]
    differ = [name for name, apart in scores if apart > ROUGH.get(name, EQUAL)]
    if differ or any(one.equal_texts < one.texts for one in found):
        sys.exit(f"rows differ: {', '.join(differ) or 'texts'}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with TOFU's JSON files")
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps the model")
    parser.add_argument("--share", type=float, default=1.0, help="of every view, its first rows")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=SUITES)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="write them as a baseline")
    parser.add_argument("--turn", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def prepare(data: Path, work: Path) -> None:
    """Trains the model with a loop by hand, and saves it."""
    rows = Tofu(data_dir=str(data)).read("full")
    tokenizer: Any = train_tokenizer(
        ("".join(TEMPLATE.texts(row.question, row.answer)) for row in rows), VOCABULARY
    )
    model = new_model(SHAPE, tokenizer, seed=0)
    encoded = encode_rows(tokenizer, TEMPLATE, rows, SHAPE.context)
    adamw = torch.optim.AdamW(model.parameters(), lr=RATE)
    drawn = np.random.default_rng(0)
    for step in range(STEPS):
        chosen = drawn.choice(len(encoded), BATCH, replace=False)
        batch = collate([encoded[i] for i in chosen], tokenizer.pad_token_id, torch.device("cpu"))
        loss = torch.nn.functional.cross_entropy(scored_logits(model, batch), batch.labels)
        loss.backward()
        adamw.param_groups[0]["lr"] = RATE * min(1, (step + 1) / WARMUP) * (1 - step / STEPS)
        adamw.step()
        adamw.zero_grad()
        if step % 50 == 49:
            console.print(f"training: step {step + 1} of {STEPS}, loss {loss:.2f}", markup=False)
    save(model, tokenizer, work)


# --- a turn


def views(data: Path, share: float) -> Views:
    """Returns the views that open-unlearning's default suite scores, unseen rows included."""
    run = compose("benchmark=tofu", f"benchmark.data_dir={data}", "benchmark.suite=full")
    return {
        name: (view, rows.first(round(share * len(rows))))
        for name, (view, rows) in run.benchmark.evaluation_rows().items()
    }


def turn(args: argparse.Namespace) -> None:
    """Evaluates as one side does; leaves seconds, memory and scores in a file."""
    model = load_frozen(args.work, "float32", torch.device("cpu"))
    tokenizer, (suite,) = load_tokenizer(args.work), args.suites
    chosen = views(args.data, args.share)
    side = _plain if args.turn == "plain" else _ours
    first = {name: (view, rows.first(1)) for name, (view, rows) in chosen.items()}
    side(model, tokenizer, first, suite == "full")  # warms up, and imports what it needs
    seconds, scores = side(model, tokenizer, chosen, suite == "full")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    content = {"seconds": seconds, "peak": peak, "scores": scores}
    args.out.write_text(json.dumps(content))


def _plain(model: Any, tokenizer: Any, chosen: Views, full: bool) -> tuple[float, Scores]:
    rows = {name: rows for name, (_, rows) in chosen.items()}
    started = time.process_time()
    scores = PlainEvaluator(model, tokenizer, TEMPLATE, rows).run(full)
    return time.process_time() - started, scores


def _ours(model: Any, tokenizer: Any, chosen: Views, full: bool) -> tuple[float, Scores]:
    """Probes, evidence on the disk, and the suite's scores from it; intervals apart."""
    benchmark = compose(f"benchmark.suite={'full' if full else 'default'}").benchmark
    evaluator = Evaluator(
        template=TEMPLATE,
        views={name: rows for name, (_, rows) in chosen.items()},
        generation=Generation(),
        max_length=SHAPE.context,
        precision="float32",
        batch_size=compose().evaluate.batch_size,
        probes={name: view.probes for name, (view, _) in chosen.items()},
    )
    with TemporaryDirectory() as name:
        started = time.process_time()
        evaluator.run(model, tokenizer, Path(name), "evaluation", ALONE)
        evidence = Evidence.load(Path(name), {key: view for key, (view, _) in chosen.items()})
        compute(evidence, None, benchmark.metrics)
        seconds = time.process_time() - started
        return seconds, by_row(evidence)


def by_row(evidence: Evidence) -> Scores:
    """Returns our scores as the plain evaluator names them."""
    found: Scores = {}
    for name, view in evidence.views.items():
        for role, losses in view.record.losses.items():
            found[f"{name}.{role}"] = [loss for row in losses for loss in row]
        if (texts := view.record.texts) is not None:
            found[f"{name}.texts"] = list(texts.generations)
            found[f"{name}.rouge_l"] = rouge_l_recall(texts.generations, texts.answers).tolist()
        assert view.record.tokens is not None
        tokens = view.record.tokens.tokens
        found[f"{name}.exact_memorisation"] = exact_memorisation(tokens).tolist()
        strength = extraction_strength(tokens, "published")
        found[f"{name}.extraction_strength"] = strength.tolist()
        for key, attack in {**suites.membership(), "privleak": attacks.MinK()}.items():
            if (values := attack.of_answers(view, None)) is not None:
                found[f"{name}.{key}"] = values.tolist()
    return found


# --- both sides


def measure(args: argparse.Namespace, suite: str) -> Measured:
    """Lets the sides take turns, in alternating order."""
    turns: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for number in range(args.rounds):
        for side in SIDES if number % 2 else reversed(SIDES):
            turns[side].append(_process(args, suite, side))
            seconds = turns[side][-1]["seconds"]
            console.print(f"{suite}, round {number + 1}: {side} {seconds:.1f} s", markup=False)
    plain, ours = (turns[side][0]["scores"] for side in SIDES)
    apart, equal = compared(plain, ours)
    ratios = [p["seconds"] / o["seconds"] for p, o in zip(*turns.values(), strict=True)]
    texts = [text for name in plain if name.endswith(".texts") for text in plain[name]]
    tokenizer = load_tokenizer(args.work)
    return Measured(
        suite,
        sum(len(plain[name]) for name in plain if name.endswith(ROLES)),
        len(texts),
        sum(min(200, len(tokenizer(text)["input_ids"]) + 1) for text in texts),
        {side: [one["seconds"] for one in taken] for side, taken in turns.items()},
        {side: max(one["peak"] for one in taken) for side, taken in turns.items()},
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        apart,
        equal,
    )


def figures(found: list[Measured]) -> dict[str, Sequence[float]]:
    """Returns what a baseline keeps of the suites."""
    kept: dict[str, Sequence[float]] = {}
    for one in found:
        pairs = list(zip(*(one.seconds[side] for side in SIDES), strict=True))
        kept[f"{one.suite}: plain over ours"] = [plain / ours for plain, ours in pairs]
        kept[f"{one.suite}: our processor seconds"] = [ours for _, ours in pairs]
        kept[f"{one.suite}: our peak GB"] = [one.peak_gb["ours"]]
    return kept


def _process(args: argparse.Namespace, suite: str, side: str) -> dict[str, Any]:
    with TemporaryDirectory() as name:
        out = Path(name) / "turn.json"
        words = ["--data", args.data, "--work", args.work, "--share", args.share, "--out", out]
        words += ["--suites", suite, "--turn", side]
        subprocess.run([sys.executable, __file__, *map(str, words)], check=True)
        return json.loads(out.read_text())


def compared(plain: Scores, ours: Scores) -> tuple[dict[str, float], int]:
    """Returns how far apart two scores of a row are at most, by score; and texts that are equal."""
    apart: dict[str, float] = {}
    equal = 0
    for name, values in plain.items():
        metric = name.partition(".")[2]
        assert len(values) == len(ours[name]), name
        if metric == "texts":
            equal += sum(a == b for a, b in zip(values, ours[name], strict=True))
            continue
        mine, theirs = np.array(ours[name], float), np.array(values, float)
        gap = np.abs(mine - theirs) / np.maximum(1, np.abs(theirs))
        apart[metric] = max(apart.get(metric, 0.0), float(gap.max()))
    return apart, equal


def show(found: list[Measured]) -> None:
    """Prints the table for people."""
    title = "processor seconds of an evaluation, most memory of its process"
    table = Table(title=title, title_justify="left")
    for name in ("suite", "plain", "ours", "ratio", "plain GB", "ours GB", "apart", "equal texts"):
        table.add_column(name, justify="left" if name == "suite" else "right")
    for one in found:
        table.add_row(
            one.suite,
            *(f"{statistics.median(one.seconds[side]):.1f}" for side in SIDES),
            f"{one.ratio:.2f} ({one.lowest:.2f}-{one.highest:.2f})",
            *(f"{one.peak_gb[side]:.2f}" for side in SIDES),
            f"{max(one.apart.values()):.0e}",
            f"{one.equal_texts} of {one.texts}",
        )
    results_console().print(table)


if __name__ == "__main__":
    main()
