"""Fingerprint: a hash of the code that computes an artifact, so that an edit renames the artifact.

Modules are only parsed, never imported: from each root the names it uses are followed, definition
by definition, through this package and the plugin that the root belongs to.

Not seen: names built at run time (`getattr(module, text)` takes the whole module, a dotted path
in a string takes nothing) and modules imported only for what importing them does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

from unlearn_runner.store.fingerprint.cache import recall, remember
from unlearn_runner.store.fingerprint.modules import OWN, Module, load, locate, sources
from unlearn_runner.store.fingerprint.names import EFFECTS, Chain

NEUTRAL = frozenset(
    "errors utils store distributed tracking config report commands sweeps run api pipeline".split()  # noqa: SIM905
)
"""Rooms that cannot change a result; of `pipeline` all but its stages."""
STAGES = "unlearn_runner.pipeline.stages"


def inert(module: str) -> bool:
    """Returns whether a module lies in a room that takes no part in computing an artifact."""
    top, _, rest = module.partition(".")
    if top != OWN or f"{module}.".startswith(f"{STAGES}."):
        return False
    return rest.partition(".")[0] in NEUTRAL


def code_hash(roots: Iterable[str]) -> str:
    """Returns a hash of every definition that the roots reach: 16 hex digits of a sha256.

    Args:
        roots: Each "package.module:name", a function, class or constant.

    Raises:
        KeyError: A root does not exist.
        ValueError: A root lies in an inert module, so that its hash would say nothing.
    """
    roots = tuple(roots)
    places = _Places(roots)
    known = recall(roots, places)
    if known is None:
        lines = (f"{name} {digest}" for name, digest in sorted(reached(roots).items()))
        known = _digest("\n".join(lines))
        remember(roots, known, {name: places(name) for name in _closures[roots].modules})
    return known


def reached(roots: Iterable[str]) -> dict[str, str]:
    """Returns each "module:name" that the roots reach with the digest of that definition alone."""
    roots = tuple(roots)
    cached = _closures.get(roots)
    if cached is None or not cached.is_current():
        cached = _closures[roots] = _Closure(roots)
    return cached.digests


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class _Places:
    """Where modules lie now: those of the roots' own top-level packages and of this one."""

    def __init__(self, roots: Iterable[str]) -> None:
        tops = {root.partition(":")[0].partition(".")[0] for root in roots} | {OWN}
        self.sources = {top: sources(top) for top in tops}

    def __call__(self, name: str) -> Path | None:
        """Returns a module's file; none where it is not followed or has no source."""
        return None if inert(name) else locate(name, self.sources.get(name.partition(".")[0], []))

    def module(self, name: str) -> Module | None:
        """Returns the module as its file is now."""
        path = self(name)
        return path and load(name, path)


class _Closure:
    """Everything reached from roots, in their own top-level packages and in this one."""

    def __init__(self, roots: tuple[str, ...]) -> None:
        self.roots = roots
        self.places = _Places(roots)
        self.modules: dict[str, Module | None] = {}
        self.digests: dict[str, str] = {}
        self.queue: list[tuple[Module, str]] = []
        for root in roots:
            self.add(root)
        while self.queue:
            module, name = self.queue.pop()
            key = f"{module.name}:{name}"
            if key not in self.digests:
                self.digests[key] = self.digest(module, name)
                self.surroundings(module)

    def add(self, root: str) -> None:
        name, _, attribute = root.partition(":")
        if inert(name):
            raise ValueError(f"{root} lies in a module that cannot change a result")
        module, chain = self.module(name), tuple(attribute.split("."))
        if module is None or not self.exports(module, chain[0]):
            raise KeyError(root)
        targets = self.resolve(name, chain)
        if not any(":" in target for target in targets):  # a name for something outside
            self.digests[root] = _digest(repr(sorted(targets)))

    def is_current(self) -> bool:
        """Returns whether every module is as it was when it was read, and absent ones are."""
        places = _Places(self.roots)
        return all(places.module(name) is module for name, module in self.modules.items())

    def digest(self, module: Module, name: str) -> str:
        """Returns the hash of a definition with what its names stand for, which it does not say."""
        unit = module.unit(name)
        lines = [unit.dump]
        for chain in sorted(unit.chains):
            targets = self.bound(module, chain)
            for inner, attributes in unit.imports.get(chain[0], []):
                targets |= self.resolve(inner, attributes + chain[1:])
            if targets:
                lines.append(f"{'.'.join(chain)} = {sorted(targets)}")
        return _digest("\n".join(lines))

    def surroundings(self, module: Module) -> None:
        """Queues what importing the module runs, there and in the packages around it."""
        for name in accumulate(module.name.split("."), "{}.{}".format):
            around = self.module(name)
            if around is not None and EFFECTS in around.definitions:
                self.queue.append((around, EFFECTS))
        self.starred(module)  # any name might come from there

    def module(self, name: str) -> Module | None:
        """Returns the module, or None where it is not followed or has no source."""
        if name not in self.modules:
            self.modules[name] = self.places.module(name)
        return self.modules[name]

    def exports(self, module: Module, name: str, seen: frozenset[str] = frozenset()) -> bool:
        """Returns whether the module has a definition or import of the name, also through `*`."""
        if module.binds(name):
            return True
        stars = (self.module(s) for s, _ in module.imports.get("*", []) if s not in seen)
        return any(s is not None and self.exports(s, name, seen | {s.name}) for s in stars)

    def resolve(self, name: str, chain: Chain, seen: frozenset[Chain] = frozenset()) -> set[str]:
        """Queues the definitions that a dotted name stands for in a module; returns their names."""
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
        """Queues what a name stands for that the module itself binds, if it does."""
        targets: set[str] = set()
        if chain[0] in module.definitions:
            self.queue.append((module, chain[0]))
            targets.add(f"{module.name}:{chain[0]}")
        for inner, attributes in module.imports.get(chain[0], []):
            targets |= self.resolve(inner, attributes + chain[1:], seen)
        return targets

    def starred(self, module: Module) -> set[str]:
        """Queues all of the modules that the module imports `*` from."""
        return {t for star, _ in module.imports.get("*", []) for t in self.resolve(star, ())}

    def whole(self, module: Module) -> set[str]:
        """Queues all of a module that is used as a value, or in a way not understood."""
        key = f"{module.name}:*"
        if key not in self.digests:
            self.digests[key] = _digest(repr(sorted(module.imports.items())))
            for name in {*module.definitions, *module.imports} - {"*"}:
                self.bound(module, (name,))
            self.surroundings(module)
        return {key}


_closures: dict[tuple[str, ...], _Closure] = {}
"""By roots: a grid needs the same ones again and again."""
