"""Ids that come in families, and ids of definitions that need no lookup.

A run's id is a UUIDv7. The ids of all that belongs to it are derived from it: the same
48-bit time prefix, version 8 (RFC 9562), and a hash of the parent's id, the kind and
the ordinal. So what belongs to a run is found by computed keys, in one partition.

The time of a new id is the database's, in milliseconds: the caller measures the offset
of its connection and passes it. `travel()` never moves it.
"""

from __future__ import annotations

import os
import threading
import time
from hashlib import blake2b
from uuid import UUID

TASK_RUN = b"task_run"
ATTEMPT = b"attempt"
JOURNAL = b"journal"
LOG_LINE = b"log_line"
STREAM_CHUNK = b"stream_chunk"
CHILD = b"child"

_CHANCE = (1 << 62) - 1
_VERSION_8 = 0x8 << 76
_VARIANT = 0x2 << 62
# What the version and the variant leave to chance: 12 bits and 62 bits.
_FREE = (0xFFF << 64) | _CHANCE
_PREFIX = ((1 << 48) - 1) << 80

# How far new ids may run ahead of the clock; what is further behind is another clock.
_AHEAD = 100 << 12

_lock = threading.Lock()
_last = -1  # the time and count of the last UUIDv7


def uuid7(milliseconds: int | None = None) -> UUID:
    """A new UUIDv7 at `milliseconds` since the epoch, or by this machine's clock.

    Ids that one process makes one after the other are in order: the 12 bits after the
    time count, and the time may run ahead by a few milliseconds for that. The other 62
    bits are left to chance.
    """
    return uuid7s(1, milliseconds)[0]


def uuid7s(count: int, milliseconds: int | None = None) -> list[UUID]:
    """As many new UUIDv7s, in order: as `uuid7`, at a third of its cost for each."""
    global _last
    if milliseconds is None:
        milliseconds = time.time_ns() // 1_000_000
    stamp = milliseconds << 12
    with _lock:
        if 0 <= _last - stamp < _AHEAD:
            stamp = _last + 1
        _last = stamp + count - 1
    chance = os.urandom(8 * count)
    made = []
    for offset in range(0, 8 * count, 8):
        low = int.from_bytes(chance[offset : offset + 8], "big") & _CHANCE
        high = stamp >> 12 << 16 | 0x7 << 12 | stamp & 0xFFF
        made.append(UUID(int=high << 64 | _VARIANT | low))
        stamp += 1
    return made


def floor_uuid(milliseconds: int) -> UUID:
    """The least id at `milliseconds` since the epoch: a partition's bound."""
    return UUID(int=milliseconds << 80)


def milliseconds_of(identifier: UUID) -> int:
    """The milliseconds since the epoch in an id's 48-bit prefix."""
    return identifier.int >> 80


def derive(parent: UUID, kind: bytes, ordinal: int) -> UUID:
    """The id of the `ordinal`-th thing of `kind` that belongs to `parent`."""
    return UUID(int=_derived(parent.int, kind, ordinal))


def _derived(number: int, kind: bytes, ordinal: int) -> int:
    digest = blake2b(
        b"%b%b:%d" % (number.to_bytes(16, "big"), kind, ordinal), digest_size=10
    ).digest()
    chance = int.from_bytes(digest, "big") & _FREE
    return number & _PREFIX | _VERSION_8 | _VARIANT | chance


def task_run_id(run_id: UUID, ordinal: int) -> UUID:
    """The id of a run's task run, by the ordinal of its task in the version."""
    return derive(run_id, TASK_RUN, ordinal)


def task_run_hex(run_id: UUID, ordinal: int) -> str:
    """`task_run_id` in hexadecimal digits: cheaper where no UUID is needed."""
    return "%032x" % _derived(run_id.int, TASK_RUN, ordinal)  # noqa: UP031 - fastest


def attempt_id(task_run_id: UUID, number: int) -> UUID:
    """The id of a task run's attempt, by its number from 1."""
    return derive(task_run_id, ATTEMPT, number)


def attempt_hex(task_run_id: UUID, number: int) -> str:
    """`attempt_id` in hexadecimal digits: cheaper where no UUID is needed."""
    return "%032x" % _derived(task_run_id.int, ATTEMPT, number)  # noqa: UP031 - fastest


def journal_id(task_run_id: UUID, branch: int, position: int) -> UUID:
    """The id of an entry of a task run's journal, by its branch and position."""
    return derive(task_run_id, JOURNAL, branch << 32 | position)


def log_line_id(task_run_id: UUID, attempt: int, number: int) -> UUID:
    """The id of a line that an attempt said, by its number in the attempt."""
    return derive(task_run_id, LOG_LINE, attempt << 32 | number)


def stream_chunk_id(task_run_id: UUID, attempt: int, number: int) -> UUID:
    """The id of a chunk that an attempt streamed, by its number in the attempt."""
    return derive(task_run_id, STREAM_CHUNK, attempt << 32 | number)


def child_run_id(task_run_id: UUID, key: str | int) -> UUID:
    """The id of a run that a task run spawned: by its key, or by its number from 0.

    Whoever spawns it again finds it there.
    """
    if isinstance(key, int):
        return derive(task_run_id, CHILD, key)
    return derive(task_run_id, CHILD + b":" + key.encode(), 0)


def family_bounds(member: UUID) -> tuple[UUID, UUID]:
    """The least and the greatest id that can belong to the family of `member`.

    All of them lie in one partition; to be searched there alone.
    """
    prefix = member.int & _PREFIX
    return UUID(int=prefix), UUID(int=prefix | ~_PREFIX & (1 << 128) - 1)


def definition_id(*names: str) -> int:
    """A positive 63-bit id of a definition, from its names or its name and digest."""
    state = blake2b(digest_size=8)
    for name in names:
        text = name.encode()
        # The length keeps ("a", "bc") apart from ("ab", "c").
        state.update(b"%d:%b" % (len(text), text))
    return int.from_bytes(state.digest(), "big") >> 1


def lane_of(task_id: int) -> int:
    """The plain lane of a task: its id's upper 32 bits, the lower 31 at zero.

    The lower bits are room for lanes of the same task that are admissible together.
    """
    return task_id >> 31 << 31
