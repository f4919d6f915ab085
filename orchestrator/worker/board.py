"""The board: memory that a supervisor and one of its children share.

Beats tell each that the other lives. Each slot notes the task runs that it starts, and
the process group that executes one where that is not the child: when a child dies, the
supervisor still reads them, charges nobody else and leaves no process behind. What has
ended stays noted, since its result dies with the child unless it was settled; then it
has no lease any more, and nobody asks. Times are `time.monotonic_ns()`, which all
processes of a machine share.
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
CELLS = 128  # a slot's: more than it starts between two settlings
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
    return HEADER + slots * (CELLS * CELL + GROUP)


class Board:
    """Shared memory for `slots` slots, numbered from 0."""

    def __init__(self, file: int, slots: int) -> None:
        self.slots = slots
        self._turns = [0] * slots
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
        """The slot has started this task run. Only the slot's own thread calls it."""
        turn = self._turns[slot]
        self._turns[slot] = (turn + 1) % CELLS
        start = HEADER + (slot * CELLS + turn) * CELL
        self.memory[start : start + CELL] = task_run_id.bytes

    def started(self) -> set[UUID]:
        """What the slots had started of late when the child was last heard of."""
        cells = self.memory[HEADER : HEADER + self.slots * CELLS * CELL]
        found = {cells[i : i + CELL] for i in range(0, len(cells), CELL)}
        return {UUID(bytes=cell) for cell in found if cell != EMPTY}

    def note_group(self, slot: int, group: int) -> None:
        """The slot's task runs in this process group; 0 when it does not any more."""
        self._write(self._group_offset(slot), group)

    def groups(self) -> list[int]:
        """The process groups that execute tasks."""
        found = (self._read(self._group_offset(slot)) for slot in range(self.slots))
        return [group for group in found if group]

    def _group_offset(self, slot: int) -> int:
        return HEADER + self.slots * CELLS * CELL + slot * GROUP

    def _read(self, offset: int) -> int:
        number: int = _NUMBER.unpack_from(self.memory, offset)[0]
        return number

    def _write(self, offset: int, value: int) -> None:
        _NUMBER.pack_into(self.memory, offset, value)
