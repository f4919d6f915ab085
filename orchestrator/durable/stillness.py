"""Stillness: whether an asyncio task waits for other tasks alone, or for the world.

Only asyncio's own means are known: tasks, `gather`, `wait`, task groups, `shield`,
locks and queues. Whatever else is awaited counts as the world: a timer, a thread, a
socket. What libraries do with locks and queues does so, too, for behind these there is
a socket as a rule.
"""

from __future__ import annotations

import asyncio
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

_ASYNCIO = str(Path(asyncio.__file__).parent)
_LIBRARIES = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
_FOR_TASKS = {"tasks.py", "taskgroups.py"}
_FOR_SIGNALS = {"locks.py", "queues.py"}


def waits_for_others(
    task: asyncio.Task[Any], awaited: Any, ours: Callable[[Any], bool]
) -> bool:
    """Whether `task`, which awaits a future, waits for some of `ours` alone."""
    if ours(awaited):
        return True
    parts = getattr(awaited, "_children", None)  # of gather
    if parts is not None:
        return all(part.done() or waits_for_others(task, part, ours) for part in parts)
    if _is_shield(awaited, ours):
        return True
    codes = list(_codes(task.get_coro()))
    if not codes:
        return False
    innermost = Path(codes[-1].co_filename)
    if str(innermost.parent) != _ASYNCIO:
        return False
    if innermost.name in _FOR_TASKS:
        return codes[-1].co_name != "sleep"
    return innermost.name in _FOR_SIGNALS and _is_users(codes)


def _is_shield(awaited: Any, ours: Callable[[Any], bool]) -> bool:
    for callback, _ in getattr(awaited, "_callbacks", None) or ():
        cells = getattr(callback, "__closure__", None) or ()
        if any(ours(_shown(cell)) for cell in cells):
            return True
    return False


def _shown(cell: Any) -> Any:
    value = cell.cell_contents
    return value if isinstance(value, asyncio.Future) else None


def _is_users(codes: list[CodeType]) -> bool:
    """Whether code that is no library's has called what asyncio does here."""
    for code in reversed(codes):
        if not code.co_filename.startswith(_ASYNCIO):
            return not code.co_filename.startswith(_LIBRARIES)
    return False


def _codes(coroutine: Any) -> Iterator[CodeType]:
    """What is being executed, from the outermost coroutine to the innermost one."""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None)
        if frame is None:
            return
        yield frame.f_code
        coroutine = coroutine.cr_await
