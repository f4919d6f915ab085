"""Tasks that the tests of workers execute in real processes.

Tasks tell what they do by appending lines to a file, which a test reads: it sees every
execution, also those whose result was refused.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from orchestrator import Context, Retry, task, workflow


def tell(path: str, *words: object) -> None:
    """Append a line, in one write."""
    with Path(path).open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")


@task
def noop() -> None:
    """Nothing."""


@task
async def anoop() -> None:
    """Nothing, on the loop."""


@task
def work(path: str, name: str, seconds: float = 0.0) -> str:
    """Tell the start and the end, and sleep in between."""
    tell(path, "start", name, os.getpid())
    time.sleep(seconds)
    tell(path, "end", name, os.getpid())
    return name


@task(slot_cost=5)
def costly(path: str, name: str, seconds: float) -> None:
    """`work` that takes five slots."""
    tell(path, "start", name)
    time.sleep(seconds)
    tell(path, "end", name)


@task
async def awork(path: str, name: str, seconds: float = 0.0) -> str:
    """`work` on the loop."""
    tell(path, "start", name, os.getpid())
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        tell(path, "cancelled", name, os.getpid())
        raise
    tell(path, "end", name, os.getpid())
    return name


@task(isolated=True)
def work_alone(path: str, name: str, seconds: float = 0.0) -> str:
    """`work` in a process of its own, with a program that it started."""
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    tell(path, "start", name, os.getpid(), program.pid)
    time.sleep(seconds)
    program.kill()
    program.wait()
    tell(path, "end", name, os.getpid(), program.pid)
    return name


@task(isolated=True, execution_timeout=timedelta(seconds=1))
def overrun_alone(path: str) -> None:
    """Ignore everything but SIGKILL."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    tell(path, "start", "overrun", os.getpid(), program.pid)
    while True:
        try:
            time.sleep(1)
        except BaseException as error:
            tell(path, "caught", type(error).__name__)


@task(isolated=True)
def die_alone(how: str) -> None:
    """Take its process with it."""
    die(how)


@task
def poison(path: str, how: str) -> None:
    """Take its child process with it, after telling so."""
    tell(path, "start", "poison", os.getpid())
    die(how)


def die(how: str) -> None:
    """End this process in a way that Python does not see."""
    if how == "exit":
        os._exit(0)
    elif how == "segfault":
        ctypes.string_at(0)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


@task(execution_timeout=timedelta(seconds=0.5))
def overrun(path: str, seconds: float) -> str:
    """Take longer than allowed, in a thread that nobody can stop."""
    tell(path, "start", "overrun", os.getpid())
    time.sleep(seconds)
    tell(path, "end", "overrun", os.getpid())
    return "too late"


@task(execution_timeout=timedelta(seconds=0.5))
async def aoverrun(path: str, *, stubborn: bool) -> str:
    """Take longer than allowed on the loop; a stubborn one swallows its cancel."""
    tell(path, "start", "aoverrun", os.getpid())
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        tell(path, "cancelled", "aoverrun")
        if not stubborn:
            raise
    return "too late"


@task(takes_context=True)
def look_out(ctx: Context[Any], path: str) -> str:
    """Run until it is told that it was cancelled."""
    tell(path, "start", "look_out", os.getpid())
    for _ in range(600):
        if ctx.is_cancelled:
            tell(path, "cancelled", "look_out")
            ctx.check_cancelled()
        time.sleep(0.05)
    return "nobody told"


@task
def backend() -> int:
    """The id of the server process of this thread's Django connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


@task
def leave_mess(how: str) -> int:
    """Leave this thread's connection in a state that nobody should inherit."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = int(cursor.fetchone()[0])
        if how == "raw":
            cursor.execute("BEGIN")
    if how == "atomic":
        transaction.atomic().__enter__()
    elif how == "autocommit":
        transaction.set_autocommit(False)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    elif how == "broken":
        transaction.set_autocommit(False)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1/0")
    return pid


@task(retries=Retry(2, initial=timedelta(milliseconds=100), jitter=False))
def flaky(path: str, failures: int) -> int:
    """Fail so many times, then succeed."""
    tell(path, "start", "flaky", os.getpid())
    before = Path(path).read_text().count("start flaky")
    if before <= failures:
        raise ValueError(f"failure {before}")
    return before


chain = workflow("tests-chain", input=dict)


@chain.task
def first(ctx: Context[dict[str, Any]]) -> int:
    """Start with the input."""
    return int(ctx.input["number"])


@chain.task(parents=[first])
async def second(ctx: Context[dict[str, Any]]) -> int:
    """Add one, on the loop."""
    return ctx.output(first) + 1


@chain.task(parents=[first, second])
def third(ctx: Context[dict[str, Any]]) -> int:
    """Add both."""
    return ctx.output(first) + ctx.output(second)


@task
def flaky_now() -> None:
    """Fail at once, with an exception that cannot even be shown."""

    class Unshowable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    raise Unshowable


@task
def started_at() -> float:
    """When it was executed."""
    return time.time()


@task
async def ablock(path: str, seconds: float) -> None:
    """Block the whole loop, as no async function should."""
    tell(path, "start", "block", os.getpid())
    time.sleep(seconds)
