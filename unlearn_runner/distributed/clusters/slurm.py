"""SLURM: a sweep is a job array, submitted and put back into the queue by submitit.

The command that submitted waits for the jobs and prints their table; it may be ended at any time,
and the same command finds the jobs again, queued, running or over. Run folders are the truth.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le

from unlearn_runner.distributed.clusters.base import Cluster, Job, Monitor
from unlearn_runner.distributed.clusters.spec import LOG, last_line
from unlearn_runner.errors import ConfigError, UserError
from unlearn_runner.utils import signals
from unlearn_runner.utils.console import console
from unlearn_runner.utils.files import read_object, write_json

POLL_S = 1.0
GOES_ON = ("PENDING", "RUNNING", "REQUEUED", "CONFIGURING", "COMPLETING", "SUSPENDED")
"""States of a job that SLURM still has to do, whether the queue lists it or not."""
RETRIES = 20
"""Of a command that the controller does not answer: some ten minutes."""
SWEEPS, FOLDER, JOBS = "sweeps", ".slurm", "jobs.json"
JOB_ID = re.compile(r"\d+(_\d+)?")
TOOLS = ("sbatch", "srun", "squeue", "scontrol")


@dataclass(frozen=True)
class Slurm(Cluster):
    """One array task per job and node; a job's ranks are its children, as everywhere."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time_min: Annotated[int, Ge(1), Le(525_600)] = 240
    """Time limit in minutes. A job that reaches it is put back and continues from its step."""
    at_once: Annotated[int, Ge(1), Le(100_000)] = 16
    """Tasks of the array that may run at a time."""
    nodes: Annotated[int, Ge(1), Le(10_000)] = 1
    """Of each job."""
    gpus: Annotated[int, Ge(1), Le(256)] | None = None
    """Of each node."""
    cpus: Annotated[int, Ge(1), Le(4096)] | None = None
    """Of each node."""
    mem_gb: Annotated[float, Ge(0), Le(1_000_000)] | None = None
    """Of each node."""
    signal_s: Annotated[int, Ge(1), Le(86_400)] = 90
    """Seconds before the limit at which SLURM warns, by SIGUSR2."""
    requeues: Annotated[int, Ge(0), Le(100_000)] = 20
    """How often a job may reach its limit; a preemption does not count, if jobs are longer than
    ten minutes (submitit tells the two apart by the time that was spent)."""
    setup: tuple[str, ...] = ()
    """Lines of the batch script before the job: modules, an environment."""
    python: str | None = None
    """Of the nodes; null is the interpreter that runs here."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further options of sbatch by name."""

    def __post_init__(self) -> None:
        if self.signal_s >= 60 * self.time_min:
            raise ConfigError(
                f"cluster.signal_s={self.signal_s} is no less than the limit of "
                f"{self.time_min} min: a job would be warned before it begins",
                f"cluster.signal_s={30 * self.time_min}",
            )

    def check(self) -> None:
        """Checks for SLURM's commands and for submitit."""
        if find_spec("submitit") is None:
            raise ConfigError(
                "cluster=slurm needs the package submitit, which is not installed; without it: "
                "cluster=local",
                "pip install 'unlearn-runner[slurm]'",
            )
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        if missing:
            raise ConfigError(
                f"cluster=slurm: {', '.join(missing)} not found; this is no machine of a SLURM "
                "cluster",
                "run it on a login node, or cluster=local",
            )

    def run(self, jobs: Sequence[Job], monitor: Monitor) -> None:
        """Submits the jobs that SLURM does not have yet, and waits for all."""
        first = jobs[0].folder
        folder = first.parent / FOLDER
        if folder.parent.parent.name != SWEEPS:
            folder /= first.name  # single runs share no command
        folder.mkdir(parents=True, exist_ok=True)
        known = submitted_ids(folder / JOBS)
        active = states(set(known.values()))
        queued = {j.name: known[j.name] for j in jobs if known.get(j.name) in active}
        new = [job for job in jobs if job.name not in queued]
        if new:
            ids = self._submit(new, folder)
            queued |= dict(zip((j.name for j in new), ids, strict=True))
            write_json(folder / JOBS, known | queued)
        console.print(
            f"slurm: {len(new)} submitted, {len(jobs) - len(new)} in the queue from before "
            f"(squeue -j {','.join(sorted({i.partition('_')[0] for i in queued.values()}))})",
            markup=False,
        )
        _wait({j.name: (j, queued[j.name]) for j in jobs}, monitor, folder)

    def _submit(self, jobs: Sequence[Job], folder: Path) -> list[str]:
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        from unlearn_runner.distributed.clusters.task import Task

        executor = SlurmExecutor(folder, max_num_timeout=self.requeues, python=self.python)
        parameters = {
            "job_name": f"unlearn-{jobs[0].folder.parent.name}",
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "time": self.time_min,
            "nodes": self.nodes,
            "ntasks_per_node": 1,
            "gpus_per_node": self.gpus,
            "cpus_per_task": self.cpus,
            "mem": None if self.mem_gb is None else f"{int(self.mem_gb * 1024)}M",
            "signal_delay_s": self.signal_s,
            "array_parallelism": self.at_once,
            "setup": list(self.setup) or None,
            "additional_parameters": {"requeue": True, **self.options},
        }
        executor.update_parameters(**{key: v for key, v in parameters.items() if v is not None})
        try:
            with executor.batch():
                submitted = [executor.submit(Task(job.spec().text())) for job in jobs]
        except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
            reason = " ".join(str(error).split())[-300:]
            raise UserError(
                f"SLURM refused the jobs: {reason}", "cluster.partition, cluster.account, ..."
            ) from None
        return [job.job_id for job in submitted]


def _wait(waiting: dict[str, tuple[Job, str]], monitor: Monitor, folder: Path) -> None:
    """Waits for jobs to leave the queue, and reports each to the monitor."""
    seen: dict[str, str] = {}
    absent: dict[str, int] = {}
    while waiting:
        if signals.requested():
            ids = ",".join(sorted({i.partition("_")[0] for _, i in waiting.values()}))
            console.print(
                f"slurm has {len(waiting)} jobs that go on by themselves; scancel {ids} ends them",
                markup=False,
            )
            signals.check()
        if monitor.stopped:
            subprocess.run(
                ["scancel", *(number for _, number in waiting.values())], capture_output=True
            )
        active = states({number for _, number in waiting.values()})
        for name, (job, number) in list(waiting.items()):
            state = active.get(number)
            if state is not None:
                absent.pop(name, None)
                if state == "RUNNING" and seen.get(name) != state:
                    monitor.begin(job)
                seen[name] = state
                continue
            absent[name] = absent.get(name, 0) + 1
            if absent[name] >= _patience(job) and last_state(number) not in GOES_ON:
                del waiting[name]
                _end(job, number, monitor, folder)
        time.sleep(POLL_S)


def _patience(job: Job) -> int:
    """Returns how often a job may be missing from the queue before it counts as ended.

    One on its way back into it is missing for a moment: for long on a busy machine, if it was
    interrupted and has itself put back.
    """
    return 10 if job.written("status.json").get("status") == "interrupted" else 2


def _end(job: Job, number: str, monitor: Monitor, folder: Path) -> None:
    status = job.written("status.json").get("status")
    if status in ("completed", "diverged"):
        monitor.end(job, 0)
        return
    state = last_state(number)
    if monitor.stopped or state.startswith("CANCELLED") or status == "interrupted":
        monitor.end(job, 128 + signals.SIGNALS[1])
        return
    cause = (
        f"SLURM job {number} ended as {state}" if state not in ("", "COMPLETED", "FAILED") else ""
    )
    logs = [job.folder / LOG, *sorted(folder.glob(f"{number}_*_log.err"))]
    reason = next((line for log in logs if (line := last_line(log))), "")
    code = 2 if status != "running" and reason and state == "COMPLETED" else 1
    monitor.end(job, code, ": ".join(filter(None, (cause, reason))) or None)


def states(jobs: set[str]) -> dict[str, str]:
    """Returns the states of those jobs that SLURM still has to do, by id.

    Raises:
        UserError: If SLURM does not answer, several times.
    """
    if not jobs:
        return {}
    whole = ",".join(sorted({job.partition("_")[0] for job in jobs}))
    query = ["squeue", "--noheader", "--array", "--jobs", whole, "--format", "%i|%T"]
    done = subprocess.run(query, capture_output=True, text=True)
    attempt = 0
    while done.returncode and "Invalid job id" not in done.stderr:
        if (attempt := attempt + 1) > RETRIES:
            raise UserError(f"squeue does not answer: {done.stderr.strip()}", "the same command")
        time.sleep(min(30.0, 2.0**attempt))
        signals.check()
        done = subprocess.run(query, capture_output=True, text=True)
    lines = [line.strip().partition("|") for line in done.stdout.splitlines()]
    return {job: state for job, _, state in lines}


def last_state(job: str) -> str:
    """Returns the state a job ended in; empty where SLURM does not know it any more."""
    for query, pattern in (
        (["scontrol", "--oneliner", "show", "job"], r"\bJobState=(\w+)"),
        (["sacct", "--noheader", "--allocations", "--format", "State", "--jobs"], r"(\w+)"),
    ):
        done = subprocess.run([*query, job], capture_output=True, text=True)
        if done.returncode == 0 and (found := re.search(pattern, done.stdout)):
            return found[1]
    return ""


def submitted_ids(path: Path) -> dict[str, str]:
    """Returns the ids of submitted jobs by name; nothing of what is no such file."""
    items = (read_object(path) or {}).items()
    return {n: i for n, i in items if isinstance(i, str) and JOB_ID.fullmatch(i)}
