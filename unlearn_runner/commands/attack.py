"""Attacks: does what a run has forgotten come back, and more of it than the attack itself teaches?

    unlearn-attack outputs/runs/NAME attack=relearn
    unlearn-attack outputs/sweeps/NAME attack=relearn attack.share=0.5 attack.lr=1e-4
    unlearn-attack outputs/runs/A outputs/runs/B attack=int8,nf4,prefix,paraphrase,few_shot

RUN is the folder of a finished run, or of a sweep. The unlearned model is attacked and evaluated
again, and so is the retain model, which never knew the forget rows: the control. Recovered is the
share of what was forgotten that comes back; control what the attack teaches the retain model, as a
share of what it lacks; excess the difference, what was still there. Written into the run folder:
attack-*.json, one for each setting; unlearn-report shows them.

settings
  attack=OPTION[,OPTION...]   relearn relearn_other int8 nf4 prefix paraphrase few_shot
  attack.KEY=VALUE            unlearn attack=relearn --help says which there are
  parallel=ddp parallel.ranks=2   and other settings of parallel; as in the run otherwise
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from unlearn_runner.commands.on_runs import Words, measure, plan_again, read_words, recomposed
from unlearn_runner.commands.shell import answered
from unlearn_runner.config.groups import groups
from unlearn_runner.errors import ConfigError, UserError, listed

if TYPE_CHECKING:
    from unlearn_runner.pipeline.job import PlannedJob
    from unlearn_runner.report.run_folder import RunFolder

HELP = "unlearn-attack --help"
GROUPS = ("attack", "parallel")
"""Groups of `unlearn` that are taken as they are."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Attacks what the command line names; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--help" in words or "-h" in words:
        print((__doc__ or "").strip())
        return 0
    return answered(lambda: _attack(read_words(words, HELP, GROUPS)))


def _attack(words: Words) -> int:
    chosen, others = _chosen(words)

    def plans(run: RunFolder) -> list[PlannedJob]:
        jobs = []
        for option in chosen:
            own = [f"attack={option}", *(w for w in others if w.startswith("attack."))]
            config = recomposed(run, [f"attack={option}", *others], _taken(words))
            jobs.append(plan_again(run, config, "attack", own))
        return jobs

    def show(job: PlannedJob) -> None:
        from unlearn_runner.pipeline.attacking import file_name
        from unlearn_runner.report.attacks import print_table

        print_table(job.folder / file_name(job.run.attack), job.folder.name)

    return measure(words.folders, refuse_unfinished, plans, show)


def _taken(words: Words) -> list[str]:
    return [group for group in GROUPS if group == "attack" or words.names(group)]


def _chosen(words: Words) -> tuple[list[str], list[str]]:
    """Returns the options that are named, and the other words.

    Raises:
        ConfigError: If none is, or one that is no attack.
    """
    named = [w.partition("=")[2] for w in words.composed if w.lstrip("+").startswith("attack=")]
    options = [option for text in named for option in text.strip("[]").split(",") if option]
    known = [option for option in groups()["attack"] if option != "none"]
    if not options or "none" in options:
        folders = shlex.join(str(folder) for folder in words.folders)
        raise ConfigError(
            f"no attack is named; allowed: {listed(known)}",
            f"unlearn-attack {folders} attack=relearn",
        )
    return options, [w for w in words.composed if not w.lstrip("+").startswith("attack=")]


def refuse_unfinished(run: RunFolder) -> None:
    """Refuses a run that has left no unlearned model.

    Raises:
        UserError: Saying why.
    """
    if (run.config.get("evaluate") or {}).get("path") is not None:
        raise UserError(f"{run.path} evaluates a checkpoint; allowed: runs that unlearn")
    if run.status != "completed":
        again = "" if run.status == "diverged" else str(run.provenance.get("command", ""))
        raise UserError(f"{run.path}: the run is {run.status}, and has left no model", again)


if __name__ == "__main__":
    sys.exit(main())
