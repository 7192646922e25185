"""What only Hydra's own application does: its information flags, its launchers and sweepers.

All else is composed by `compose`, which runs nothing. Here Hydra makes objects out of its own node,
so that is looked at first: nothing in it may name code that is not Hydra's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearn_runner.config.command_line import SWEEP, CommandLine
from unlearn_runner.config.compose import Composed, explain, forced
from unlearn_runner.config.groups import CONF
from unlearn_runner.errors import USAGE_ERROR, UserError


def run(
    command: CommandLine, work: Callable[[Composed], int], say: Callable[[object], None]
) -> int:
    """Runs a command through Hydra's application; returns the exit code.

    Args:
        command: The command line.
        work: What is done with each configuration; returns an exit code.
        say: Prints a mistake.

    Raises:
        ConfigError: If Hydra cannot compose it, or its own node is not as it must be.
    """
    mistakes: list[UserError] = []
    codes = [0]

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def job(config: Any) -> None:
        # Kept from Hydra, which would print them its own way and, in a sweep, stop at the first.
        sys.argv[1:] = typed
        try:
            codes.append(work(_composed(config, command)))
        except UserError as error:
            mistakes.append(error)
        except (HydraException, OmegaConfBaseException) as error:
            mistakes.append(explain(error))

    typed = sys.argv[1:]
    with TemporaryDirectory() as aside:
        sys.argv[1:] = [*command.flags, *forced(command.overrides, command.folders)]
        if {*SWEEP} & {*command.flags}:
            # Hydra writes a multirun.yaml there; the jobs' own folders are the record.
            sys.argv.append(f"hydra.sweep.dir={aside}")
        try:
            job()  # pyright: ignore[reportCallIssue]  (hydra.main supplies the configuration)
        except (HydraException, OmegaConfBaseException) as error:
            raise explain(error) from None
        finally:
            sys.argv[1:] = typed
    for mistake in mistakes:
        say(mistake)
    return USAGE_ERROR if mistakes else max(codes)


def _composed(config: Any, command: CommandLine) -> Composed:
    own = HydraConfig.get()
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    overrides = [o.lstrip("+") for o in own.overrides.task]
    in_sweep = own.mode == RunMode.MULTIRUN
    choices = dict(own.runtime.choices)
    return Composed(cast(dict[str, Any], plain), overrides, choices, command.folders, in_sweep)
