"""One rank of a run: rank 0 performs the job, the others follow it through its stages."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback

from unlearn_runner.errors import UserError
from unlearn_runner.job import Job

USAGE_ERROR, SIGNALLED = 2, 128


def main() -> int:
    """Runs the job that our launcher hands over; returns the exit code."""
    text = sys.stdin.readline()
    threading.Thread(target=_outlive_nobody, daemon=True).start()
    job = Job.read(text)
    sys.argv = ["unlearn", *job.arguments]
    from unlearn_runner import interrupt

    with interrupt.heeded():
        try:
            serve(job)
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
            return 1
    return 0


def _outlive_nobody() -> None:
    """Ends this process when the launcher is gone: nobody would end it otherwise."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)


def serve(job: Job) -> None:
    """Takes part in a job, as the rank that the environment names."""
    from unlearn_runner.config import validate
    from unlearn_runner.perform import perform
    from unlearn_runner.pipeline import complete, follow
    from unlearn_runner.plan import plan
    from unlearn_runner.progress import be_silent
    from unlearn_runner.store import Store

    run = validate(job.config)
    stages, store = plan(run), Store(job.store, run.verify)
    main = os.environ.get("RANK", "0") == "0"
    if not main:
        be_silent()
    from unlearn_runner.session import open_session

    session = open_session(run.parallel)
    # Rank 0's word: another might look at the store later, and see more.
    if session.ranks.tell(complete(stages, store)):
        session = None
    if main:
        perform(job, run, stages, session)
    elif session is not None:
        follow(stages, store, session)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Without it, threads of process groups whose peers are gone can abort the interpreter's exit.
    os._exit(code)
