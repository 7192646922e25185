"""Weights & Biases: one run per run folder, offline unless the user is logged in or sets a mode.

Everything W&B writes lies in `<run folder>/wandb/`; an offline run is sent with `wandb sync`.
Neither code, command line, console nor environment are recorded; statistics of the machine and the
git commit are where the run is online, or `system` and `git` say so.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from unlearn_runner.tracking.base import (
    ANSWERS,
    TABLE,
    Mirrored,
    Sink,
    Tracker,
    numbers,
    require,
    table,
    undotted,
)
from unlearn_runner.tracking.login import logged_in, obstacle
from unlearn_runner.tracking.provenance import repository
from unlearn_runner.utils.redact import redacted

T = TypeVar("T")

PROJECT = "unlearn-runner"
LONGEST = 128  # characters of a name
MODES = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline"}


@dataclass(frozen=True)
class Wandb(Tracker):
    """A W&B run with the configuration, every line of telemetry, the scores, table and figures.

    Each stage has an axis of its own, `<stage>/step`, so that charts are grouped by stage. W&B's
    own step is the line's place among all lines: a continued run says the same again.
    """

    mode: Literal["auto", "offline", "online", "disabled"] = "auto"
    """`auto` is what WANDB_MODE says; without it online for a user who is logged in."""
    project: str | None = None
    """WANDB_PROJECT, or unlearn-runner, when null."""
    entity: str | None = None
    """User or team; the account's default when null."""
    group: str | None = None
    """Name of the sweep when null."""
    job_type: str = "unlearn"
    """What every run is for, whatever stages it needs before."""
    tags: tuple[str, ...] = ()
    notes: str | None = None
    system: bool | None = None
    """Record the load of processor, memory and GPUs; null does where the run is online."""
    git: bool | None = None
    """Record commit and remote of the repository one stands in, as `git` of the configuration; null
    does where the run is online."""

    def __post_init__(self) -> None:
        if self.mirrors:
            require("wandb", "wandb")

    @property
    def mirrors(self) -> bool:
        """Whether W&B is wanted at all."""
        mode = os.environ.get("WANDB_MODE") if self.mode == "auto" else self.mode
        return mode != "disabled"

    def open(self, run: Mirrored) -> Sink:
        """Starts the run; offline, with a warning, when W&B cannot be reached."""
        import wandb

        # It would write elsewhere if it did not find its folder.
        (run.folder / "wandb").mkdir(exist_ok=True)
        with _inside(run.folder / "wandb"):
            # Beforehand: what is printed while it sets itself up obeys no setting of a run.
            wandb.setup(settings=wandb.Settings(silent=True))
            opened = self._try_online(run) if self._online() else None
            return opened or WandbSink(self._init(run, "offline"), run)

    def _try_online(self, run: Mirrored) -> Sink | None:
        import wandb

        problem = obstacle()
        if problem is None:
            before = set(_folders(run, "run"))
            try:
                return WandbSink(self._init(run, "online"), run)
            except Exception as error:
                problem = f"{type(error).__name__}: {str(error)[:150]}"
            # W&B's process would take the next run of this id for the one that failed.
            wandb.teardown(exit_code=1)
            for folder in set(_folders(run, "run")) - before:
                shutil.rmtree(folder, ignore_errors=True)
        place = run.folder / "wandb" / "offline-run-*"
        run.warn(f"{problem}; recording offline, `wandb sync {place}` sends it later")
        return None

    def _online(self) -> bool:
        mode = MODES.get(os.environ.get("WANDB_MODE", "")) if self.mode == "auto" else self.mode
        return logged_in() if mode is None else mode == "online"

    def _init(self, run: Mirrored, mode: Literal["online", "offline"]) -> Any:
        import wandb

        online = mode == "online"
        system = online if self.system is None else self.system
        git = online if self.git is None else self.git
        settings = wandb.Settings(
            mode=mode,
            # Shorter than the patience, so that there is time left to go offline.
            init_timeout=self.patience / 3,
            finish_timeout=self.patience / 2,
            silent=True,
            console="off",
            disable_code=True,
            disable_git=True,  # it would come with command line and user
            disable_job_creation=True,
            save_code=False,
            use_dot_wandb=False,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=not system,
            x_save_requirements=False,
        )
        named = {
            "name": run.name[:LONGEST],
            "project": self.project or os.environ.get("WANDB_PROJECT") or PROJECT,
            "entity": self.entity,
            "group": (self.group or run.sweep or "")[:LONGEST] or None,
            "job_type": self.job_type,
            "tags": self.tags,
            "notes": self.notes,
        }
        return wandb.init(
            dir=run.folder,
            id=run.identity,
            resume="allow",
            reinit="create_new",
            config={**run.config, **({"git": redacted(repository())} if git else {})},
            settings=settings,
            **redacted(named),
        )


class WandbSink(Sink):
    """An opened W&B run."""

    def __init__(self, opened: Any, mirrored: Mirrored) -> None:
        self.run, self.mirrored = opened, mirrored
        self.defined: set[str] = set()
        self.lines = 0

    def line(self, facts: Mapping[str, Any]) -> None:
        """Logs the numbers under `<stage>/<key>` against `<stage>/step`."""
        axis = f"{facts['stage']}/step"
        place, self.lines = self.lines, self.lines + 1
        if self.run.resumed and facts["step"] <= (self.run.summary.get(axis) or 0):
            return  # W&B has it from before the interruption
        stage = facts["stage"]
        named = {f"{stage}/{undotted(key)}": value for key, value in numbers(facts).items()}
        if axis not in self.defined:
            self.run.define_metric(axis, hidden=True)
        for key in named.keys() - self.defined:
            self.run.define_metric(key, step_metric=axis)
        self.defined |= {axis, *named}
        # Committed at once: what waits for the next line is lost with a process that is killed.
        self.run.log({axis: facts["step"], **named}, step=place, commit=True)

    def results(self, content: Mapping[str, Any]) -> None:
        """Puts scores and provenance into the summary; logs the table, figures and both files."""
        import wandb

        scores = content["scores"]
        facts = {k: content[k] for k in ("divergence", "provenance") if k in content}
        facts = {name: _undotted(value) for name, value in facts.items()}
        named = {f"scores/{undotted(name)}": value for name, value in scores.items()}
        self.run.summary.update({**named, **facts})
        with _inside(self.mirrored.folder / "wandb"):
            rows: list[Any] = [list(row) for row in table(scores)]
            shown: dict[str, Any] = {"results": wandb.Table(columns=list(TABLE), data=rows)}
            if told := self._safely(self.mirrored.answers, "answers", []):
                data: list[Any] = [list(row) for row in told]
                shown["answers"] = wandb.Table(columns=list(ANSWERS), data=data)
            drawn = self._safely(self.mirrored.figures, "figures", {})
            if drawn:
                elements = (figure.partition("?>")[2] for figure in drawn.values())
                shown["figures"] = wandb.Html("\n".join(elements), inject=False)
            self.run.log(shown, step=max(self.lines, self.run.starting_step), commit=True)
            artifact = wandb.Artifact(f"run-{self.mirrored.identity}", type="run")
            with artifact.new_file("results.json") as file:
                file.write(json.dumps(content, indent=1, ensure_ascii=False))
            for name, figure in drawn.items():
                with artifact.new_file(f"figures/{name}") as file:
                    file.write(figure)
            artifact.add_file(str(self.mirrored.folder / "metrics.jsonl"), skip_cache=True)
            self.run.log_artifact(artifact)

    def _safely(self, made: Callable[[Path], T], what: str, nothing: T) -> T:
        try:
            return made(self.mirrored.folder)
        except Exception as error:  # a picture less is no reason to lose what is still to come
            self.mirrored.warn(f"no {what}: {type(error).__name__}: {error}")
            return nothing

    def finish(self, status: str) -> None:
        """Closes the run; a complete offline run takes the place of those of earlier attempts."""
        self.run.summary.update({"status": status})
        here = Path(self.run.dir).parent
        complete = status in ("completed", "diverged")
        self.run.finish(exit_code=0 if complete else 1)
        if complete:
            for folder in _folders(self.mirrored, "offline-run"):
                if folder != here:
                    shutil.rmtree(folder, ignore_errors=True)


def _undotted(value: Any) -> Any:
    """Returns facts under names without dots."""
    if not isinstance(value, Mapping):
        return value
    return {undotted(str(key)): _undotted(item) for key, item in value.items()}


def _folders(run: Mirrored, kind: str) -> Iterator[Path]:
    return (run.folder / "wandb").glob(f"{kind}-*-{run.identity}")


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Keeps W&B's copies and logs below `folder`, unless the user has a place for them.

    It would fill `~/.local/share` and `~/.cache`, which on a cluster are small.
    """
    places = {"WANDB_DATA_DIR": folder / "data", "WANDB_CACHE_DIR": folder / "cache"}
    new = {name: str(place) for name, place in places.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]
