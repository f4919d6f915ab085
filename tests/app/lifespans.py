"""Lifespans for the tests: they tell, in a file, when they are set up and torn down."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Lifespan:
    """What tasks find on `ctx.lifespan`."""

    foo: str
    pi: float
    loop: object = None


def _tell(word: str) -> None:
    with Path(os.environ["TESTS_LIFESPAN"]).open("a") as file:
        file.write(f"{word} {os.getpid()}\n")


@contextmanager
def plain() -> Iterator[Lifespan]:
    """A sync one."""
    _tell("up")
    yield Lifespan("bar", 3.14)
    _tell("down")


@asynccontextmanager
async def on_loop() -> AsyncIterator[Lifespan]:
    """An async one, which must be left by the task that has entered it."""
    _tell("up")
    task = asyncio.current_task()
    yield Lifespan("bar", 3.14, asyncio.get_running_loop())
    _tell("down" if asyncio.current_task() is task else "left elsewhere")


@contextmanager
def broken() -> Iterator[None]:
    """One that cannot be set up."""
    _tell("up")
    if "TESTS_LIFESPAN" in os.environ:
        raise RuntimeError("no model to load")
    yield


def no_manager() -> int:
    """No context manager at all."""
    return 7
