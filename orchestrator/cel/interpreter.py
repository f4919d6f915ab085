"""The interpreter of CEL, with what it lacks: a budget of steps, and comparisons.

The only module that knows `celpy`, which it imports where an expression is used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from orchestrator.exceptions import ExpressionFailed, InvalidExpression

MAX_STEPS = 20_000  # nodes visited by one evaluation, those of macros each time
MAX_VALUES = 300_000  # values compared, copied or given by it, and pieces of text
PIECE = 64  # characters

MACROS = frozenset({"map", "filter", "all", "exists", "exists_one", "reduce"})
TYPES = frozenset(
    {
        *("bool", "bytes", "double", "duration", "int", "list", "map", "null_type"),
        *("string", "timestamp", "type", "uint"),
    }
)


def to_cel(value: Any) -> Any:
    """A JSON value as the interpreter takes it."""
    types = engine().types
    if isinstance(value, bool):
        return types.BoolType(value)
    if isinstance(value, str):
        return types.StringType(value)
    if isinstance(value, int):
        # Beyond 64 bits CEL has no integers.
        small = -(2**63) <= value < 2**63
        return types.IntType(value) if small else types.DoubleType(value)
    if isinstance(value, float):
        return types.DoubleType(value)
    if isinstance(value, Mapping):
        items = value.items()
        return types.MapType({types.StringType(k): to_cel(v) for k, v in items})
    if isinstance(value, list | tuple):
        return types.ListType([to_cel(item) for item in value])
    if value is None:
        return None
    raise TypeError(f"{type(value).__name__} is no JSON")


def from_cel(value: Any) -> Any:
    """What it gave as a JSON value; raises ExpressionFailed for what is none."""
    _left.values = MAX_VALUES
    try:
        return _plain(engine().types, value)
    except _TooMuch as error:
        raise ExpressionFailed(str(error)) from None


def _plain(types: Any, value: Any) -> Any:
    _spend(1)
    if value is None or type(value) in (bool, int, float, str):
        return value
    scalars: list[tuple[Any, Callable[[Any], Any]]] = [
        (types.BoolType, bool),
        (types.DoubleType, float),
        ((types.IntType, types.UintType), int),
        ((types.StringType, types.TimestampType, types.DurationType), str),
    ]
    for kind, plain in scalars:
        if isinstance(value, kind):
            return plain(value)
    if isinstance(value, types.ListType):
        return [_plain(types, item) for item in value]
    if isinstance(value, types.MapType):
        return {str(_plain(types, k)): _plain(types, v) for k, v in value.items()}
    raise ExpressionFailed(f"it gave a {type(value).__name__}, which is not JSON.")


@dataclass(frozen=True)
class Engine:
    """What there is of it: to parse a text, and to make a function of the tree.

    `parse` raises InvalidExpression with line and column.
    """

    parse: Callable[[str], Any]
    program: Callable[[Any], Callable[[Mapping[str, Any]], Any]]
    types: Any
    functions: frozenset[str]


@cache
def engine() -> Engine:
    """The interpreter, imported where an expression is used: it takes a while."""
    import celpy
    from celpy import celparser, celtypes, evaluation

    same, compare = _comparisons(celtypes, evaluation)
    functions = {**compare, **_functions(celtypes, evaluation, same)}

    class Evaluator(evaluation.Evaluator):
        """Counts the nodes that it visits, those in the bodies of macros, too."""

        budget: list[int]

        def visit_children(self, tree: Any) -> Any:
            self.budget[0] -= 1
            if self.budget[0] < 0:
                raise _TooMuch(f"it takes more than {MAX_STEPS:,} steps.")
            return super().visit_children(tree)

        def sub_evaluator(self, ast: Any) -> Evaluator:
            inner = type(self)(ast, activation=self.activation)
            inner.budget = self.budget
            return inner

    class Runner(celpy.InterpretedRunner):
        # Not its CompiledRunner, which keeps its activation in globals of a module.
        def evaluate(self, context: Any) -> Any:
            evaluator = Evaluator(ast=self.ast, activation=self.new_activation())
            evaluator.budget = [MAX_STEPS]
            _left.values = MAX_VALUES
            try:
                return evaluator.evaluate(context)
            except _TooMuch as error:
                raise ExpressionFailed(str(error)) from None

    environment = celpy.Environment(runner_class=Runner)

    def parse(source: str) -> Any:
        try:
            return environment.compile(source)
        except celparser.CELParseError as error:
            line, column = error.line or 1, error.column or 1
            raise InvalidExpression(
                f"line {line}, column {column}: {source!r} is no CEL expression."
            ) from None

    def program(tree: Any) -> Callable[[Mapping[str, Any]], Any]:
        made = environment.program(tree, functions=functions)
        return lambda values: made.evaluate(dict(values))

    return Engine(
        parse,
        program,
        celtypes,
        MACROS | TYPES | {"has", "dyn", *evaluation.base_functions},
    )


class _TooMuch(Exception):
    """Not a ValueError or TypeError: the interpreter makes values of those."""


class _Left(threading.local):
    values = MAX_VALUES


_left = _Left()


def _spend(values: int) -> None:
    """Count what a single step does to many values."""
    _left.values -= values
    if _left.values < 0:
        raise _TooMuch(f"it handles more than {MAX_VALUES:,} values.")


Functions = dict[str, Callable[..., Any]]


def _comparisons(
    types: Any, evaluation: Any
) -> tuple[Callable[[Any, Any], bool], Functions]:
    """Comparisons as the CEL specification has them.

    Numbers of different types compare by value (cloud-custodian/cel-python#114), and
    values of different kinds are unequal, where the interpreter finds no overload.
    """
    numeric = (types.IntType, types.UintType, types.DoubleType)
    base = evaluation.base_functions

    def number(value: Any) -> int | float | None:
        if isinstance(value, types.BoolType) or not isinstance(value, numeric):
            return None
        return float(value) if isinstance(value, types.DoubleType) else int(value)

    def ordered(name: str, compare: Callable[[Any, Any], bool]) -> Callable[..., Any]:
        def function(a: Any, b: Any) -> Any:
            left, right = number(a), number(b)
            if left is None or right is None:
                return base[name](a, b)
            return types.BoolType(compare(left, right))

        return function

    def same(a: Any, b: Any) -> bool:
        _spend(1)
        if isinstance(a, str) and isinstance(b, str):
            return str(a) == str(b)  # what functions give is of Python's own type
        if isinstance(a, bytes) and isinstance(b, bytes):
            return bytes(a) == bytes(b)
        left, right = number(a), number(b)
        if left is not None or right is not None:
            return left is not None and right is not None and left == right
        if isinstance(a, types.ListType) and isinstance(b, types.ListType):
            return len(a) == len(b) and all(map(same, a, b))
        if isinstance(a, types.MapType) and isinstance(b, types.MapType):
            return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
        return type(a) is type(b) and bool(a == b)

    def checked(function: Callable[[Any, Any], bool]) -> Callable[..., Any]:
        def guarded(a: Any, b: Any) -> Any:
            for value in (a, b):
                if isinstance(value, evaluation.CELEvalError):
                    return value
            return types.BoolType(function(a, b))

        return guarded

    def contains(item: Any, container: Any) -> bool:
        if isinstance(container, types.MapType | types.ListType):
            return any(same(item, each) for each in container)
        raise TypeError("`in` wants a list or a map on its right")

    return same, {
        "_<_": ordered("_<_", lambda a, b: a < b),
        "_<=_": ordered("_<=_", lambda a, b: a <= b),
        "_>_": ordered("_>_", lambda a, b: a > b),
        "_>=_": ordered("_>=_", lambda a, b: a >= b),
        "_==_": checked(same),
        "_!=_": checked(lambda a, b: not same(a, b)),
        "_in_": checked(contains),
    }


def _functions(
    types: Any, evaluation: Any, same: Callable[[Any, Any], bool]
) -> Functions:
    """Functions of which one step may do a lot, so that they count it."""
    base, re2 = evaluation.base_functions, evaluation.re2
    quiet = re2.Options()
    quiet.log_errors = False

    def add(a: Any, b: Any) -> Any:
        if isinstance(a, str) and isinstance(b, str):
            _spend((len(a) + len(b)) // PIECE)
            return types.StringType(str(a) + str(b))
        if isinstance(a, types.ListType) and isinstance(b, types.ListType):
            _spend(len(a) + len(b))
            return types.ListType([*a, *b])
        return base["_+_"](a, b)

    def contains(container: Any, item: Any) -> Any:
        if isinstance(container, types.MapType | types.ListType):
            return types.BoolType(any(same(item, each) for each in container))
        if isinstance(container, str):
            _spend(len(container) // PIECE)
        return base["contains"](container, item)

    def matches(text: Any, pattern: Any) -> Any:
        if not isinstance(text, str) or not isinstance(pattern, str):
            raise TypeError("matches() wants a string and a pattern")
        _spend(len(text) // PIECE)
        try:
            return types.BoolType(re2.search(pattern, text, quiet) is not None)
        except re2.error as error:
            return evaluation.CELEvalError("match error", type(error), error.args)

    return {"_+_": add, "contains": contains, "matches": matches}
