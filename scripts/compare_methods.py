"""Every method once, on one target and retain model, and a table of what became of both sides.

    python scripts/compare_methods.py --data FOLDER   TOFU forget10, from scratch: docs/methods.md
    python scripts/compare_methods.py --pocket        the embedded benchmark; prints the table

The learning rate of each is one of four, chosen by a look at the pocket benchmark: much is
forgotten at it, and retain answers keep most of their probability. It is one sensible setting, not
a tuned one; a sweep would order them otherwise.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOC = ROOT / "docs" / "methods.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"

LOW, GENTLE, MIDDLE, HIGH = (f"train.lr={lr}" for lr in ("3e-5", "7e-5", "1e-4", "5e-4"))
SETTINGS: dict[str, tuple[str, ...]] = {
    "ga": (LOW,),
    "gd": (GENTLE,),
    "kl": (GENTLE,),
    "wga": (HIGH,),
    "npo": (MIDDLE,),
    "tnpo": (HIGH,),
    "wtnpo": (HIGH,),
    "simnpo": (HIGH,),
    "idk": (HIGH,),
    "ap": (HIGH,),
    "dpo": (HIGH,),
    "altpo": (HIGH,),
    "rmu": (HIGH,),
    "undial": (HIGH,),
    "ihl": (HIGH,),
    "satimp": (HIGH,),
    "ceu": (MIDDLE, "method.retain.loss=nll"),
    "pdu": (HIGH, "method.warmup=2"),
    "me": (HIGH,),
    "task_vector": (MIDDLE, "method.alpha=3"),
    "tru": (MIDDLE, "method.alpha=2"),
}
COLUMNS = {
    "utility": "model_utility",
    "forget quality": "forget_quality",
    "KS": "forget_quality_ks",
    "forget prob.": "forget.probability",
    "forget ROUGE-L": "forget.rouge_l",
    "forget truth ratio": "forget.truth_ratio",
    "retain prob.": "retain.probability",
}
OWN = ("start", "alternates", "unlearn")
"""Kinds of stages that a method has for itself; its fine-tunes are recognised by their names."""


@dataclass(frozen=True)
class Ran:
    """One finished run."""

    method: str
    setting: str
    results: dict[str, Any]
    seconds: float


def run(name: str, setting: tuple[str, ...], common: list[str], outputs: Path) -> Ran | None:
    """Runs one method, or takes it from the store; none when it failed."""
    words = [f"method={name}", "rectifier=none", *common, *setting]
    words += [f"output_dir={outputs}", f"name=compare-{name}", "overwrite=true"]
    print(f"unlearn {' '.join(words)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "unlearn_runner.run", *words], cwd=ROOT, check=False
    )
    if done.returncode:
        return None
    results = json.loads((outputs / "runs" / f"compare-{name}" / "results.json").read_text("utf-8"))
    return Ran(name, " ".join(setting), results, spent(results, outputs / "store"))


def spent(results: dict[str, Any], store: Path) -> float:
    """Returns the seconds that the method's own stages took when they were computed."""
    total = 0.0
    for stage in results["stages"]:
        if stage["kind"] in OWN or stage["name"].startswith("fine-tune "):
            manifest = store / stage["kind"] / stage["key"] / "manifest.json"
            total += json.loads(manifest.read_text("utf-8"))["seconds"]
    return total


def table(ran: list[Ran]) -> str:
    """Returns the Markdown table, target and retain model first."""
    lines = [
        "| method | setting | " + " | ".join(COLUMNS) + " | seconds |",
        "|---|---|" + "---:|" * (len(COLUMNS) + 1),
    ]
    for model in ("target", "retain_model"):
        numbers = [cell(ran[0].results["scores"].get(f"{model}.{key}")) for key in COLUMNS.values()]
        lines.append(f"| *{model}* | | {' | '.join(numbers)} | |")
    for one in ran:
        numbers = [cell(one.results["scores"].get(key)) for key in COLUMNS.values()]
        method = one.method if one.results["status"] == "completed" else f"{one.method} (diverged)"
        setting = f"`{one.setting}`" if one.setting else ""
        lines.append(f"| `{method}` | {setting} | {' | '.join(numbers)} | {one.seconds:.0f} |")
    return "\n".join(lines)


def cell(value: float | None) -> str:
    """Returns a score: three decimals, or a power of ten where that would be nothing."""
    if value is None:
        return "-"
    return f"{value:.3f}" if value == 0 or abs(value) >= 5e-4 else f"{value:.1e}"


def main() -> None:
    """Runs them all and writes or prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with TOFU's JSON files")
    parser.add_argument("--pocket", action="store_true", help="the embedded benchmark instead")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs", help="store and runs")
    parser.add_argument("--methods", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("more", nargs="*", default=[], help="overrides for all of them")
    chosen = parser.parse_args()
    if chosen.pocket == bool(chosen.data):
        parser.error("either --data FOLDER or --pocket")
    common = list(chosen.more)
    if chosen.data:
        common += ["experiment=tofu_scratch", "benchmark.forget=forget10"]
        common += [f"benchmark.data_dir={chosen.data.resolve()}"]
    outputs = chosen.output.resolve()
    found = [run(name, SETTINGS[name], common, outputs) for name in chosen.methods]
    ran = [one for one in found if one is not None]
    text = table(ran)
    print(text)
    if len(ran) < len(found):
        sys.exit("some runs failed: docs/methods.md is left as it was")
    if chosen.data and list(chosen.methods) == list(SETTINGS):
        before = DOC.read_text("utf-8")
        head, _, rest = before.partition(BEGIN)
        _, _, tail = rest.partition(END)
        DOC.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
