"""Command `unlearn-store`: what a store holds, what is damaged, and what can be freed.

    unlearn-store ls [STORE]        artifacts, their sizes, and the runs that use them
    unlearn-store gc [STORE]        what could be removed; --yes removes it
    unlearn-store verify [STORE]    every file's sha256 against its manifest

STORE is outputs/store beside conf/ when left out. Its runs are those beside it, those of every
outputs folder that has used it, and those of --outputs.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from unlearn_runner.commands.shell import Parser, answered
from unlearn_runner.config.groups import outputs
from unlearn_runner.errors import ConfigError, UserError, listed, nearest
from unlearn_runner.store.inventory import Entry, Uses, entries, inspect_entry, remove, users, uses
from unlearn_runner.utils.columns import TitledTable
from unlearn_runner.utils.console import results_console
from unlearn_runner.utils.files import expanded
from unlearn_runner.utils.progress import progress
from unlearn_runner.utils.text import printable, size

DAMAGED = 1
SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit code."""
    return answered(lambda: _run(_parser().parse_args(arguments)))


def _run(args: argparse.Namespace) -> int | None:
    root = expanded("STORE", args.store) if args.store else outputs() / "store"
    return {"ls": ls, "gc": gc, "verify": verify}[args.command](root, args)


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="unlearn-store", description=__doc__, formatter_class=form)
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


def _uses(root: Path, args: argparse.Namespace, stored: Iterable[Entry]) -> Uses:
    further = [expanded("--outputs", folder) for folder in args.outputs or ()]
    for folder in further:
        if not folder.is_dir():
            raise ConfigError(
                f"--outputs {folder} is not a folder",
                "--outputs FOLDER with runs/ or sweeps/ in it",
            )
    noted = [user.outputs for user in users(root) if user.outputs]
    places = [root.resolve().parent, *noted, *(folder.resolve() for folder in further)]
    return uses(dict.fromkeys(places), stored)


def ls(root: Path, args: argparse.Namespace) -> None:
    """Lists what the store holds."""
    stored = entries(root)
    used = _uses(root, args, stored).by_artifact
    # The remains of an attempt have an artifact's name, and no run uses them.
    found = [(e, used.get(e.name, []) if e.state in ("whole", "damaged") else []) for e in stored]
    if args.json:
        print(json.dumps([_plain(entry, runs) for entry, runs in found], indent=1))
        return
    table = TitledTable(f"store {root}")
    table.add_column("artifact", no_wrap=True)
    table.add_column("what")
    table.add_column("outcome")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("age", justify="right")
    table.add_column("used by")
    for entry, runs in found:
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
        "runs": runs,
        "path": str(entry.path),
    }


def _totals(stored: Sequence[Entry]) -> str:
    by_kind: dict[str, list[int]] = {}
    for entry in stored:
        by_kind.setdefault(entry.kind, []).append(entry.size)
    parts = [f"{kind} {len(sizes)}, {size(sum(sizes))}" for kind, sizes in by_kind.items()]
    total = f"{len(stored)} entries, {size(sum(e.size for e in stored))}"
    return f"{total}: {'; '.join(parts)}" if parts else "nothing is stored"


def gc(root: Path, args: argparse.Namespace) -> None:
    """Lists what could be removed; with --yes removes it."""
    age = seconds(args.older) if args.older else 0.0
    stored = entries(root)
    kinds = [kind.strip() for kind in args.kind.split(",")] if args.kind else None
    known = sorted({path.name for path in root.iterdir() if path.is_dir() and path.name[0] != "."})
    for kind in kinds or ():
        if kind not in known:
            fix = "leave out --kind for all of them"
            if close := nearest(kind, known):
                fix = shlex.join(["unlearn-store", "gc", str(args.store or root), "--kind", close])
            raise ConfigError(f"--kind {kind} is not in {root}; it has {listed(known)}", fix)
    unused = _unused(root, args, stored) if args.unused else set[str]()
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
        line = printable(line + (why or f"{entry.state} {entry.what}".strip()))
        if not args.yes:
            print(f"would remove  {line}")
        elif reason := remove(entry):
            print(f"kept  {line}: {reason}")
            continue
        else:
            print(f"removed  {line}")
        freed += entry.size
    print(f"{size(freed)} {'freed' if args.yes else 'would be freed; --yes removes it'}")


def _unused(root: Path, args: argparse.Namespace, stored: Sequence[Entry]) -> set[str]:
    for user in users(root):
        if user.fault:
            raise UserError(
                f"{user.fault}; everything that only its runs use would count as unused",
                f"make it readable, or, if it is gone for good: rm {shlex.quote(str(user.note))}",
            )
    used = _uses(root, args, stored)
    if not used.runs:
        raise UserError(
            f"no run folder stands beside {root}, so everything in it would count as unused",
            "name the folder that holds runs/ and sweeps/: --outputs FOLDER",
        )
    if used.unsettled:
        name, reason = next(iter(used.unsettled.items()))
        raise UserError(
            f"{name} ({reason}) may use what no results.json names yet; --unused waits for it",
            "leave out --unused, or try again when the run has ended",
        )
    return {e.name for e in stored if e.state == "whole"} - set(used.by_artifact)


def verify(root: Path, _: argparse.Namespace) -> int:
    """Compares every file with its manifest; names the damaged."""
    paths = [entry.path for entry in entries(root) if entry.state in ("whole", "damaged")]
    damaged = 0
    with progress("verify", len(paths)) as tick:
        for path in paths:
            entry = inspect_entry(path, every=True)
            tick()
            if entry is not None and entry.fault:
                damaged += 1
                print(printable(f"damaged  {entry.name}: {entry.fault}"))
    print(f"{len(paths) - damaged} of {len(paths)} artifacts are whole")
    if damaged:
        print("a run that needs a damaged one computes it again; unlearn-store gc removes them")
    return DAMAGED if damaged else 0


def seconds(age: str) -> float:
    """Returns an age like 30d in seconds.

    Raises:
        ConfigError: If it is no age.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", age, re.ASCII)
    if match is None:
        raise ConfigError(
            f"--older {age} is not an age; allowed: a number and m, h, d or w", "--older 30d"
        )
    return float(match[1]) * SECONDS[match[2]]


def _age(entry: Entry) -> str:
    past = max(0.0, time.time() - entry.changed)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if past >= length:
            return f"{past / length:.0f}{unit}"
    return f"{past:.0f}s"


if __name__ == "__main__":
    sys.exit(main())
