"""The graph of dependencies, as it is declared."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from orchestrator.exceptions import InvalidDefinition


@dataclass(frozen=True)
class Depends:
    """Fill this parameter in with what `function` gives.

    It may be sync or async, or a context manager (one function that yields once), which
    is entered before the task and left after it; a class that is one is entered, too.
    Its first parameter is the task's `ctx`, if it has any that is not another one of
    these. Each function is called once an attempt, whoever depends on it.
    """

    function: Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Node:
    """One function of the graph, and how it is called."""

    function: Callable[..., Any]
    enters: bool
    is_async: bool
    takes_context: bool
    needs: dict[str, Node] = field(default_factory=dict)


class Graph:
    """Dependencies of dependencies, each function once."""

    def __init__(self, local: Mapping[str, Any]) -> None:
        self._local = local
        self._nodes: dict[Any, Node] = {}

    def node(self, function: Any, path: tuple[Any, ...]) -> Node:
        """The node of a function that the last one of `path` depends on.

        Raises InvalidDefinition for a cycle, and for what cannot be called.
        """
        if function in path:
            names = [*map(_name, path[path.index(function) :]), _name(function)]
            raise InvalidDefinition(
                f"Dependencies go round in a circle: {' → '.join(names)}. Take one of "
                "them out of another's parameters."
            )
        if function in self._nodes:
            return self._nodes[function]
        if not callable(function):
            raise InvalidDefinition(f"Depends({function!r}): give a function.")
        found = dependencies_of(function, self._local)
        takes_context = _takes_context(function, found)
        needs = {
            name: self.node(one.function, (*path, function))
            for name, one in found.items()
        }
        made, enters, is_async = _kind(function)
        self._nodes[function] = Node(made, enters, is_async, takes_context, needs)
        return self._nodes[function]


def _kind(function: Any) -> tuple[Any, bool, bool]:
    """What to call, whether what it gives is entered, and whether that is async."""
    if inspect.isgeneratorfunction(function):
        return contextmanager(function), True, False
    if inspect.isasyncgenfunction(function):
        return asynccontextmanager(function), True, True
    if isinstance(function, type):
        is_async = hasattr(function, "__aenter__")
        return function, is_async or hasattr(function, "__enter__"), is_async
    inner = inspect.unwrap(function)
    if inspect.isgeneratorfunction(inner):  # contextlib.contextmanager
        return function, True, False
    if inspect.isasyncgenfunction(inner):
        return function, True, True
    return function, False, inspect.iscoroutinefunction(function)


def _takes_context(function: Any, found: Mapping[str, Depends]) -> bool:
    rest = [p for n, p in _parameters(function).items() if n not in found]
    needed = [
        parameter
        for parameter in rest
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if len(needed) > 1 or any(p.kind == p.KEYWORD_ONLY for p in needed):
        raise InvalidDefinition(
            f"The dependency {_name(function)} has parameters that nothing fills in: "
            f"{', '.join(p.name for p in needed)}. It may take ctx, others annotated "
            "with Depends(…), and what has a default."
        )
    return bool(needed)


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}  # a class written in C


def dependencies_of(function: Any, local: Mapping[str, Any]) -> dict[str, Depends]:
    """By parameter, what it depends on; the annotations of these are resolved."""
    made = vars(function).get("__init__") if isinstance(function, type) else function
    inner = None if made is None else inspect.unwrap(made)
    annotations = getattr(inner, "__annotations__", {})
    names = getattr(inner, "__globals__", {})
    found = {}
    for name in _parameters(function):
        kind = annotations.get(name)
        if isinstance(kind, str):
            kind = _resolved(kind, names, local, f"{_name(function)}({name})")
        marks = [m for m in getattr(kind, "__metadata__", ()) if isinstance(m, Depends)]
        if marks:
            found[name] = marks[-1]
            annotations[name] = kind  # a later reader need not know its names
    return found


def _resolved(
    text: str, names: dict[str, Any], local: Mapping[str, Any], where: str
) -> Any:
    def holder() -> None: ...

    holder.__annotations__ = {"value": text}
    try:
        return typing.get_type_hints(holder, names, dict(local), include_extras=True)[
            "value"
        ]
    except Exception as error:
        if "Depends" in text:
            raise InvalidDefinition(
                f"The annotation of {where} cannot be read: {error}. Declare what it "
                "names before the task, outside `if TYPE_CHECKING`."
            ) from error
        return None  # of an argument, and read at its first use


def locals_of_caller() -> Mapping[str, Any]:
    """The names of the function that declares a task inside of itself."""
    return next(
        (f.f_locals for f in _frames() if not _is_ours(f.f_globals.get("__name__"))), {}
    )


def _frames() -> Iterator[Any]:
    frame = sys._getframe(1)
    while frame is not None:
        yield frame
        if frame.f_back is None:
            return
        frame = frame.f_back


def _is_ours(module: object) -> bool:
    return str(module).partition(".")[0] == "orchestrator"


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", function)).rpartition("<locals>.")[2]


def check_order(function: Any, found: Mapping[str, Depends]) -> None:
    first = ""
    for name, parameter in _parameters(function).items():
        if name in found:
            first = first or name
        elif first and parameter.kind == parameter.POSITIONAL_OR_KEYWORD:
            raise InvalidDefinition(
                f"{_name(function)}: the argument {name} stands behind {first}, which "
                "the engine fills in; put what callers give first."
            )
