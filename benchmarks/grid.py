"""What a whole grid costs: seconds in all, what the machinery adds per job, and a second time.

python benchmarks/grid.py                                  the 84 points on the embedded benchmark
python benchmarks/grid.py --output FOLDER -- debug=tiny    overrides follow --; FOLDER is kept
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

GRID = ("sweep=gru_gamma_tau", "method=ga")


def unlearn(output: Path, *overrides: str) -> float:
    """Runs a command, shows what it says, and returns its seconds."""
    command = ["-m", "unlearn_runner.run", *overrides, f"output_dir={output}"]
    started = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True)
    return time.perf_counter() - started


def results(output: Path) -> list[dict[str, Any]]:
    """Returns what each job left."""
    found = sorted((output / "sweeps").glob("*/*/results.json"))
    return [json.loads(path.read_text()) for path in found]


def computed(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the stages that were computed, each as the job that did it wrote it down."""
    return [s for job in jobs for s in job["stages"] if not s["cached"] and s["needed"]]


def main() -> None:
    """Runs the grid twice, and one of its points."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, help="outputs folder; a temporary one by default")
    parser.add_argument("overrides", nargs="*", help="of every job, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(given.output or Path(folder), (*GRID, *given.overrides))


def measure(output: Path, command: tuple[str, ...]) -> None:
    """Prints what a grid costs on an empty store, and when everything is there."""
    if output.exists() and any(output.iterdir()):
        sys.exit(f"{output} is not empty: the grid is measured on an empty store")
    first = unlearn(output, *command)
    jobs = results(output)
    stages = computed(jobs)
    own = sum(stage["seconds"] for stage in stages)
    again = unlearn(output, *command)
    plain = [p for p in command if not p.startswith(("sweep=", "rectifier."))]
    point = ("rectifier.gamma=0.9", "rectifier.tau=1", "name=one")
    unlearn(output, *plain, *point)  # its own folder; every artifact is there
    single = unlearn(output, *plain, *point)
    published = Counter(p.parts[-3] for p in (output / "store").glob("*/[!.]*/manifest.json"))
    kinds = Counter(stage["kind"] for stage in stages)
    assert kinds["finetune"] == published["finetune"], "a stage was computed twice, or twice noted"
    per_kind = ", ".join(
        f"{kind} {sum(s['seconds'] for s in stages if s['kind'] == kind) / count:.1f} s x {count}"
        for kind, count in kinds.items()
    )
    print(f"\njobs                     {len(jobs)}  ({dict(Counter(j['status'] for j in jobs))})")
    print(f"in the store             {dict(published)}")
    print(f"stages                   {per_kind}")
    print(f"whole grid               {first:.0f} s")
    print(f"  of that in stages      {own:.0f} s")
    print(f"  added per job          {(first - own) / len(jobs):.2f} s")
    print(f"same command again       {again:.1f} s")
    print(f"one finished point again {single:.1f} s")


if __name__ == "__main__":
    main()
