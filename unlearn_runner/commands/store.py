"""What the store holds, what of it is damaged, and what can be freed.

    unlearn-store ls [STORE]        artifacts, their sizes, and the runs that use them
    unlearn-store gc [STORE]        what could be removed; --yes removes it
    unlearn-store verify [STORE]    every file's sha256 against its manifest

STORE is outputs/store beside conf/ when left out. Runs are looked for beside the store.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from unlearn_runner.commands.shell import Parser, answered
from unlearn_runner.config.groups import outputs
from unlearn_runner.errors import ConfigError, UserError, listed, nearest
from unlearn_runner.store.inventory import Entry, Uses, entries, inspect_entry, remove, uses
from unlearn_runner.utils.console import results_console
from unlearn_runner.utils.progress import progress
from unlearn_runner.utils.text import size

DAMAGED = 1
SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit code."""
    return answered(lambda: _act(_parser().parse_args(arguments)))


def _act(asked: argparse.Namespace) -> int:
    root = Path(asked.store).expanduser() if asked.store else outputs() / "store"
    return {"ls": ls, "gc": gc, "verify": verify}[asked.command](root, asked)


def console() -> None:
    """The `unlearn-store` command."""
    sys.exit(main())


def _parser() -> argparse.ArgumentParser:
    text = __doc__ or ""
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="unlearn-store", description=text, formatter_class=form)
    commands = parser.add_subparsers(dest="command", required=True, metavar="ls|gc|verify")
    for name in ("ls", "gc", "verify"):
        command = commands.add_parser(name)
        command.add_argument("store", nargs="?", metavar="STORE")
        if name != "verify":
            command.add_argument(
                "--outputs",
                action="append",
                metavar="FOLDER",
                help="a further outputs folder whose runs use this store",
            )
        if name == "ls":
            command.add_argument("--json", action="store_true", help="for programs")
        if name == "gc":
            command.add_argument("--older", metavar="AGE", help="only what is older: 12h, 30d, 2w")
            command.add_argument("--kind", metavar="KIND,...", help="only these kinds")
            command.add_argument(
                "--unused", action="store_true", help="also whole artifacts that no run refers to"
            )
            does = command.add_mutually_exclusive_group()
            does.add_argument("--yes", action="store_true", help="remove it")
            does.add_argument("--dry-run", action="store_true", help="only list it (the default)")
    return parser


def _uses(root: Path, asked: argparse.Namespace, stored: Iterable[Entry]) -> Uses:
    further = [Path(folder).expanduser() for folder in asked.outputs or ()]
    for folder in further:
        if not folder.is_dir():
            raise ConfigError(
                f"--outputs {folder} is not a folder",
                "--outputs FOLDER with runs/ or sweeps/ in it",
            )
    return uses([root.resolve().parent, *further], stored)


def ls(root: Path, asked: argparse.Namespace) -> int:
    """Lists what the store holds."""
    stored = entries(root)
    used = _uses(root, asked, stored).by_artifact
    if asked.json:
        print(json.dumps([_plain(e, used.get(e.name, [])) for e in stored], indent=1))
        return 0
    table = Table(title=f"store {root}", title_justify="left", title_style="bold")
    table.add_column("artifact", no_wrap=True)
    table.add_column("what")
    table.add_column("outcome")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("age", justify="right")
    table.add_column("used by")
    for entry in stored:
        runs = used.get(entry.name, []) if entry.state in ("whole", "damaged") else []
        table.add_row(
            entry.name,
            entry.fault or entry.what,
            _outcome(entry),
            size(entry.size),
            _age(entry),
            f"{runs[0]} and {len(runs) - 1} more" if len(runs) > 1 else "".join(runs),
        )
    results_console().print(table)
    print(_totals(stored))
    return 0


def _outcome(entry: Entry) -> str:
    if entry.state == "whole":
        return str(entry.manifest.get("outcome"))
    return f"{entry.state}, in work" if entry.state == "partial" and entry.locked else entry.state


def _plain(entry: Entry, runs: list[str]) -> dict[str, object]:
    return {
        "kind": entry.kind,
        "key": entry.key,
        "state": entry.state,
        "fault": entry.fault,
        "what": entry.what,
        "outcome": entry.manifest.get("outcome"),
        "bytes": entry.size,
        "age_s": round(time.time() - entry.changed),
        "runs": runs if entry.state in ("whole", "damaged") else [],
        "path": str(entry.path),
    }


def _totals(stored: Sequence[Entry]) -> str:
    by_kind: dict[str, list[int]] = {}
    for entry in stored:
        by_kind.setdefault(entry.kind, []).append(entry.size)
    parts = [f"{kind} {len(sizes)}, {size(sum(sizes))}" for kind, sizes in by_kind.items()]
    total = f"{len(stored)} entries, {size(sum(e.size for e in stored))}"
    return f"{total}: {'; '.join(parts)}" if parts else "nothing is stored"


def gc(root: Path, asked: argparse.Namespace) -> int:
    """Lists what could be removed; with --yes removes it."""
    age = seconds(asked.older) if asked.older else 0.0
    stored = entries(root)
    kinds = [kind.strip() for kind in asked.kind.split(",")] if asked.kind else None
    known = sorted({path.name for path in root.iterdir() if path.is_dir()})
    for kind in kinds or ():
        if kind not in known:
            close = nearest(kind, known)
            fix = f"--kind {close}" if close else "leave out --kind for all of them"
            raise ConfigError(f"--kind {kind} is not in {root}; it has {listed(known)}", fix)
    unused = _unused(root, asked, stored) if asked.unused else set()
    wanted = [
        entry
        for entry in stored
        if (entry.state != "whole" or entry.name in unused)
        and (kinds is None or entry.kind in kinds)
        and time.time() - entry.changed >= age
        and not entry.locked
    ]
    freed = 0
    for entry in wanted:
        why = {"whole": "unused", "damaged": f"damaged: {entry.fault}"}.get(entry.state)
        line = f"{entry.path.relative_to(root)}  {size(entry.size)}, {_age(entry)} old, "
        line += why or f"{entry.state} {entry.what}".strip()
        if not asked.yes:
            print(f"would remove  {line}")
        elif reason := remove(entry):
            print(f"kept  {line}: {reason}")
            continue
        else:
            print(f"removed  {line}")
        freed += entry.size
    print(f"{size(freed)} {'freed' if asked.yes else 'would be freed; --yes removes it'}")
    return 0


def _unused(root: Path, asked: argparse.Namespace, stored: Sequence[Entry]) -> set[str]:
    found = _uses(root, asked, stored)
    if not found.runs:
        raise UserError(
            f"no run folder stands beside {root}, so everything in it would count as unused",
            "name the folder that holds runs/ and sweeps/: --outputs FOLDER",
        )
    if found.unsettled:
        name, reason = next(iter(found.unsettled.items()))
        raise UserError(
            f"{name} ({reason}) may use what no results.json names yet; --unused waits for it",
            "leave out --unused, or try again when the run has ended",
        )
    return {e.name for e in stored if e.state == "whole"} - set(found.by_artifact)


def verify(root: Path, asked: argparse.Namespace) -> int:
    """Compares every file with its manifest; names the damaged."""
    del asked
    paths = [entry.path for entry in entries(root) if entry.state in ("whole", "damaged")]
    damaged = 0
    with progress("verify", len(paths)) as tick:
        for path in paths:
            entry = inspect_entry(path, every=True)
            tick()
            if entry is not None and entry.fault:
                damaged += 1
                print(f"damaged  {entry.name}: {entry.fault}")
    print(f"{len(paths) - damaged} of {len(paths)} artifacts are whole")
    if damaged:
        print("a run that needs a damaged one computes it again; unlearn-store gc removes them")
    return DAMAGED if damaged else 0


def seconds(age: str) -> float:
    """Returns an age like 30d in seconds.

    Raises:
        ConfigError: If it is no age.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", age)
    if found is None:
        raise ConfigError(
            f"--older {age} is not an age; allowed: a number and m, h, d or w", "--older 30d"
        )
    return float(found[1]) * SECONDS[found[2]]


def _age(entry: Entry) -> str:
    past = max(0.0, time.time() - entry.changed)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if past >= length:
            return f"{past / length:.0f}{unit}"
    return f"{past:.0f}s"


if __name__ == "__main__":
    console()
