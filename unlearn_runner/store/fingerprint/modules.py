"""Modules, parsed from their files without importing them, and divided into units of code."""

import ast
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR

from unlearn_runner.store.fingerprint import names
from unlearn_runner.store.fingerprint.names import Chain, Function, Imports

OWN = "unlearn_runner"
_HOME = Path(__file__).resolve().parents[2]


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
        self.imports = names.imports(names.own(body), self.package)  # also those in `try` or `if`
        self.definitions: dict[str, list[ast.stmt]] = {}
        self._units: dict[str, Unit] = {}
        statements = list(_runtime(body))
        bound = names.binds(names.own(statements))
        for statement in statements:
            if not isinstance(statement, ast.Import | ast.ImportFrom):
                for owner in names.owners(statement, bound):
                    self.definitions.setdefault(owner, []).append(statement)

    def binds(self, name: str) -> bool:
        """Returns whether the module itself defines or imports the name."""
        return name in self.definitions or name in self.imports

    def unit(self, name: str) -> Unit:
        """Returns the unit of a name that the module defines."""
        if name not in self._units:
            stripped = map(_Strip().visit, self.definitions[name])
            code = [node for node in stripped if node is not None]
            used = _Uses(code)
            dump = "\n".join(map(ast.dump, code))
            self._units[name] = Unit(dump, used.chains, names.imports(used.imports, self.package))
        return self._units[name]


def _runtime(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yields the statements that importing the module runs to effect."""
    for statement in body:
        test = ast.unparse(statement.test) if isinstance(statement, ast.If) else ""
        if isinstance(statement, ast.If) and test in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from _runtime(statement.orelse)
        elif not test.startswith("__name__ ==") and not _is_text(statement):
            yield statement


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def sources(top: str) -> list[Path]:
    """Returns where a top-level package's modules lie: its folders, or its only file."""
    if top == OWN:
        return [_HOME]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return []
    if spec is not None and spec.submodule_search_locations is not None:
        return [Path(folder) for folder in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec and spec.origin and spec.origin.endswith(".py") else []


def locate(name: str, tops: list[Path]) -> Path | None:
    """Returns the file of a dotted name below its top-level package's sources, if it is there.

    A folder for one without `__init__.py`: a package that defines nothing.
    """
    rest = name.split(".")[1:]
    places = [top.joinpath(*rest) for top in tops]
    for place in places:
        if (init := place / "__init__.py").is_file():
            return init
        file = place.with_name(place.name + ".py") if rest else place
        if file.is_file():
            return file
    return next((place for place in places if place.is_dir()), None)


Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp | None:
    """Returns what changes when a file's content does; none for a folder."""
    stat = path.stat()
    return None if S_ISDIR(stat.st_mode) else (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)


_loaded: dict[tuple[str, Path], tuple[Stamp | None, Module]] = {}


def load(name: str, path: Path) -> Module:
    """Returns the module of a located file, parsed once for as long as the file does not change."""
    now = stamp(path)
    cached = _loaded.get((name, path))
    if cached is None or cached[0] != now:
        body = ast.parse(path.read_bytes(), str(path)).body if now else []
        module = Module(name, now is None or path.name == "__init__.py", body)
        cached = _loaded[name, path] = (now, module)
    return cached[1]


class _Strip(ast.NodeTransformer):
    """Takes away, in place, what changes no result: docstrings, `pass` and annotations.

    Those of a class's own fields stay. Nothing may remain of a statement.
    """

    fields = False  # whether the statement at hand lies directly in a class

    def generic_visit(self, node: ast.AST) -> ast.AST:
        before = self.fields
        if isinstance(node, Function | ast.ClassDef):
            self.fields = isinstance(node, ast.ClassDef)
        super().generic_visit(node)
        self.fields = before
        if isinstance(node, Function):
            node.returns = None
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if _is_text(node) else self.generic_visit(node)

    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if self.fields:  # a dataclass reads them
            return self.generic_visit(node)
        value = node.value
        return value and self.generic_visit(ast.Assign(targets=[node.target], value=value))


class _Uses(ast.NodeVisitor):
    """Collects what stripped code takes from around it: names, and its import statements.

    The names are those that are not local to a function, dotted as far as written.
    """

    def __init__(self, code: Iterable[ast.AST]) -> None:
        self.chains: set[Chain] = set()
        self.imports: list[ast.AST] = []
        self.hidden: frozenset[str] = frozenset()  # local names of the functions around
        self.visit_all(code)

    def visit_all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id not in self.hidden and isinstance(node.ctx, ast.Load):
            self.chains.add((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        parts: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            parts.append(base.attr)
            base = base.value
        if not isinstance(base, ast.Name):
            self.visit(base)
        elif base.id not in self.hidden:
            self.chains.add((base.id, *reversed(parts)))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit_all([node.target, node.value])

    def visit_Global(self, node: ast.Global) -> None:
        self.chains |= {(name,) for name in node.names}

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.imports.append(node)

    def visit_FunctionDef(self, node: Function | ast.Lambda) -> None:
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        # Decorators and defaults are evaluated outside, where nothing inside hides a name.
        self.visit_all(getattr(node, "decorator_list", []))
        self.visit_all([*node.args.defaults, *node.args.kw_defaults])
        scope = list(names.own(body))
        arguments = {arg.arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg)}
        shared = {name for n in scope if isinstance(n, ast.Global) for name in n.names}
        self._visit_inside(body, (self.hidden | arguments | names.binds(scope)) - shared)

    def visit_ListComp(self, node: names.Comprehension) -> None:
        # The first iterable is evaluated outside; met again inside, it adds nothing more.
        self.visit(node.generators[0].iter)
        targets = names.binds(names.own(part.target for part in node.generators))
        self._visit_inside(ast.iter_child_nodes(node), self.hidden | targets)

    visit_ImportFrom = visit_Import
    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef
    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    def _visit_inside(self, nodes: Iterable[ast.AST], hidden: frozenset[str]) -> None:
        before, self.hidden = self.hidden, hidden
        self.visit_all(nodes)
        self.hidden = before
