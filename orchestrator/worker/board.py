"""The board: memory that a supervisor and one of its children share.

Beats tell each that the other lives. A cell for each slot holds the id of the task run
that it has started, and the process group that executes it where that is not the child:
when a child dies, the supervisor still reads them, charges nobody else and leaves no
process behind. Times are `time.monotonic_ns()`, which all processes of a machine share.
"""

from __future__ import annotations

import mmap
import struct
import tempfile
import time
from typing import IO
from uuid import UUID

from orchestrator.conf import settings

HEADER = 64
CELL = 16
GROUP = 8
EMPTY = bytes(CELL)

_SUPERVISOR_BEAT = 0
_CHILD_BEAT = 8
_FEED_UNTIL = 16
_NUMBER = struct.Struct("=q")


def supervisor_silence() -> float:
    """Seconds without its supervisor's beat after which a child claims nothing more.

    Well before the worker can be declared lost: what it claimed after that would be
    taken from it at once.
    """
    return min(10.0, settings.lost_after.total_seconds() / 3)


def size(slots: int) -> int:
    """The bytes of a board."""
    return HEADER + slots * (CELL + GROUP)


class Board:
    """One shared page; `slots` cells, numbered from 0."""

    def __init__(self, file: int, slots: int) -> None:
        self.slots = slots
        self.memory = mmap.mmap(file, size(slots))

    @classmethod
    def create(cls, slots: int) -> tuple[Board, IO[bytes]]:
        """A new board and the unnamed file behind it, whose descriptor a child gets."""
        file = tempfile.TemporaryFile()  # noqa: SIM115
        file.truncate(size(slots))
        return cls(file.fileno(), slots), file

    def close(self) -> None:
        """Give the memory back."""
        self.memory.close()

    def beat_supervisor(self) -> None:
        """The supervisor's loop has come round."""
        self._write(_SUPERVISOR_BEAT, time.monotonic_ns())

    def beat_child(self) -> None:
        """The child's engine thread has come round."""
        self._write(_CHILD_BEAT, time.monotonic_ns())

    def supervisor_silence(self) -> float:
        """Seconds since the supervisor's last beat."""
        return (time.monotonic_ns() - self._read(_SUPERVISOR_BEAT)) / 1e9

    def child_silence(self) -> float:
        """Seconds since the child's last beat; infinite before its first one."""
        beat = self._read(_CHILD_BEAT)
        return (time.monotonic_ns() - beat) / 1e9 if beat else float("inf")

    def has_beaten(self) -> bool:
        """Whether the child's engine thread has ever come round."""
        return self._read(_CHILD_BEAT) != 0

    def want_feed(self, seconds: float) -> None:
        """Have the child send hints for open pages, for so long from now."""
        self._write(_FEED_UNTIL, time.monotonic_ns() + int(seconds * 1e9))

    def wants_feed(self) -> bool:
        """Whether a page is open somewhere."""
        return self._read(_FEED_UNTIL) > time.monotonic_ns()

    def mark(self, slot: int, task_run_id: UUID) -> None:
        """The slot has started this task run."""
        start = HEADER + slot * CELL
        self.memory[start : start + CELL] = task_run_id.bytes

    def clear(self, slot: int) -> None:
        """The slot has nothing started."""
        start = HEADER + slot * CELL
        self.memory[start : start + CELL] = EMPTY

    def started(self) -> list[UUID]:
        """What the slots had started when the child was last heard of."""
        cells = self.memory[HEADER : HEADER + self.slots * CELL]
        found = (cells[i : i + CELL] for i in range(0, len(cells), CELL))
        return [UUID(bytes=cell) for cell in found if cell != EMPTY]

    def note_group(self, slot: int, group: int) -> None:
        """The slot's task runs in this process group; 0 when it does not any more."""
        self._write(self._group_offset(slot), group)

    def groups(self) -> list[int]:
        """The process groups that execute tasks."""
        found = (self._read(self._group_offset(slot)) for slot in range(self.slots))
        return [group for group in found if group]

    def _group_offset(self, slot: int) -> int:
        return HEADER + self.slots * CELL + slot * GROUP

    def _read(self, offset: int) -> int:
        number: int = _NUMBER.unpack_from(self.memory, offset)[0]
        return number

    def _write(self, offset: int, value: int) -> None:
        _NUMBER.pack_into(self.memory, offset, value)
