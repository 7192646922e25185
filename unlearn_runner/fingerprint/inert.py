"""Which modules of this package take no part in computing an artifact."""

INERT: frozenset[str] = frozenset(
    f"unlearn_runner.{name}"
    for name in (
        *("errors", "records", "progress", "store", "tracking", "report", "fingerprint", "keys"),
        *("plan", "pipeline", "build", "launch", "worker", "run", "experiment", "explain", "help"),
        *("naming", "results", "parallel", "session", "interrupt", "commands"),
        *(
            "disk",
            "locks",
            "inventory",
            "origins",
            "job",
            "perform",
            "foreign",
            "owned",
            "estimate",
            "demands",
            "choose",
        ),
    )
)
"""Modules, with all below them, that cannot change a result: neither followed nor hashed."""

_PREFIXES = tuple(f"{module}." for module in INERT)


def inert(module: str) -> bool:
    """Whether the module is listed or lies below one that is."""
    return f"{module}.".startswith(_PREFIXES)
