"""What only Hydra's own application does: its information flags, its launchers and sweepers.

All else is composed by `compose`, which runs nothing. Here Hydra makes objects out of its own node,
so that is looked at first: nothing in it may name code that is not Hydra's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import islice, pairwise
from tempfile import TemporaryDirectory
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearn_runner.config import hydra_node
from unlearn_runner.config.command_line import CONFIG_DIR, SWEEP, CommandLine, is_value
from unlearn_runner.config.compose import Composed, compose_nodes, explain, forced, hydra_open
from unlearn_runner.config.groups import CONF, groups
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

    check_nodes(command)
    typed = sys.argv[1:]
    with TemporaryDirectory() as aside:
        # The folders of --config-dir go into the search path, with those that are there.
        own = [
            flag
            for before, flag in pairwise(["", *command.flags])
            if flag not in CONFIG_DIR and before not in CONFIG_DIR
        ]
        sys.argv[1:] = [*own, *forced(command.overrides, command.folders)]
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


def check_nodes(command: CommandLine) -> None:
    """Looks at Hydra's own node, with every option that a sweep would choose, before it is used.

    Raises:
        ConfigError: If it names code that is not Hydra's, or cannot be composed.
    """
    options = groups(CONF, *command.folders)
    parser = OverridesParser.create()
    axes = []
    for text in command.overrides:
        override = None if text[0] == "~" else parser.parse_override(text)
        if override is None or not override.is_sweep_override():
            axes.append([text])
            continue
        values = override.sweep_string_iterator()
        if is_value(text, options):  # a value brings nothing with it
            values = islice(values, 1)
        axes.append([f"{override.key_or_group}={value}" for value in values])
    first = [axis[0] for axis in axes]
    others = [
        [*first[:i], option, *first[i + 1 :]] for i, axis in enumerate(axes) for option in axis[1:]
    ]
    try:
        with hydra_open():
            for overrides in (first, *others):
                _, around = compose_nodes(overrides, command.folders)
                hydra_node.check(around.hydra)
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error) from None


def _composed(config: Any, command: CommandLine) -> Composed:
    own = HydraConfig.get()
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    overrides = [o.lstrip("+") for o in own.overrides.task]
    in_sweep = own.mode == RunMode.MULTIRUN
    choices = dict(own.runtime.choices)
    return Composed(cast(dict[str, Any], plain), overrides, choices, command.folders, in_sweep)
