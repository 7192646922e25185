"""What our commands share: mistakes in two lines, a reader that has seen enough, Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from unlearn_runner.errors import SIGNALLED, USAGE_ERROR, ConfigError, UserError
from unlearn_runner.utils.redact import redacted


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line as all else that is wrong is said."""

    def error(self, message: str) -> NoReturn:
        """Refuses the command line."""
        raise ConfigError(message, f"{self.prog.split()[0]} --help")


def answered(work: Callable[[], int | None]) -> int:
    """Does a command's work; returns the exit code, which is the work's own where it has one."""
    try:
        return work() or 0
    except UserError as error:
        print(redacted(str(error)), file=sys.stderr)
        return USAGE_ERROR
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return SIGNALLED + signal.SIGINT
