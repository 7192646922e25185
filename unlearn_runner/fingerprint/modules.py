"""Modules read from their files, without importing them, and divided into units of code."""

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unlearn_runner.fingerprint.names import Chain, Imports, binds, imports, own, owners
from unlearn_runner.fingerprint.strip import strip
from unlearn_runner.fingerprint.uses import uses

OWN = "unlearn_runner"
_HOME = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Unit:
    """One name's definition: every top-level statement that takes part in making its value."""

    dump: str
    chains: set[Chain]  # names that it uses
    imports: Imports  # made inside its functions


class Module:
    """What a module defines and imports at its top level."""

    def __init__(self, name: str, is_package: bool, body: list[ast.stmt]) -> None:
        self.name = name
        self.is_package = is_package
        self.package = name if is_package else name.rpartition(".")[0]
        self.imports = imports(own(body), self.package)  # also those in `try` or `if`
        self.definitions: dict[str, list[ast.stmt]] = {}
        self._units: dict[str, Unit] = {}
        statements = list(_runtime(body))
        bound = binds(own(statements))
        for statement in statements:
            if not isinstance(statement, ast.Import | ast.ImportFrom):
                for owner in owners(statement, bound):
                    self.definitions.setdefault(owner, []).append(statement)

    def binds(self, name: str) -> bool:
        """Whether the module itself defines or imports the name."""
        return name in self.definitions or name in self.imports

    def unit(self, name: str) -> Unit:
        """The unit of a name that the module defines."""
        if name not in self._units:
            code = [s for s in map(strip, self.definitions[name]) if s is not None]
            chains, inner = uses(code)
            dump = "\n".join(map(ast.dump, code))
            self._units[name] = Unit(dump, chains, imports(inner, self.package))
        return self._units[name]


def _runtime(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that importing the module runs to effect."""
    for statement in body:
        test = ast.unparse(statement.test) if isinstance(statement, ast.If) else ""
        match statement:
            case ast.If() if test in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
                yield from _runtime(statement.orelse)
            case ast.If() if test.startswith("__name__ =="):
                pass
            case ast.Expr(value=ast.Constant()):
                pass
            case _:
                yield statement


def sources(top: str) -> list[Path]:
    """Where a top-level package's modules lie: its folders, or its file if it is a single one."""
    if top == OWN:
        return [_HOME]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(folder) for folder in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []


def find(name: str, tops: list[Path]) -> Module | None:
    """The module of a dotted name below the sources of its top-level package, if any is there."""
    rest = name.split(".")[1:]
    places = [top.joinpath(*rest) for top in tops]
    for place in places:
        if (init := place / "__init__.py").is_file():
            return _load(name, init, True)
        file = place.with_name(place.name + ".py") if rest else place
        if file.is_file():
            return _load(name, file, False)
    # A folder without `__init__.py` is a package that defines nothing.
    return Module(name, True, []) if any(place.is_dir() for place in places) else None


_loaded: dict[tuple[str, str], tuple[tuple[int, int], Module]] = {}


def _load(name: str, path: Path, is_package: bool) -> Module:
    """Parse and divide a file, once for as long as it does not change."""
    stat = path.stat()
    stamp = (stat.st_mtime_ns, stat.st_size)
    known = _loaded.get((name, str(path)))
    if known is None or known[0] != stamp:
        module = Module(name, is_package, ast.parse(path.read_bytes(), str(path)).body)
        known = _loaded[name, str(path)] = (stamp, module)
    return known[1]
