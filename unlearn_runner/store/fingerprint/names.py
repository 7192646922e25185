"""Which names a piece of code binds, imports or changes."""

import ast
from collections.abc import Iterable, Iterator

EFFECTS = "<module>"
"""Name under which a module's statements that bind no name of its own are hashed."""

Chain = tuple[str, ...]
"""A dotted name, as its parts."""

Target = tuple[str, Chain]
"""What an import takes: a module, and attributes inside it."""

Imports = dict[str, list[Target]]
"""Bound name -> all that it is imported from; `*` is listed under its own name."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_Scope = Function | ast.ClassDef | ast.Lambda | Comprehension


def own(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield the nodes of one scope; an inner function, class or comprehension is not entered."""
    stack = list(nodes)
    while stack:
        yield (node := stack.pop())
        if not isinstance(node, _Scope):
            stack.extend(ast.iter_child_nodes(node))


def binds(scope: Iterable[ast.AST]) -> set[str]:
    """Names that the nodes of a scope bind, other than by importing."""
    names: set[str | None] = set()
    for node in scope:
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


def imports(scope: Iterable[ast.AST], package: str) -> Imports:
    """What the nodes of a scope import, seen from a module that lies in the package."""
    found: Imports = {}
    for node in scope:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name, target in _imported(node, package):
                known = found.setdefault(name, [])
                if target not in known:
                    known.append(target)
    return found


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, Target]]:
    """Yield each name that an import statement binds, and what to."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.partition(".")[0]  # all that `import a.b` binds is `a`
            yield (alias.asname, (alias.name, ())) if alias.asname else (top, (top, ()))
    else:
        parts = package.split(".")[: 1 - node.level or None] if node.level else []
        module = ".".join([*parts, *([node.module] if node.module else [])])
        for alias in node.names:
            yield alias.asname or alias.name, (module, (alias.name,))


def owners(statement: ast.stmt, bound: set[str]) -> set[str]:
    """Names of the module whose value a top-level statement takes part in making.

    Args:
        statement: Any but a plain import.
        bound: The names that the module binds, other than by importing.
    """
    nodes = list(own([statement]))
    names = binds(nodes) | imports(nodes, "").keys()
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


def _base(node: ast.AST) -> str:
    """The variable that an expression like `a.b["c"].d` starts from, or nothing."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
