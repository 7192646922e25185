"""What `unlearn --help` says: read from `conf/` itself, so it cannot be out of date."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
INSTALLED = (_PACKAGE / "conf").is_dir()
"""Whether this is a wheel's copy, which has `conf/` inside; in a checkout it stands beside."""
CONF = _PACKAGE / "conf" if INSTALLED else _PACKAGE.parent / "conf"
OPTIONAL = ("experiment", "debug")
"""Groups that a run can do without."""

PLACED = {"target.adapter": "adapter"}
"""Settings that are chosen among the options of a group."""
FOLLOWING = ("smallest",)
"""Folders of `conf/` that other choices choose from."""


def outputs() -> Path:
    """Returns where runs go unless output_dir says: beside a checkout's conf/, else here."""
    return Path.cwd() / "outputs" if INSTALLED else CONF.parent / "outputs"


def groups(*folders: Path) -> dict[str, list[str]]:
    """Returns the options of every configuration group: of `conf/`, or of the given folders."""
    found: dict[str, list[str]] = {}
    for conf in folders or (CONF,):
        for folder in sorted(p for p in conf.iterdir() if p.is_dir() and p.name not in FOLLOWING):
            files = (p.relative_to(folder).with_suffix("") for p in folder.rglob("*.yaml"))
            names = {*found.get(folder.name, ()), *(file.as_posix() for file in files)}
            found[folder.name] = sorted(names)
    return found


def print_help() -> None:
    """Prints usage, groups and examples."""
    listing = "\n".join(f"  {name:<12} {' '.join(found)}" for name, found in groups().items())
    text = Path(__file__).with_name("help.txt").read_text(encoding="utf-8")
    print(text.format(groups=listing), end="")
