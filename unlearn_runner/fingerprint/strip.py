"""Reduce code to what computes: comments are gone once it is parsed, this drops the rest."""

import ast

from unlearn_runner.fingerprint.names import Function


def strip(statement: ast.stmt) -> ast.AST | None:
    """Drop docstrings, `pass` and all annotations but those of a class's own fields.

    Works in place where it can; returns None where nothing of the statement remains.
    """
    return _Strip().visit(statement)


class _Strip(ast.NodeTransformer):
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
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if self.fields:  # a dataclass reads them
            return self.generic_visit(node)
        if node.value is None:
            return None
        return self.generic_visit(ast.Assign(targets=[node.target], value=node.value))
