"""Hash the code that computes an artifact, so that editing a definition renames what it computes.

Modules are only parsed, never imported: from each root the names it uses are followed, definition
by definition, through this package and the plugin that the root belongs to.

Not seen: names built at run time (`getattr(module, text)` takes the whole module, a dotted path
in a string takes nothing) and modules imported only for what importing them does.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

INERT: frozenset[str] = frozenset(
    f"unlearn_runner.{name}"
    for name in (
        *("errors", "records", "progress", "store", "tracking", "report", "fingerprint", "keys"),
        *("plan", "pipeline", "build", "launch", "worker", "run", "experiment", "explain", "help"),
        *("naming", "results", "parallel", "session"),
    )
)
"""Modules, with all below them, that cannot change a result: neither followed nor hashed."""

EFFECTS = "<module>"
"""Name under which a module's statements that bind no name of its own are hashed."""

_OWN = "unlearn_runner"
_HOME = Path(__file__).resolve().parent

_Chain = tuple[str, ...]
_Imports = dict[str, list[tuple[str, _Chain]]]  # bound name -> (module, attributes inside it)
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_Scope = _Function | ast.ClassDef | ast.Lambda | _Comprehension


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
    return _digest("\n".join(f"{key} {digest}" for key, digest in sorted(reached(roots).items())))


def reached(roots: Iterable[str]) -> dict[str, str]:
    """Map each "module:name" that the roots reach to the digest of that definition alone."""
    walks: dict[str, _Walk] = {}
    for root in roots:
        top = root.partition(":")[0].partition(".")[0]
        walks.setdefault(top, _Walk({top, _OWN})).start(root)
    return {key: digest for walk in walks.values() for key, digest in walk.finish().items()}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _inert(module: str) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:end]) in INERT for end in range(1, len(parts) + 1))


# --- syntax: what a piece of code binds, changes and uses


def _own(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield the nodes of one scope; an inner function, class or comprehension is not entered."""
    stack = list(nodes)
    while stack:
        yield (node := stack.pop())
        if not isinstance(node, _Scope):
            stack.extend(ast.iter_child_nodes(node))


def _binds(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that the scope binds, other than by importing."""
    names: set[str | None] = set()
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar():
                names.add(node.name)
            case ast.MatchMapping():
                names.add(node.rest)
            case _:
                pass
    return {name for name in names if name}


def _base(node: ast.AST) -> str:
    """The variable that an expression like `a.b["c"].d` starts from, or nothing."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _owners(statement: ast.stmt, bound: set[str]) -> set[str]:
    """Names of the module whose value a top-level statement takes part in making."""
    nodes = list(_own([statement]))
    aliases = (a for n in nodes if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names)
    names = _binds(nodes) | {alias.asname or alias.name.partition(".")[0] for alias in aliases}
    changed: set[str] = set()
    handed: set[str] = set()
    for node in nodes:
        match node:
            case ast.Attribute(ctx=ast.Store()) | ast.Subscript(ctx=ast.Store()):
                changed.add(_base(node))
            case ast.Expr(value=ast.Call(func=func) as call):
                changed.add(_base(func) if isinstance(func, ast.Attribute) else "")
                handed |= {_base(a) for a in (*call.args, *(k.value for k in call.keywords))}
            case _:
                pass
    # What is handed over counts only where nothing else does: in `REGISTRY.add(f)` the registry
    # changes, and f must not lead to everything else that is registered.
    return names | (changed & bound) or (handed & bound) or {EFFECTS}


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> _Imports:
    """What an import statement binds; `*` is listed under its own name."""
    found: _Imports = {}
    for alias in node.names:
        if isinstance(node, ast.Import):
            top = alias.name.partition(".")[0]
            target = (alias.name, ()) if alias.asname else (top, ())
            found.setdefault(alias.asname or top, []).append(target)
        else:
            parts = package.split(".")[: 1 - node.level or None] if node.level else []
            module = ".".join([*parts, *([node.module] if node.module else [])])
            found.setdefault(alias.asname or alias.name, []).append((module, (alias.name,)))
    return found


def _merge(into: _Imports, more: _Imports) -> None:
    for name, targets in more.items():
        into.setdefault(name, []).extend(t for t in targets if t not in into.get(name, []))


class _Strip(ast.NodeTransformer):
    """Drop what computes nothing: docstrings, `pass`, annotations except a class's own fields."""

    fields = False  # whether the statement at hand lies directly in a class

    def generic_visit(self, node: ast.AST) -> ast.AST:
        before = self.fields
        if isinstance(node, _Function | ast.ClassDef):
            self.fields = isinstance(node, ast.ClassDef)
        super().generic_visit(node)
        self.fields = before
        if isinstance(node, _Function):
            node.returns = None
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if self.fields:
            return self.generic_visit(node)
        if node.value is None:
            return None
        return self.generic_visit(ast.Assign(targets=[node.target], value=node.value))


class _Uses(ast.NodeVisitor):
    """Collect the module-level names, dotted as far as written, that stripped code uses."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.chains: set[_Chain] = set()
        self.imports: _Imports = {}
        self.hidden: frozenset[str] = frozenset()  # local names of the functions around

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
        self._visit_all([node.target, node.value])

    def visit_Global(self, node: ast.Global) -> None:
        self.chains |= {(name,) for name in node.names}

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        _merge(self.imports, _imported(node, self.package))

    def visit_FunctionDef(self, node: _Function | ast.Lambda) -> None:
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        self._visit_all(getattr(node, "decorator_list", []))
        self._visit_all([*node.args.defaults, *node.args.kw_defaults])
        scope = list(_own(body))
        arguments = {arg.arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg)}
        shared = {name for n in scope if isinstance(n, ast.Global) for name in n.names}
        self._visit_all(body, (self.hidden | arguments | _binds(scope)) - shared)

    def visit_ListComp(self, node: _Comprehension) -> None:
        first = node.generators[0].iter  # evaluated outside, where its name is not yet hidden
        self.visit(first)
        targets = _binds(n for part in node.generators for n in _own([part.target]))
        rest = [n for n in ast.iter_child_nodes(node) if n is not node.generators[0]]
        rest += [node.generators[0].target, *node.generators[0].ifs]
        self._visit_all(rest, self.hidden | targets)

    visit_ImportFrom = visit_Import
    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef
    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    def _visit_all(
        self, nodes: Sequence[ast.AST | None], hidden: frozenset[str] | None = None
    ) -> None:
        before = self.hidden
        self.hidden = before if hidden is None else hidden
        for node in nodes:
            if node is not None:
                self.visit(node)
        self.hidden = before


# --- modules: files found and indexed without importing


@dataclass
class _Unit:
    """One name's definition: every top-level statement that takes part in making its value."""

    dump: str
    uses: _Uses


@dataclass
class _Module:
    name: str
    is_package: bool
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict[str, list[ast.stmt]])
    imports: _Imports = field(default_factory=dict[str, list[tuple[str, _Chain]]])
    units: dict[str, _Unit] = field(default_factory=dict[str, _Unit])

    @property
    def package(self) -> str:
        return self.name if self.is_package else self.name.rpartition(".")[0]

    def index(self, body: list[ast.stmt]) -> None:
        statements = list(_runtime(body))
        bound = _binds(_own(statements))
        for node in _own(body):
            if isinstance(node, ast.Import | ast.ImportFrom):
                _merge(self.imports, _imported(node, self.package))
        for statement in statements:
            if not isinstance(statement, ast.Import | ast.ImportFrom):
                for name in _owners(statement, bound):
                    self.definitions.setdefault(name, []).append(statement)

    def unit(self, name: str) -> _Unit:
        if name not in self.units:
            uses, dumps = _Uses(self.package), list[str]()
            for statement in self.definitions[name]:
                stripped: ast.AST | None = _Strip().visit(statement)
                if stripped is not None:
                    uses.visit(stripped)
                    dumps.append(ast.dump(stripped))
            self.units[name] = _Unit("\n".join(dumps), uses)
        return self.units[name]


def _runtime(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that importing the module runs to effect."""
    for statement in body:
        test = ast.unparse(statement.test) if isinstance(statement, ast.If) else ""
        if isinstance(statement, ast.If) and test in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from _runtime(statement.orelse)
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        elif not (isinstance(statement, ast.If) and test.startswith("__name__ ==")):
            yield statement


_parsed: dict[tuple[str, str], tuple[tuple[int, int], _Module]] = {}


def _load(name: str, path: Path, is_package: bool) -> _Module:
    """Parse and index a file, once for as long as it does not change."""
    stat = path.stat()
    stamp = (stat.st_mtime_ns, stat.st_size)
    known = _parsed.get((name, str(path)))
    if known is None or known[0] != stamp:
        module = _Module(name, is_package)
        module.index(ast.parse(path.read_bytes(), str(path)).body)
        known = _parsed[name, str(path)] = (stamp, module)
    return known[1]


def _folders(top: str) -> tuple[list[Path], Path | None]:
    """Where a top-level package's modules lie, and its own file where it is a single one."""
    if top == _OWN:
        return [_HOME], None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return [], None
    if spec.submodule_search_locations is not None:
        return [Path(folder) for folder in spec.submodule_search_locations], None
    return [], Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None


class _Walk:
    """Everything reached from roots that may lead into the same top-level packages."""

    def __init__(self, tops: set[str]) -> None:
        self.folders = {top: _folders(top) for top in tops}
        self.modules: dict[str, _Module | None] = {}
        self.found: dict[str, str] = {}
        self.queue: list[tuple[_Module, str]] = []

    def start(self, root: str) -> None:
        name, _, attribute = root.partition(":")
        if _inert(name):
            raise ValueError(f"{root} lies in a module that cannot change a result")
        module = self.module(name)
        chain = tuple(attribute.split("."))
        if module is None or not self.exports(module, chain[0], frozenset()):
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

    def digest(self, module: _Module, name: str) -> str:
        """Hash a definition with what its names stand for, which its own text does not say."""
        unit = module.unit(name)
        lines = [unit.dump]
        for chain in sorted(unit.uses.chains):
            targets = self.bound(module, chain, frozenset()) or set[str]()
            for inside, attributes in unit.uses.imports.get(chain[0], []):
                targets |= self.resolve(inside, attributes + chain[1:])
            lines += [f"{'.'.join(chain)} = {sorted(targets)}"] if targets else []
        return _digest("\n".join(lines))

    def surroundings(self, module: _Module) -> None:
        """Queue what importing the module runs, there and in the packages around it."""
        parts = module.name.split(".")
        for end in range(1, len(parts) + 1):
            around = self.module(".".join(parts[:end]))
            if around is not None and EFFECTS in around.definitions:
                self.queue.append((around, EFFECTS))
        for star, _ in module.imports.get("*", []):
            self.resolve(star, ())  # any name might come from there

    def module(self, name: str) -> _Module | None:
        """The indexed module, or None where it is not followed or has no source."""
        if name not in self.modules:
            self.modules[name] = None if _inert(name) else self._find(name)
        return self.modules[name]

    def _find(self, name: str) -> _Module | None:
        top, *rest = name.split(".")
        folders, file = self.folders.get(top, ([], None))
        if file is not None:
            return None if rest else _load(name, file, False)
        places = [folder.joinpath(*rest) for folder in folders]
        for place in places:
            if (init := place / "__init__.py").is_file():
                return _load(name, init, True)
            if rest and (file := place.with_name(place.name + ".py")).is_file():
                return _load(name, file, False)
        return _Module(name, True) if any(place.is_dir() for place in places) else None

    def exports(self, module: _Module, name: str, seen: frozenset[str]) -> bool:
        """Whether the module has a definition or import of that name, also through `*`."""
        if name in module.definitions or name in module.imports:
            return True
        stars = (self.module(s) for s, _ in module.imports.get("*", []) if s not in seen)
        return any(s is not None and self.exports(s, name, seen | {s.name}) for s in stars)

    def bound(self, module: _Module, chain: _Chain, seen: frozenset[_Chain]) -> set[str] | None:
        """What a name bound in the module stands for; None where the module does not bind it."""
        name = chain[0]
        if name not in module.definitions and name not in module.imports:
            return None
        targets: set[str] = set()
        if name in module.definitions:
            self.queue.append((module, name))
            targets.add(f"{module.name}:{name}")
        for inside, attributes in module.imports.get(name, []):
            targets |= self.resolve(inside, attributes + chain[1:], seen)
        return targets

    def resolve(self, name: str, chain: _Chain, seen: frozenset[_Chain] = frozenset()) -> set[str]:
        """Queue the definitions that a dotted name stands for in a module, and name them."""
        module = self.module(name)
        if module is None:  # outside, or inert
            return set() if _inert(name) else {".".join((name, *chain[:1]))}
        if not chain:
            return self.whole(module)
        here = (name, chain[0])
        if here not in seen:  # seen: a package that does `from . import submodule`
            targets = self.bound(module, chain, seen | {here})
            if targets is not None:
                return targets
        child = f"{name}.{chain[0]}"
        if module.is_package and (_inert(child) or self.module(child) is not None):
            return self.resolve(child, chain[1:], seen)
        if chain[0].startswith("__"):
            return set()
        if stars := module.imports.get("*"):
            return {target for star, _ in stars for target in self.resolve(star, ())}
        return self.whole(module)

    def whole(self, module: _Module) -> set[str]:
        """Queue all of a module that is used as a value, or in a way not understood."""
        key = f"{module.name}:*"
        if key not in self.found:
            self.found[key] = _digest(repr(sorted(module.imports.items())))
            for name in [*module.definitions, *module.imports]:
                if name != "*":
                    self.bound(module, (name,), frozenset())
            self.surroundings(module)
        return {key}
