"""A process that works for another: a rank, a job of a sweep.

Its order is the first line of its standard input. When that input ends its owner is gone, and it
ends, too: nobody else would end it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

from unlearn_runner.errors import FAILURE, SIGNALLED, USAGE_ERROR, UserError


def work(order: Callable[[str], int]) -> NoReturn:
    """Carries an order out, and exits with its code, or with the one of what ended it."""
    text = sys.stdin.readline()
    threading.Thread(target=_outlive_nobody, daemon=True).start()
    code = _code(order, text)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of libraries, and of process groups whose peers are gone, can abort a plain exit.
    os._exit(code)


def _outlive_nobody() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)


def _code(order: Callable[[str], int], text: str) -> int:
    from unlearn_runner import interrupt

    with interrupt.heeded():
        try:
            return order(text)
        except UserError as error:
            print(error, file=sys.stderr)
            return USAGE_ERROR
        except KeyboardInterrupt as error:
            return SIGNALLED + getattr(error, "number", signal.SIGINT)
        except Exception:
            # Where ranks leave one by one, the last ones lose their connections.
            if number := interrupt.requested():
                return SIGNALLED + number
            traceback.print_exc()
            return FAILURE
