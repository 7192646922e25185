"""Commands killed at random moments, and what they end at compared with the undisturbed.

    python scripts/random_kills.py --kills 50 --seed 0

Two runs, a sweep, `unlearn-score`, `unlearn-report` and `unlearn-store gc` run once, and
then again in an empty folder, where each gets SIGKILL up to three times, at moments drawn over the
time it took, and is repeated until it ends; and so on in new folders. `unlearn-store ls` must work
after each kill, and no command have a traceback. In the end every model, evidence, score and report
must be the same, and no file more or less be there. Prints a line per kill and one for all; exits
with 1 where something differs.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TINY = (
    *("debug=tiny", "parallel.threads=1", "parallel.device=cpu", "target.train.steps=60"),
    *("target.train.checkpoint_every=4", "train.steps=40", "train.checkpoint_every=4"),
    # The smallest model's answers have no word in common with the right ones.
    "benchmark.metric.model_utility.parts=[probability,truth_ratio]",
)
RUNS = {
    "npo": ("method=npo", "rectifier=gru", "evaluate.every=20"),
    "lora": ("method=gd", "rectifier=gru", "adapter=lora"),
    "sweep": ("-m", "method=ga,npo", "rectifier=none", "sweep.select.criterion=forgetting"),
}
COMMANDS = (*RUNS, "score", "report", "gc")
AT_ONCE = 6
"""Kills of one command in one folder, at most: it may end before one."""
COMPUTED = re.compile(r"^\[\d+/\d+\] .* \w+/\w+  \d+\.\ds$", re.MULTILINE)
CLOCK = re.compile(
    r'"tokens_per_s": [\d.e+]+|made [\d :-]+UTC|<dt>commit</dt>.*?</dd>'
    r'|<section aria-labelledby="cost">.*?</section>'
    r"|<dt>(?:device|driver)[^<]*</dt><dd>.*?</dd>\n?"  # of the process that computed, if one did
    r'|data-v="[\d.e-]+">[\d.]+</td>(?=<td class="more">)',  # seconds stand before the folder
    re.DOTALL,
)
"""What telemetry and report.html say of times, of the checkout and of who computed."""
HASHED = (".safetensors", ".parquet")
READ = ("along.json", "scores.json", "selection.json", "metrics.jsonl", "report.html")


class Place:
    """An outputs folder in which the commands run, and what is to be said against them."""

    def __init__(self, outputs: Path) -> None:
        self.outputs, self.faults, self.commands = outputs, list[str](), 0
        self.took: dict[str, float] = {}
        """Seconds of each command that ran to its end."""

    def run(self, kills: Callable[["Place", str], None]) -> None:
        """Runs the commands one after another, each after `kills` of it."""
        self.outputs.mkdir()
        for name in COMMANDS:
            if name == "gc":  # it shall have something to remove
                for path in sorted((self.outputs / "store").glob("*/[!.]*")):
                    shutil.copytree(path, path.with_name(path.name[::-1]))
            kills(self, name)
            self.took[name] = self.start(name) or 0
        self.start("npo")
        if computed := COMPUTED.findall(self.said("npo")):
            self.faults.append(f"npo after gc computes again: {computed}")

    def words(self, name: str) -> list[str]:
        """Returns a command: a module and its arguments."""
        store, commands = self.outputs / "store", "unlearn_runner.commands"
        if name in RUNS:
            words = [*TINY, *RUNS[name], f"name={name}", f"output_dir={self.outputs}"]
            return ["unlearn_runner.run", *words]
        if name == "score":
            stages = self.json("runs/npo/results.json")["stages"]
            keys = {stage["name"]: stage["key"] for stage in stages}
            names = ("evaluate unlearned", "evaluate retain_model")
            log, retain = (str(store / "evaluate" / keys[name]) for name in names)
            return [f"{commands}.score", log, "--retain", retain, "--json"]
        if name == "report":
            return [f"{commands}.report", str(self.outputs / "sweeps" / "sweep")]
        return [f"{commands}.store", name, str(store), *["--unused", "--yes"][: 2 * (name == "gc")]]

    def json(self, name: str) -> dict[str, Any]:
        """Returns what a file of the outputs folder says."""
        return json.loads((self.outputs / name).read_text("utf-8"))

    def said(self, name: str) -> str:
        """Returns what a command's last start printed."""
        return self.outputs.with_suffix(f".{name}").read_text("utf-8")

    def start(self, name: str, after: float | None = None) -> float | None:
        """Starts a command; returns the seconds it took, none if it was killed after so many."""
        self.commands += 1
        begun = time.monotonic()
        with self.outputs.with_suffix(f".{name}").open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *self.words(name)],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                cwd=ROOT,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(after)
            finally:  # Ctrl-C reaches this process alone
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        killed = process.wait() == -signal.SIGKILL
        took = time.monotonic() - begun
        said = self.said(name)
        if "Traceback" in said or (process.returncode and not killed):
            self.faults.append(f"{name} exits with {process.returncode}:\n{said[-3000:]}")
        return None if killed else took

    def found(self) -> dict[str, str]:
        """Returns all that must not depend on kills, by the name of its file."""
        found = {"score": self.said("score")}
        for path in sorted(self.outputs.rglob("*")):
            name = str(path.relative_to(self.outputs))
            found[name] = ""
            if path.name in ("results.json", "status.json"):
                content = self.json(name)
                found[name] = json.dumps([content["status"], content.get("scores")])
            elif path.suffix in HASHED:
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
            elif path.name in READ:
                found[name] = CLOCK.sub("", path.read_text("utf-8"))
        return {name: text.replace(str(self.outputs), "OUTPUTS") for name, text in found.items()}


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Returns where two places differ, a line each."""
    lines = [f"{name} is in one of both only" for name in sorted(one.keys() ^ other)]
    for name in sorted(one.keys() & other):
        if one[name] != other[name]:
            pairs = enumerate(zip(one[name], other[name], strict=False))
            at = max(0, next((i for i, (a, b) in pairs if a != b), 0) - 40)
            lines.append(f"{name}: {one[name][at:][:120]!r}, {other[name][at:][:120]!r}")
    return lines


def main() -> int:
    """Runs everything; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rng, kills = random.Random(chosen.seed), 0

    def kill(place: Place, name: str) -> None:
        nonlocal kills
        length = whole.took[name]
        for _ in range(AT_ONCE):
            if kills == chosen.kills:
                return
            after = rng.uniform(0, length)
            if ended := place.start(name, after):
                length = ended  # much was done before, or the machine has less to do
                continue
            kills += 1
            last = (place.said(name).splitlines() or ["nothing yet"])[-1]
            print(f"kill {kills}: {name} after {after:.1f} s: {last.strip()[:70]}", flush=True)
            if (place.outputs / "store").exists():
                place.start("ls")

    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        places = [whole := Place(Path(folder) / "undisturbed")]
        whole.run(lambda *_: None)
        print(", ".join(f"{name} {whole.took[name]:.1f} s" for name in COMMANDS), flush=True)
        faults, expected = whole.faults, whole.found()
        while kills < chosen.kills and not faults:
            places.append(place := Place(Path(folder) / f"after-{kills}"))
            place.run(kill)
            faults += place.faults + differences(expected, place.found())
    print(*faults, sep="\n", end="\n" * bool(faults))
    end = "something differs" if faults else "everything equal"
    print(f"{kills} kills, {sum(place.commands for place in places)} commands, {end}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
