"""Two file locks, which the kernel releases however a process ends.

Every user of a server holds ``users.lock`` shared. The one that can make it
exclusive is the last. Starting and stopping happen under ``start.lock``.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path


@contextlib.contextmanager
def starting(directory: Path) -> Iterator[None]:
    """Hold the right to start or stop the server; waits for whoever has it."""
    with (directory / "start.lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def starting_if_free(directory: Path) -> Iterator[bool]:
    """Like `starting`, but yields False at once while somebody else has it."""
    with (directory / "start.lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


class UserLock:
    """This process's place among the users of a server."""

    def __init__(self, directory: Path) -> None:
        self._handle: TextIOWrapper = (directory / "users.lock").open("a")
        fcntl.flock(self._handle, fcntl.LOCK_SH)

    def is_last(self) -> bool:
        """Whether no other process uses the server; makes the place exclusive."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Leave. In a forked child this does not give up the parent's place."""
        self._handle.close()
