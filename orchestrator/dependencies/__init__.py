"""Dependencies: parameters that the engine fills in, by their annotation.

    def ledger(ctx: Context[Any]) -> Ledger: ...

    @task
    def settle(order: int, ledger: Annotated[Ledger, Depends(ledger)]) -> None: ...

    settle.enqueue(7)

They are no arguments of the call. Each is made once an attempt, before the function is
called; what was entered is left afterwards, the last one first.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from typing import Any

from asgiref.sync import sync_to_async

from orchestrator.dependencies.graph import (
    Depends,
    Graph,
    Node,
    check_order,
    dependencies_of,
    locals_of_caller,
)
from orchestrator.voices import speaker

# The default of a parameter that is filled in, for type checkers: callers may then
# leave it out. Nobody ever sees it.
INJECTED: Any = object()

__all__ = ["INJECTED", "Depends", "injected"]

_MARK = "__orchestrator_dependencies__"


def injected(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function without its dependencies, which it is given at each call.

    An argument of that name goes before, so that a test can give its own. The function
    itself where it has none. Raises InvalidDefinition where they cannot work.
    """
    if hasattr(function, _MARK):
        return function
    local = locals_of_caller()
    found = dependencies_of(function, local)
    if not found:
        return function
    graph = Graph(local)
    needs = {name: graph.node(one.function, (function,)) for name, one in found.items()}

    check_order(function, found)
    is_async = inspect.iscoroutinefunction(function)
    make = _awaited if is_async else _called
    wrapper: Callable[..., Any] = make(function, needs)
    functools.update_wrapper(wrapper, function)
    signature = inspect.signature(function)
    parameters = [p for n, p in signature.parameters.items() if n not in needs]
    vars(wrapper)["__signature__"] = signature.replace(parameters=parameters)
    wrapper.__annotations__ = {
        name: kind
        for name, kind in function.__annotations__.items()
        if name not in needs
    }
    setattr(wrapper, _MARK, needs)
    return wrapper


def _awaited(function: Callable[..., Any], needs: dict[str, Node]) -> Any:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        given = _Given(_context(args))
        async with AsyncExitStack() as stack:
            try:
                for name, node in needs.items():
                    if kwargs.get(name, INJECTED) is INJECTED:
                        kwargs[name] = await given.amake(node, stack)
                return await function(*args, **kwargs)
            except BaseException as error:
                given.error = error
                raise
        raise given.error or RuntimeError  # no manager hides how the task ended

    return wrapper


def _called(function: Callable[..., Any], needs: dict[str, Node]) -> Any:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        given = _Given(_context(args))
        with ExitStack() as stack:
            try:
                for name, node in needs.items():
                    if kwargs.get(name, INJECTED) is INJECTED:
                        kwargs[name] = given.make(node, stack)
                return function(*args, **kwargs)
            except BaseException as error:
                given.error = error
                raise
        raise given.error or RuntimeError  # no manager hides how the task ended

    return wrapper


class _Given:
    """What one attempt has been given so far."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.error: BaseException | None = None
        self._made: dict[Node, Any] = {}
        self._runner: asyncio.Runner | None = None

    def make(self, node: Node, stack: ExitStack) -> Any:
        """The value of a node, in a sync task; async ones share a loop of their own."""
        if node not in self._made:
            needs = {name: self.make(one, stack) for name, one in node.needs.items()}
            made = node.function(*self._arguments(node), **needs)
            if node.is_async:
                run = self._run(stack)
                if node.enters:
                    leave = made.__aexit__
                    made = run(_call(made.__aenter__))
                    stack.push(lambda *about: run(_call(leave, *about)))
                else:
                    made = run(made)
            elif node.enters:
                made = stack.enter_context(made)
            self._made[node] = made
        return self._made[node]

    async def amake(self, node: Node, stack: AsyncExitStack) -> Any:
        """The value of a node, in an async task; sync ones are called in a thread."""
        if node not in self._made:
            needs = {n: await self.amake(one, stack) for n, one in node.needs.items()}
            arguments = self._arguments(node)
            if node.is_async:
                made = node.function(*arguments, **needs)
                if node.enters:
                    made = await stack.enter_async_context(made)
                else:
                    made = await made
            else:
                made = await sync_to_async(node.function)(*arguments, **needs)
                if node.enters:
                    leave = sync_to_async(made.__exit__)
                    entered = await sync_to_async(made.__enter__)()
                    stack.push_async_exit(leave)
                    made = entered
            self._made[node] = made
        return self._made[node]

    def _arguments(self, node: Node) -> tuple[Any, ...]:
        if not node.takes_context:
            return ()
        if self.context is None:
            name = getattr(node.function, "__name__", node.function)
            raise TypeError(
                f"The dependency {name} takes the context, and there is none outside "
                "of a task. Give the parameter itself, or execute the task by drain()."
            )
        return (self.context,)

    def _run(self, stack: ExitStack) -> Callable[[Any], Any]:
        if self._runner is None:
            self._runner = stack.enter_context(asyncio.Runner())
        return self._runner.run


async def _call(function: Callable[..., Any], *args: Any) -> Any:
    return await function(*args)


def _context(args: tuple[Any, ...]) -> Any:
    from orchestrator.context import Context

    if args and isinstance(args[0], Context):
        return args[0]
    return speaker.get()
