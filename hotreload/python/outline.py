"""A text as what it defines: functions, classes, and the statements that ran once.

::

    import os                    ── Statement, binds os
    LIMIT = 3                    ── Statement, binds LIMIT
    class Order(Base):           ── Class Order: bases, decorators, and a scope of its own
        rate = 2                 ──   Statement of Order, binds rate
        def total(self): ...     ──   Function Order.total: decorators, parameters, and its node
    if DEBUG:
        def trace(): ...         ── Function trace; the `if` around it is a Statement

Keys are those of ``codes.py``. Functions inside functions are not here: code objects say enough of them, but for
their parameters, which are in ``inner``.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Union

__all__ = ["Class", "Definition", "Function", "Outline", "Statement", "bound_names", "outline", "said"]

Definition = Union[ast.FunctionDef, ast.AsyncFunctionDef]
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
#: What these do with a function cannot be changed without the class: the way in which it is looked up.
_KINDS = ("staticmethod", "classmethod", "property")


@dataclass(frozen=True)
class Function:
    """One ``def``; texts are normalised, so that spacing and comments make no difference."""

    key: str
    owner: str
    node: Definition = field(compare=False, repr=False)
    decorators: tuple[str, ...] = ()

    @property
    def line(self) -> int:
        return self.node.lineno

    @property
    def parameters(self) -> str:
        """Names, defaults and annotations."""
        return said(self.node.args) + " -> " + (said(self.node.returns) if self.node.returns else "")

    @property
    def kinds(self) -> frozenset[str]:
        """What it is to its class besides a function."""
        names = {name.partition("(")[0] for name in self.decorators}
        return frozenset(
            {name for name in names if name in _KINDS} | {n.rpartition(".")[2] for n in names if _is_accessor(n)}
        )


@dataclass(frozen=True)
class Statement:
    """A statement that is no definition: what it says, without the bodies of definitions in it, and what it binds."""

    text: str
    names: tuple[str, ...]
    owner: str
    node: ast.stmt = field(compare=False, repr=False)

    @property
    def line(self) -> int:
        return self.node.lineno


@dataclass(frozen=True)
class Class:
    """A class: its head, without the body."""

    key: str
    owner: str
    head: str
    has_decorators: bool
    node: ast.ClassDef = field(compare=False, repr=False)

    @property
    def line(self) -> int:
        return self.node.lineno


@dataclass
class Outline:
    """Everything, in the order of the text; ``inner`` are the functions inside functions."""

    functions: dict[str, Function] = field(default_factory=dict)
    classes: dict[str, Class] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)
    inner: dict[str, Function] = field(default_factory=dict)
    tree: ast.Module = field(default_factory=lambda: ast.Module(body=[], type_ignores=[]))
    lines: frozenset[tuple[str, int]] = frozenset()
    keys: Mapping[str, str] = field(default_factory=dict)

    def names_of(self, owner: str) -> set[str]:
        """What a scope binds: the module where ``owner`` is empty, else that class."""
        names = {name for statement in self.statements if statement.owner == owner for name in statement.names}
        names |= {function.node.name for function in self.functions.values() if function.owner == owner}
        return names | {cls.node.name for cls in self.classes.values() if cls.owner == owner}


def outline(tree: ast.Module, lines: frozenset[tuple[str, int]], keys: Mapping[str, str] | None = None) -> Outline:
    """The outline of a parsed text.

    Args:
        tree: the text.
        lines: names and first lines of the definitions that it has code of.
        keys: those of functions that are called otherwise than by their number.
    """
    found = Outline(tree=tree, lines=lines, keys=keys or {})
    _scope(found, tree.body, "", "")
    return found


def said(node: ast.AST) -> str:
    """A part of the text in one spelling."""
    return ast.unparse(node)


def bound_names(node: ast.stmt) -> tuple[str, ...]:
    """The names that a statement gives a value in its own scope."""
    names: dict[str, None] = {}
    for each in _in_scope(node):
        if isinstance(each, ast.alias):
            names[each.asname or each.name.partition(".")[0]] = None
        elif isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            names[each.id] = None
        elif isinstance(each, (*_DEFINITIONS, ast.ClassDef)):
            names[each.name] = None
    if isinstance(node, ast.AnnAssign) and node.value is None:
        return ()
    return tuple(names)


def _in_scope(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one that belong to its scope, itself first; definitions are there, what is in them is not."""
    yield node
    if isinstance(node, (*_DEFINITIONS, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp)):
        return
    if isinstance(node, ast.GeneratorExp):
        return
    for child in ast.iter_child_nodes(node):
        yield from _in_scope(child)


def _definitions(body: list[ast.stmt]) -> list[ast.stmt]:
    """The definitions of a scope, those inside ``if`` and ``try`` too, by their lines."""
    found = [node for stmt in body for node in _in_scope(stmt) if isinstance(node, (*_DEFINITIONS, ast.ClassDef))]
    return sorted(found, key=_first_line)


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)])


def _keyed(found: Outline, body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.stmt]]:
    seen: dict[str, int] = {}
    for node in _definitions(body):
        name: str = node.name  # type: ignore[attr-defined]
        if (name, _first_line(node)) not in found.lines:
            continue
        seen[name] = number = seen.get(name, 0) + 1
        yield prefix + name + (f"#{number}" if number > 1 else ""), node


def _scope(found: Outline, body: list[ast.stmt], prefix: str, owner: str) -> None:
    for key, node in _keyed(found, body, prefix):
        decorators = tuple(said(each) for each in node.decorator_list)  # type: ignore[attr-defined]
        if isinstance(node, ast.ClassDef):
            bases = [said(each) for each in (*node.bases, *node.keywords)]
            head = " ".join([*(f"@{each}" for each in decorators), f"class {node.name}({', '.join(bases)})"])
            found.classes[key] = Class(key, owner, head, bool(decorators), node)
            _scope(found, node.body, key + ".", key)
        elif isinstance(node, _DEFINITIONS):
            key = found.keys.get(key, key)
            found.functions[key] = Function(key, owner, node, decorators)
            _inside(found, node, key)
    for node in body:
        if not isinstance(node, (*_DEFINITIONS, ast.ClassDef)) and not _is_docstring(node):
            found.statements.append(
                Statement(said(_Shallow().visit(copy.deepcopy(node))), bound_names(node), owner, node)
            )


def _inside(found: Outline, node: Definition, key: str) -> None:
    for inner_key, inner in _keyed(found, node.body, key + ".<locals>."):
        if isinstance(inner, _DEFINITIONS):
            found.inner[inner_key] = Function(inner_key, key, inner, ())
            _inside(found, inner, inner_key)
        elif isinstance(inner, ast.ClassDef):
            for method_key, method in _keyed(found, inner.body, inner_key + "."):
                if isinstance(method, _DEFINITIONS):
                    found.inner[method_key] = Function(method_key, key, method, ())
                    _inside(found, method, method_key)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_accessor(decorator: str) -> bool:
    return decorator.endswith((".setter", ".getter", ".deleter"))


class _Shallow(ast.NodeTransformer):
    """Takes the bodies out of the definitions in a statement: they are told by themselves."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return ast.copy_location(ast.Expr(ast.Constant(f"def {node.name}")), node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return ast.copy_location(ast.Expr(ast.Constant(f"def {node.name}")), node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return ast.copy_location(ast.Expr(ast.Constant(f"class {node.name}")), node)
