"""Executing an async durable function on an event loop, with all of its branches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from orchestrator.durable.branches import Branches
from orchestrator.exceptions import OrchestratorError, Suspend

if TYPE_CHECKING:
    from orchestrator.durable.base import Calls


async def run(ctx: Calls, invoke: Callable[[], Awaitable[Any]], linger: float) -> Any:
    """Execute an async durable function; what it returns.

    Raises Suspend when it has to wait: its branches are cancelled, and have `linger`
    seconds for their `finally` blocks.
    """
    branches = ctx.branches = Branches(ctx)
    root = branches.begin(_awaiting(invoke))
    try:
        await asyncio.wait({root, branches.ended}, return_when=asyncio.FIRST_COMPLETED)
        if branches.ended.done():
            await _end(branches, linger)
            raise Suspend
        return root.result()
    except asyncio.CancelledError:
        root.cancel()
        await asyncio.wait({root})
        raise
    finally:
        for task in list(branches.tasks):
            task.cancel()
        if not branches.ended.done():
            branches.ended.cancel()


async def _awaiting(invoke: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await invoke()
    except (SystemExit, KeyboardInterrupt) as error:
        # asyncio would let it out of the loop, and so end what runs beside it.
        raise OrchestratorError(f"The function raised {error!r}.") from error


async def _end(branches: Branches, linger: float) -> None:
    tasks = list(branches.tasks)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=linger)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()  # it is dropped, so nobody is to be told of it
