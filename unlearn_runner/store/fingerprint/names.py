"""Names that a piece of code binds, imports or changes."""

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
_Named = Function | ast.ClassDef | ast.ExceptHandler | ast.MatchAs | ast.MatchStar
_Scope = Function | ast.ClassDef | ast.Lambda | Comprehension


def own(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yields the nodes of one scope; an inner function, class or comprehension is not entered."""
    stack = list(nodes)
    while stack:
        yield (node := stack.pop())
        if not isinstance(node, _Scope):
            stack.extend(ast.iter_child_nodes(node))


def binds(scope: Iterable[ast.AST]) -> set[str]:
    """Returns the names that the nodes of a scope bind, other than by importing."""
    names: set[str | None] = set()
    for node in scope:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, _Named):
            names.add(node.name)
        elif isinstance(node, ast.MatchMapping):
            names.add(node.rest)
    return {name for name in names if name}


def imports(scope: Iterable[ast.AST], package: str) -> Imports:
    """Returns what the nodes of a scope import, seen from a module that lies in the package."""
    by_name: Imports = {}
    for node in scope:
        for name, target in _imported(node, package):
            targets = by_name.setdefault(name, [])
            if target not in targets:
                targets.append(target)
    return by_name


def _imported(node: ast.AST, package: str) -> Iterator[tuple[str, Target]]:
    """Yields each name that an import statement binds, and what to; nothing for other nodes."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.partition(".")[0]  # all that `import a.b` binds is `a`
            yield (alias.asname, (alias.name, ())) if alias.asname else (top, (top, ()))
    elif isinstance(node, ast.ImportFrom):
        parts = package.split(".")[: 1 - node.level or None] if node.level else []
        module = ".".join([*parts, *([node.module] if node.module else [])])
        for alias in node.names:
            yield alias.asname or alias.name, (module, (alias.name,))


def owners(statement: ast.stmt, bound: set[str]) -> set[str]:
    """Returns the module's names whose value a top-level statement, no import, helps to make.

    Those that it binds, or else what it changes of `bound`, which the module binds by no import.
    """
    nodes = list(own([statement]))
    names = binds(nodes) | imports(nodes, "").keys()
    changed, handed = set[str](), set[str]()
    for node in nodes:
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            changed.add(_base(node))
        elif isinstance(node, ast.Expr) and isinstance(call := node.value, ast.Call):
            changed.add(_base(call.func) if isinstance(call.func, ast.Attribute) else "")
            handed |= {_base(a) for a in (*call.args, *(k.value for k in call.keywords))}
    # What is handed over counts only where nothing else does: in `REGISTRY.add(f)` the registry
    # changes, and f must not lead to everything else that is registered.
    return names | (changed & bound) or (handed & bound) or {EFFECTS}


def _base(node: ast.AST) -> str:
    """Returns the variable that an expression like `a.b["c"].d` starts from, or nothing."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
