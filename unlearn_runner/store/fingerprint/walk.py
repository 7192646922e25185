"""The walk from roots through every definition that they reach."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

from unlearn_runner.store.fingerprint.modules import OWN, Module, find, sources
from unlearn_runner.store.fingerprint.names import EFFECTS, Chain


def code_hash(roots: Iterable[str]) -> str:
    """Hash every definition that the roots reach.

    Args:
        roots: Each "package.module:name", a function, class or constant.

    Returns:
        The first 16 hex characters of a sha256.

    Raises:
        KeyError: A root does not exist.
        ValueError: A root lies in an inert module, so that its hash would say nothing.
    """
    asked = tuple(roots)
    known = _hashed.get(asked)
    if known is None or not all(walk.unchanged() for walk in known[0]):
        walks = _walks(asked)
        found = {key: digest for walk in walks for key, digest in walk.finish().items()}
        text = "\n".join(f"{key} {digest}" for key, digest in sorted(found.items()))
        known = _hashed[asked] = (walks, _digest(text))
    return known[1]


def reached(roots: Iterable[str]) -> dict[str, str]:
    """Map each "module:name" that the roots reach to the digest of that definition alone."""
    return {key: digest for walk in _walks(roots) for key, digest in walk.finish().items()}


def _walks(roots: Iterable[str]) -> list[_Walk]:
    walks: dict[str, _Walk] = {}
    for root in roots:
        top = root.partition(":")[0].partition(".")[0]
        if top not in walks:
            walks[top] = _Walk({top, OWN})
        walks[top].start(root)
    return list(walks.values())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class _Walk:
    """Everything reached from roots that may lead into the same top-level packages."""

    def __init__(self, tops: set[str]) -> None:
        self.sources = {top: sources(top) for top in tops}
        self.modules: dict[str, Module | None] = {}
        self.found: dict[str, str] = {}
        self.queue: list[tuple[Module, str]] = []

    def start(self, root: str) -> None:
        name, _, attribute = root.partition(":")
        if inert(name):
            raise ValueError(f"{root} lies in a module that cannot change a result")
        module = self.module(name)
        chain = tuple(attribute.split("."))
        if module is None or not self.exports(module, chain[0]):
            raise KeyError(root)
        targets = self.resolve(name, chain)
        if not any(":" in target for target in targets):  # a name for something outside
            self.found[root] = _digest(repr(sorted(targets)))

    def finish(self) -> dict[str, str]:
        while self.queue:
            module, name = self.queue.pop()
            key = f"{module.name}:{name}"
            if key not in self.found:
                self.found[key] = self.digest(module, name)
                self.surroundings(module)
        return self.found

    def unchanged(self) -> bool:
        """Whether every module that was looked for is still the same, and absent ones are."""
        places = {top: sources(top) for top in self.sources}
        return all(
            self._find(name, places.get(name.partition(".")[0], [])) is module
            for name, module in self.modules.items()
        )

    def digest(self, module: Module, name: str) -> str:
        """Hash a definition with what its names stand for, which its own text does not say."""
        unit = module.unit(name)
        lines = [unit.dump]
        for chain in sorted(unit.chains):
            targets = self.bound(module, chain)
            for inside, attributes in unit.imports.get(chain[0], []):
                targets |= self.resolve(inside, attributes + chain[1:])
            if targets:
                lines.append(f"{'.'.join(chain)} = {sorted(targets)}")
        return _digest("\n".join(lines))

    def surroundings(self, module: Module) -> None:
        """Queue what importing the module runs, there and in the packages around it."""
        for name in accumulate(module.name.split("."), "{}.{}".format):
            around = self.module(name)
            if around is not None and EFFECTS in around.definitions:
                self.queue.append((around, EFFECTS))
        self.starred(module)  # any name might come from there

    def module(self, name: str) -> Module | None:
        """The module, or None where it is not followed or has no source."""
        if name not in self.modules:
            places = self.sources.get(name.partition(".")[0], [])
            self.modules[name] = self._find(name, places)
        return self.modules[name]

    @staticmethod
    def _find(name: str, places: list[Path]) -> Module | None:
        """The module as its file is now."""
        return None if inert(name) else find(name, places)

    def exports(self, module: Module, name: str, seen: frozenset[str] = frozenset()) -> bool:
        """Whether the module has a definition or import of that name, also through `*`."""
        if module.binds(name):
            return True
        stars = (self.module(s) for s, _ in module.imports.get("*", []) if s not in seen)
        return any(s is not None and self.exports(s, name, seen | {s.name}) for s in stars)

    def resolve(self, name: str, chain: Chain, seen: frozenset[Chain] = frozenset()) -> set[str]:
        """Queue the definitions that a dotted name stands for in a module, and name them."""
        module = self.module(name)
        if module is None:  # outside, or inert
            return set() if inert(name) else {".".join((name, *chain[:1]))}
        if not chain:
            return self.whole(module)
        first, here = chain[0], (name, chain[0])
        if module.binds(first) and here not in seen:  # seen: it does `from . import submodule`
            return self.bound(module, chain, seen | {here})
        child = f"{name}.{first}"
        if module.is_package and (inert(child) or self.module(child) is not None):
            return self.resolve(child, chain[1:], seen)
        if first.startswith("__"):  # `__name__` and the like, which every module has
            return set()
        return self.starred(module) if "*" in module.imports else self.whole(module)

    def bound(self, module: Module, chain: Chain, seen: frozenset[Chain] = frozenset()) -> set[str]:
        """Queue and name what a name stands for that the module itself binds, if it does."""
        targets: set[str] = set()
        if chain[0] in module.definitions:
            self.queue.append((module, chain[0]))
            targets.add(f"{module.name}:{chain[0]}")
        for inside, attributes in module.imports.get(chain[0], []):
            targets |= self.resolve(inside, attributes + chain[1:], seen)
        return targets

    def starred(self, module: Module) -> set[str]:
        """Queue and name all of the modules that the module imports `*` from."""
        return {t for star, _ in module.imports.get("*", []) for t in self.resolve(star, ())}

    def whole(self, module: Module) -> set[str]:
        """Queue all of a module that is used as a value, or in a way not understood."""
        key = f"{module.name}:*"
        if key not in self.found:
            self.found[key] = _digest(repr(sorted(module.imports.items())))
            for name in [*module.definitions, *module.imports]:
                if name != "*":
                    self.bound(module, (name,))
            self.surroundings(module)
        return {key}


_hashed: dict[tuple[str, ...], tuple[list[_Walk], str]] = {}
"""By roots: the walks, which know what they looked at, and the hash. A grid asks often."""


NEUTRAL = frozenset(
    (
        *("errors", "utils", "store", "distributed", "tracking", "config", "report"),
        *("commands", "sweeps", "run", "api", "pipeline"),
    )
)
"""Rooms that cannot change a result; of `pipeline` all but its stages."""
STAGES = "unlearn_runner.pipeline.stages"


def inert(module: str) -> bool:
    """Returns whether a module lies in a room that takes no part in computing an artifact."""
    top, _, rest = module.partition(".")
    if top != OWN or f"{module}.".startswith(f"{STAGES}."):
        return False
    return rest.partition(".")[0] in NEUTRAL
