"""Many cases of one test that count, and skip, once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any


def each(names: str | Sequence[str], cases: Iterable[Any]) -> Callable[[Any], Any]:
    """Returns a decorator that runs a test over all cases, as `parametrize` would one by one.

    For tests on data of third parties: without the data such a test is skipped once, not once per
    case. The first case to fail is named in a note of its error; fixtures are made once for all.
    """
    parameters = [names] if isinstance(names, str) else list(names)
    values = list(cases)

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @wraps(test)
        def all_cases(*args: Any, **fixtures: Any) -> None:
            for case in values:
                parts = (case,) if isinstance(names, str) else case
                given = dict(zip(parameters, parts, strict=True))
                try:
                    test(*args, **fixtures, **given)
                except BaseException as error:
                    error.add_note(f"case: {given}")
                    raise

        signature = inspect.signature(test)
        kept = [p for name, p in signature.parameters.items() if name not in parameters]
        all_cases.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        return all_cases

    return decorate
