"""Evaluates a checkpoint on a benchmark, with no run around it.

    unlearn-eval FOLDER benchmark=tofu benchmark.data_dir=DIR model=llama32_1b retain_model.log=LOG
    unlearn-eval owner/name benchmark=pocket model=hf retain_model.path=OTHER
    unlearn-eval ADAPTER model=hf model.path=BASE plan_only=true

FOLDER is what save_pretrained of a model and its tokenizer wrote, or an adapter (its base is
model.path), or a hub id. The rest are overrides as of `unlearn`, where evaluate.path=FOLDER is the
same command; model=OPTION says how it is prompted. Forget quality needs a retain model: one of

  retain_model.log=LOG       its evaluation log: open-unlearning's, TOFU's or a folder of ours
  retain_model.path=OTHER    the model itself

often used
  name=NAME                  folder outputs/evals/NAME (derived from the command otherwise)
  evaluate.precision=bf16    evaluate.batch_size=N    evaluate.revision=COMMIT
  benchmark.forget=forget05  plan_only=true           parallel=ddp
  -m evaluate.path=A,B       several checkpoints, one table
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from unlearn_runner.commands.unlearn import run_command
from unlearn_runner.config.checkpoint import PATH
from unlearn_runner.config.open_unlearning import refuse_open_unlearning
from unlearn_runner.errors import ConfigError, assignment

HELP = "unlearn-eval --help"


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluates what the command line names; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--help" in words or "-h" in words:
        print((__doc__ or "").strip())
        return 0
    sys.argv = ["unlearn", *words]
    return run_command(words, as_evaluation)


def as_evaluation(words: Sequence[str]) -> list[str]:
    """Returns the arguments of `unlearn` that evaluate the checkpoint which the words name.

    Raises:
        ConfigError: If they name none, or several.
    """
    refuse_open_unlearning(words)
    named = [i for i, word in enumerate(words) if _is_checkpoint(words, i)]
    chosen = sum(word.lstrip("+").partition("=")[0] == PATH for word in words)
    if len(named) + chosen == 1:
        return [assignment(PATH, w, shell=False) if i in named else w for i, w in enumerate(words)]
    if not named and not chosen:
        raise ConfigError("no checkpoint is named; allowed: a folder or a hub id", HELP)
    several = ",".join(words[i] for i in named)
    raise ConfigError(
        f"{len(named) + chosen} checkpoints are named where one is evaluated; several are a sweep",
        assignment(PATH, several, verbatim=True, before="unlearn-eval -m ") if not chosen else "",
    )


def _is_checkpoint(words: Sequence[str], i: int) -> bool:
    """Returns whether a word is no flag, no flag's value and no override, but a place."""
    word = words[i]
    if word.startswith("-") or (i and words[i - 1] in ("--config-dir", "-cd", "--cfg", "-c")):
        return False
    return os.path.exists(word) or ("=" not in word and (word[:1] != "~" or "/" in word))


if __name__ == "__main__":
    sys.exit(main())
