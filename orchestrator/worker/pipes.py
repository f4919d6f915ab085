"""Pipes: how a child and its isolated processes speak with each other.

JSON in frames: a length and a body.
"""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any
from uuid import UUID

from orchestrator.engine.says import Chunk, Line, More, Word

_LENGTH = struct.Struct(">I")
LOOK = 0.25  # seconds between two looks at whether the process lives, and may go on

Deadline = Callable[[], float | None]

_KINDS: dict[str, Callable[..., Any]] = {
    "line": Line,
    "chunk": Chunk,
    "word": Word,
    "more": More,
}
_IDS = ("run_id", "task_run_id")


class Ended(Exception):
    """The process has closed its pipe."""


class Pipe:
    """The way out of an isolated process, for its answers and for what it says."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, message: Any) -> None:
        """Send one frame; any thread may."""
        with self._lock:
            write(self._descriptor, message)

    def line(self, line: Line) -> None:
        """Pass on a line of a log."""
        self._say("line", line)

    def chunk(self, chunk: Chunk) -> None:
        """Pass on a chunk of a stream."""
        self._say("chunk", chunk)

    def word(self, word: Word) -> None:
        """Pass on a word of progress."""
        self._say("word", word)

    def more(self, more: More) -> None:
        """Pass on seconds that were added to an execution timeout."""
        self._say("more", more)

    def _say(self, kind: str, item: tuple[Any, ...]) -> None:
        values = [v.hex if isinstance(v, UUID) else v for v in item]
        self.send({"said": kind, "item": values})


def heard(frame: dict[str, Any]) -> tuple[str, Any]:
    """What a frame says: its kind and the item."""
    kind = frame["said"]
    made = _KINDS[kind](*frame["item"])
    named = {n: UUID(getattr(made, n)) for n in _IDS if n in made._fields}
    return kind, made._replace(**named)


def write(descriptor: int, message: Any) -> None:
    """Send one frame."""
    body = json.dumps(message).encode()
    data = memoryview(_LENGTH.pack(len(body)) + body)
    while data:
        data = data[os.write(descriptor, data) :]


def read(
    descriptor: int,
    deadline: Deadline = lambda: None,
    process: subprocess.Popen[bytes] | None = None,
) -> Any:
    """Receive one frame by `deadline()` (monotonic seconds), which may move meanwhile.

    Raises Ended where the other side has closed or `process` has ended, TimeoutError
    after the deadline.
    """
    length = _read_exactly(descriptor, _LENGTH.size, deadline, process)
    return json.loads(
        _read_exactly(descriptor, _LENGTH.unpack(length)[0], deadline, process)
    )


def _read_exactly(
    descriptor: int,
    size: int,
    deadline: Deadline,
    process: subprocess.Popen[bytes] | None,
) -> bytes:
    data = bytearray()
    while len(data) < size:
        _await_readable(descriptor, deadline, process)
        part = os.read(descriptor, size - len(data))
        if not part:
            raise Ended
        data += part
    return bytes(data)


def _await_readable(
    descriptor: int,
    deadline: Deadline,
    process: subprocess.Popen[bytes] | None,
) -> None:
    if process is None:
        return  # nobody to look after: the read itself waits
    while True:
        ended = process.poll() is not None
        by = deadline()
        left = LOOK if by is None else min(LOOK, by - monotonic())
        if select.select([descriptor], [], [], 0 if ended else max(0.0, left))[0]:
            return
        if ended:
            raise Ended  # a grandchild still holds the pipe open
        by = deadline()
        if by is not None and monotonic() >= by:
            raise TimeoutError
