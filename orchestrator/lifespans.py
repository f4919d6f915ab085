"""The lifespan: what a process sets up before its first task, and tears down after the
last one.

`ORCHESTRATOR["LIFESPAN"]` is the dotted path of a function that gives a context
manager, sync or async. Its value is `ctx.lifespan` of every task of the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from django.utils.module_loading import import_string

from orchestrator.conf import settings
from orchestrator.exceptions import SettingsError

Submit = Callable[[Coroutine[Any, Any, None]], "Future[None]"]


class Lifespan:
    """One lifespan, entered. `value` is what it gave."""

    def __init__(self, value: Any, leave: Callable[[], None]) -> None:
        self.value = value
        self._leave = leave

    def close(self) -> None:
        """Tear it down; raises what that raises."""
        self._leave()


def enter(submit: Submit) -> Lifespan:
    """Set up the project's lifespan, which is empty where it has none.

    An async one lives in one task of the event loop that `submit` gives it to, so that
    what it makes belongs to that loop. Raises SettingsError, and what it raises itself.
    """
    path = settings.lifespan
    if path is None:
        return Lifespan(None, lambda: None)
    manager = _made(path)
    if hasattr(manager, "__aenter__"):
        return _Held(manager).enter(submit)
    value = manager.__enter__()
    return Lifespan(value, lambda: manager.__exit__(None, None, None))


def _made(path: str) -> Any:
    try:
        function = import_string(path)
    except ImportError as error:
        raise SettingsError(
            f"ORCHESTRATOR['LIFESPAN'] is {path!r}, which cannot be imported: {error}."
        ) from error
    manager = function()
    if not hasattr(manager, "__aenter__") and not hasattr(manager, "__enter__"):
        raise SettingsError(
            f"ORCHESTRATOR['LIFESPAN'] is {path!r}, which gave {manager!r} and not a "
            "context manager; decorate it with contextlib.contextmanager or "
            "asynccontextmanager."
        )
    return manager


class _Held:
    """An async context manager that one task enters, holds and leaves."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._entered: Future[Any] = Future()
        self._leave: Callable[[], object] = lambda: None

    def enter(self, submit: Submit) -> Lifespan:
        done = submit(self._hold())
        value = self._entered.result()

        def leave() -> None:
            self._leave()
            done.result()

        return Lifespan(value, leave)

    async def _hold(self) -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        self._leave = lambda: loop.call_soon_threadsafe(over.set)
        try:
            async with self._manager as value:
                self._entered.set_result(value)
                await over.wait()
        except BaseException as error:
            if self._entered.done():
                raise
            self._entered.set_exception(error)


class Background:
    """An event loop in a thread of its own, for a process that has none."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def submit(self, coroutine: Coroutine[Any, Any, None]) -> Future[None]:
        """Run a coroutine there; the thread starts with the first one."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="lifespan", daemon=True
            )
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """End the thread, if there is one."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


@contextmanager
def entered() -> Iterator[Any]:
    """The value of the project's lifespan, set up for the block."""
    background = Background()
    lifespan = enter(background.submit)
    try:
        yield lifespan.value
    finally:
        try:
            lifespan.close()
        finally:
            background.close()
