"""Run folder, read: what a report and a status table know of a run.

Everything comes from the folder's own files, at any moment of the run's life: a file that is not
there yet is nothing wrong, one that is not as a run writes it makes `read` refuse the folder. What
is not refused can be shown as it is: anybody may have written these files.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, cast

from unlearn_runner.config.names import identity
from unlearn_runner.errors import DataError
from unlearn_runner.report import schema
from unlearn_runner.tracking.divergence import cause
from unlearn_runner.tracking.folder import ENDED, METRICS, RESULTS, STATUS
from unlearn_runner.utils.files import OutsideError, inside
from unlearn_runner.utils.untrusted import (
    UntrustedError,
    clean,
    parse_json,
    read_bounded,
    read_json,
    read_yaml,
)

CONFIG = "config.yaml"
OTHERS = ("target.", "calibrated.", "retain_model.")
"""Prefixes of scores that are not the unlearned model's."""
DERIVED = re.compile(r"([^-,]+)-([^-,]+)-([^-,]+)(?:,|$)")
"""How the runner names a folder: benchmark, method, rectifier, then what was overridden."""
IN_NAME = ("benchmark", "method", "rectifier")

Status = Literal["waiting", "running", "completed", "diverged", "interrupted", "failed", "unknown"]
Line = Mapping[str, Any]


@dataclass(frozen=True)
class Ran:
    """One stage of a run, as `results.json` tells it."""

    name: str
    kind: str
    key: str
    cached: bool
    seconds: float
    outcome: str | None
    needed: bool = True
    """False when nothing had to be computed that reads it."""

    @property
    def artifact(self) -> str:
        """Kind and key, which is also its folder below the store."""
        return f"{self.kind}/{self.key}"


@dataclass(frozen=True)
class RunFolder:
    """One run."""

    number: int
    """From 1 on, in the order found; what the run is called throughout a report."""
    path: Path
    facts: Mapping[str, Any] = field(repr=False)
    """Of `status.json`."""
    results: Mapping[str, Any] = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """The folder's name."""
        return clean(self.path.name)

    @property
    def status(self) -> Status:
        """As recorded; a run whose process is gone counts as interrupted."""
        if self.gone:
            return "interrupted"
        recorded = self.facts.get("status", self.results.get("status", "unknown"))
        known = (*ENDED, "waiting", "running")
        return cast(Status, recorded if recorded in known else "unknown")

    @cached_property
    def gone(self) -> bool:
        """Whether it says it is running, on this machine, and its process no longer exists."""
        if self.facts.get("status") not in ("running", "waiting"):
            return False
        pid = self.facts.get("pid")
        if self.facts.get("host") != socket.gethostname() or pid is None:
            return False
        try:
            os.kill(pid, 0)
        except OSError as error:  # PermissionError: somebody else's, and alive
            return isinstance(error, ProcessLookupError)
        return False

    @cached_property
    def scores(self) -> dict[str, float | None]:
        """The unlearned model's scores; a diverged run has names without numbers."""
        found = self.results.get("scores", {})
        return {k: v for k, v in found.items() if not k.startswith(OTHERS)}

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Returns the ends of the 95 % interval within the run of one of the `scores`."""
        ends = self.results.get("intervals", {}).get(metric)
        return None if ends is None else (ends[0], ends[1])

    @cached_property
    def divergence(self) -> Mapping[str, Any]:
        """Which stage diverged, at which step and why; empty where none did."""
        if "divergence" in self.results:
            return self.results["divergence"]
        at = next((line for line in self.lines if line.get("diverged")), None)
        return {} if at is None else {"stage": at["stage"], "cause": cause(at)}

    def scores_of(self, model: Literal["target", "retain_model"]) -> dict[str, float | None]:
        """Returns the scores of what the unlearned model is compared with."""
        return self._others[model]

    @cached_property
    def _others(self) -> dict[str, dict[str, float | None]]:
        found: dict[str, dict[str, float | None]] = {prefix[:-1]: {} for prefix in OTHERS}
        for name, value in self.results.get("scores", {}).items():
            if name.startswith(OTHERS):
                model, _, metric = name.partition(".")
                found[model][metric] = value
        return found

    @cached_property
    def stages(self) -> list[Ran]:
        """The stages, in the order in which they were brought about."""
        names = ("name", "kind", "key", "cached", "seconds", "outcome")
        return [
            Ran(*(stage[n] for n in names), needed=stage.get("needed", True))
            for stage in self.results.get("stages", ())
        ]

    def stage(self, name: str) -> Ran | None:
        """Returns the stage that the run calls so."""
        return next((stage for stage in self.stages if stage.name == name), None)

    @property
    def unlearned(self) -> str | None:
        """The key of the unlearned model; runs that share it are one sample, not two."""
        ran = self.stage("unlearn")
        return ran.key if ran is not None and ran.outcome == "completed" else None

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Command, seeds, versions, commit."""
        return self.results.get("provenance", {})

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Every setting that can matter to a number, by dotted key."""
        return identity(self.config)

    def choice(self, group: str) -> str:
        """Returns which option of a group the run has: method, rectifier, adapter or benchmark.

        As recorded; else as the runner named the folder; else the class.
        """
        recorded = self.provenance.get("choices", {}).get(group)
        if recorded:
            return str(recorded)
        named = self.config.get("name") is None or self.path.parent.parent.name == "sweeps"
        if named and group in IN_NAME and (match := DERIVED.match(self.name)):
            return match[1 + IN_NAME.index(group)]
        settings = self.config.get(group)
        target = settings.get("_target_", "?") if isinstance(settings, Mapping) else "?"
        return str(target).rpartition(".")[2]

    @cached_property
    def lines(self) -> list[Line]:
        """The telemetry of all stages; of a step that was repeated after a kill, its last line.

        Raises:
            UntrustedError: If a line is not as a run writes it.
        """
        by_step: dict[tuple[object, object], Line] = {}
        try:
            texts = read_bounded(self.path / METRICS).splitlines()
        except FileNotFoundError:
            return []
        for text in texts:
            try:
                line = parse_json(text)
            except UntrustedError:
                continue  # the line a kill cut off
            schema.check_line(line)
            by_step[line["stage"], line["step"]] = line
        return list(by_step.values())

    def steps(self, stage: str) -> list[Line]:
        """Returns the telemetry of one stage, in order of its steps."""
        found = [line for line in self.lines if line["stage"] == stage]
        return sorted(found, key=lambda line: line["step"])

    def share_of_steps(self, fact: str) -> float | None:
        """Returns the share of unlearning steps of which a fact is true; none where none has it."""
        hits = [bool(line[fact]) for line in self.steps("unlearn") if fact in line]
        return sum(hits) / len(hits) if hits else None

    @property
    def rectified_share(self) -> float | None:
        """Share of unlearning steps that were rectified; none where nothing could be."""
        return self.share_of_steps("rectified")

    @property
    def stores(self) -> list[Path]:
        """Where the run's artifacts may lie, the likeliest first."""
        above = list(self.path.resolve().parents)
        beside = [p.parent for p in above[:3] if p.name in ("runs", "evals", "sweeps")]
        store, outputs = (self.config.get(name) for name in ("store", "output_dir"))
        found = [Path(os.path.expanduser(store))] if store else []
        found += [place / "store" for place in beside]
        return found + ([Path(os.path.expanduser(outputs)) / "store"] if outputs else [])

    def artifact(self, ran: Ran, store: Path | None = None) -> Path | None:
        """Returns the folder of a stage's artifact, looked for in `store` first, or none."""
        for place in [store, *self.stores] if store else self.stores:
            with suppress(OutsideError):
                if (folder := inside(place, ran.artifact)).is_dir():
                    return folder
        return None


def _in_todays_words(results: dict[str, Any]) -> dict[str, Any]:
    """Returns results of an earlier release, which called the retain model the reference."""
    scores, stages = results.get("scores"), results.get("stages")
    if isinstance(scores, dict):
        old = re.compile(r"^reference\.")
        results["scores"] = {old.sub("retain_model.", k): v for k, v in scores.items()}
    for stage in stages if isinstance(stages, list) else []:
        if isinstance(stage, dict) and isinstance(stage.get("name"), str):
            stage["name"] = re.sub(r"\breference$", "retain_model", stage["name"])
    return results


def read(path: Path, number: int = 1, telemetry: bool = False) -> RunFolder:
    """Returns the run of a folder, its telemetry read and checked at once or when asked for.

    Raises:
        DataError: If one of its files is not as a run writes it.
    """
    facts = _checked(path / STATUS, read_json, schema.STATUS)
    results = _checked(path / RESULTS, lambda p: _in_todays_words(read_json(p)), schema.RESULTS)
    config = _checked(path / CONFIG, lambda p: _cached_yaml(p, p.stat().st_mtime_ns), schema.CONFIG)
    run = RunFolder(number, path, facts, results, config)
    if telemetry or run.status == "diverged":
        _checked(path / METRICS, lambda _: {"lines": run.lines}, {})
    return run


def _checked(
    path: Path, reader: Callable[[Path], dict[str, Any]], checks: schema.Checks
) -> dict[str, Any]:
    try:
        content = reader(path)
        schema.check(content, checks)
    except FileNotFoundError:
        return {}
    except UntrustedError as error:
        raise DataError(
            clean(f"{path} cannot be read: {error}"),
            f"run it again (what is stored costs nothing), or move {clean(path.parent.name)} away",
        ) from None
    return content


@lru_cache(maxsize=4096)
def _cached_yaml(path: Path, changed: int) -> dict[str, Any]:
    """Returns a configuration; a live table reads hundreds of them every other second."""
    return read_yaml(path)
