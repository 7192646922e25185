"""Which module-level names a piece of code uses."""

import ast
from collections.abc import Iterable

from unlearn_runner.fingerprint.names import Chain, Comprehension, Function, binds, own


def uses(code: Iterable[ast.AST]) -> tuple[set[Chain], list[ast.AST]]:
    """Collect what stripped code takes from around it.

    Returns:
        The names that are not local to a function, dotted as far as written, and the import
        statements met on the way.
    """
    visitor = _Uses()
    visitor.visit_all(code)
    return visitor.chains, visitor.imports


class _Uses(ast.NodeVisitor):
    def __init__(self) -> None:
        self.chains: set[Chain] = set()
        self.imports: list[ast.AST] = []
        self.hidden: frozenset[str] = frozenset()  # local names of the functions around

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
        scope = list(own(body))
        arguments = {arg.arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg)}
        shared = {name for n in scope if isinstance(n, ast.Global) for name in n.names}
        self._visit_inside(body, (self.hidden | arguments | binds(scope)) - shared)

    def visit_ListComp(self, node: Comprehension) -> None:
        # The first iterable is evaluated outside; met again inside, it adds nothing more.
        self.visit(node.generators[0].iter)
        targets = binds(own(part.target for part in node.generators))
        self._visit_inside(ast.iter_child_nodes(node), self.hidden | targets)

    visit_ImportFrom = visit_Import
    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef
    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    def _visit_inside(self, nodes: Iterable[ast.AST], hidden: frozenset[str]) -> None:
        before, self.hidden = self.hidden, hidden
        self.visit_all(nodes)
        self.hidden = before
