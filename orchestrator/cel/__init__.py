"""CEL: expressions over JSON, compiled once and evaluated within limits.

An expression is checked where it is declared: its syntax, its size, and that it uses
no name which its place does not have. It is evaluated with a budget of steps, so that
none takes more than a fraction of a second, whatever the data.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from orchestrator.cel.interpreter import MACROS, TYPES, engine, from_cel, to_cel
from orchestrator.exceptions import ExpressionFailed, InvalidExpression

logger = logging.getLogger("orchestrator")

# The names that each place has; the same word means the same thing in all of them.
EVENT_NAMES = frozenset(
    {"payload", "key", "input", "metadata", "tenant", "workflow", "run_id"}
)
PARENT_NAMES = frozenset(
    {"output", "input", "metadata", "tenant", "workflow", "run_id"}
)

MAX_CHARACTERS = 1_024
MAX_NODES = 8_000  # of the syntax tree, where `a == 1` has some twenty
MAX_DEPTH = 160  # of the syntax tree, where a pair of parentheses has nine
MAX_MACROS = 2  # nested in each other, such as exists() in all()
MAX_LIST = 64  # items of a literal


class Prepared:
    """A value for many evaluations: it is made ready for the interpreter once."""

    def __init__(self, value: Any) -> None:
        self.value = value

    @cached_property
    def ready(self) -> Any:
        """As the interpreter takes it."""
        return to_cel(self.value)


@dataclass(frozen=True)
class Program:
    """A compiled expression. `names` are those of its place that it reads."""

    source: str
    names: frozenset[str]
    run: Callable[[Mapping[str, Any]], Any]


def check(source: object, known: frozenset[str], *, what: str) -> str:
    """An expression that can be used where the names `known` are.

    Raises InvalidExpression, beginning with `what`, with line and column.
    """
    if not isinstance(source, str):
        raise InvalidExpression(f"{what}: {source!r} is no CEL expression; give a str.")
    try:
        unknown = compile(source).names - known
    except InvalidExpression as error:
        raise InvalidExpression(f"{what}: {error}") from None
    if unknown:
        name = min(unknown)
        line, column = _place(source, name)
        raise InvalidExpression(
            f"{what}: line {line}, column {column}: the name {name!r} is unknown here; "
            f"use {', '.join(sorted(known))}."
        )
    return source


def evaluate(source: str, values: Mapping[str, Any]) -> Any:
    """The value of an expression, as JSON's own types; `values` by name likewise,
    or Prepared.

    Raises InvalidExpression, and ExpressionFailed where it cannot be evaluated: a key
    that is absent, types that do not go together, too many steps.
    """
    program = compile(source)
    try:
        given = {
            name: value.ready if isinstance(value, Prepared) else to_cel(value)
            for name, value in values.items()
            if name in program.names
        }
        return from_cel(program.run(given))
    except ExpressionFailed as error:
        raise ExpressionFailed(f"{source!r}: {error}") from None
    except RecursionError:
        raise ExpressionFailed(f"{source!r}: nested too deeply.") from None
    except Exception as error:
        # The interpreter lets through what its functions raise.
        text = f"{type(error).__name__}: {error}"[:200]
        raise ExpressionFailed(f"{source!r}: {text}") from error


def holds(source: str, values: Mapping[str, Any]) -> bool:
    """Whether an expression is true; one that cannot be evaluated is not, and logged.

    Raises nothing: what waits for an expression must not stand in others' way.
    """
    if source == "true":
        return True
    try:
        value = evaluate(source, values)
    except (ExpressionFailed, InvalidExpression) as error:
        logger.warning("An expression counts as false: %s", error)
        return False
    if not isinstance(value, bool):
        logger.warning(
            "An expression counts as false: %r gave %s and not true or false.",
            source,
            type(value).__name__,
        )
        return False
    return value


def names(source: str) -> frozenset[str]:
    """The names that a stored expression reads; none where it has a mistake in it."""
    try:
        return compile(source).names
    except InvalidExpression:
        return frozenset()


_compiling = threading.Lock()  # the parser keeps the text at hand


@lru_cache(maxsize=1_024)
def compile(source: str) -> Program:
    """Compile an expression; raises InvalidExpression with line and column."""
    if len(source) > MAX_CHARACTERS:
        raise InvalidExpression(
            f"The expression has {len(source):,} characters; give at most "
            f"{MAX_CHARACTERS:,}."
        )
    interpreter = engine()
    try:
        with _compiling:
            tree = interpreter.parse(source)
        _check_size(tree)
        _check_functions(tree, interpreter.functions)
        reads = frozenset(_names(tree, frozenset()))
        return Program(source, reads, interpreter.program(tree))
    except RecursionError:
        raise InvalidExpression(
            "The expression is nested too deeply; write it flat."
        ) from None


def _check_size(tree: Any) -> None:
    nodes = 0
    stack = [(tree, 1, 0)]
    while stack:
        node, depth, macros = stack.pop()
        nodes += 1
        children = getattr(node, "children", ())
        if str(getattr(node, "data", "")) == "exprlist" and len(children) > MAX_LIST:
            raise InvalidExpression(
                f"A list in the expression has more than {MAX_LIST} items; shorten it."
            )
        inside = macros + _is_macro(node)
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            raise InvalidExpression(
                "The expression is too long or nested too deeply; simplify it."
            )
        if inside > MAX_MACROS:
            raise InvalidExpression(
                f"Macros such as exists() are nested more than {MAX_MACROS} deep; "
                "simplify the expression."
            )
        # What comes before the dot is not in the body of the macro.
        for number, child in enumerate(children):
            if child:
                stack.append((child, depth + 1, inside if number else macros))


def _check_functions(tree: Any, known: frozenset[str]) -> None:
    stack = [tree]
    while stack:
        node = stack.pop()
        children = [child for child in getattr(node, "children", ()) if child]
        kind = str(getattr(node, "data", ""))
        called = {"ident_arg": 0, "dot_ident_arg": 0, "member_dot_arg": 1}.get(kind)
        if called is not None and str(children[called]) not in known:
            token = children[called]
            raise InvalidExpression(
                f"line {token.line}, column {token.column}: there is no function "
                f"{str(token)!r} in CEL."
            )
        stack.extend(children)


def _is_macro(node: Any) -> bool:
    return (
        str(getattr(node, "data", "")) == "member_dot_arg"
        and str(node.children[1]) in MACROS
    )


def _names(node: Any, bound: frozenset[str]) -> Iterator[str]:
    """The names that an expression reads and that no macro of it binds."""
    kind = str(getattr(node, "data", ""))
    children = [child for child in getattr(node, "children", ()) if child is not None]
    if kind in ("ident", "dot_ident"):
        name = str(children[0])
        if name not in bound and name not in TYPES:
            yield name
        return
    if kind == "member_dot_arg" and _is_macro(node) and len(children) > 2:
        yield from _names(children[0], bound)
        arguments = children[2].children
        first = list(_names(arguments[0], frozenset()))
        inner = bound.union(first[:1])
        for argument in arguments[1:]:
            yield from _names(argument, inner)
        return
    for child in children:
        yield from _names(child, bound)


def _place(source: str, name: str) -> tuple[int, int]:
    """Where a name is read first: line and column, from 1."""
    stack = [engine().parse(source)]
    places = []
    while stack:
        node = stack.pop()
        children: list[Any] = getattr(node, "children", [])
        if str(getattr(node, "data", "")) in ("ident", "dot_ident"):
            token = children[0]
            if str(token) == name:
                places.append((token.line, token.column))
        stack.extend(child for child in children if child is not None)
    return min(places, default=(1, 1))
