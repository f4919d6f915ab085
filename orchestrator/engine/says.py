"""Says: what attempts say while they are executed: written in batches, read again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import merge
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator import ids
from orchestrator.engine.sessions import Session, array, documents, statements, uuids
from orchestrator.engine.shapes import Shape

BATCH = 1_000

Cursor = tuple[int, int]  # attempt and number
START: Cursor = (0, 0)


class Line(NamedTuple):
    """A line of an attempt's log.

    `at` is `time.monotonic()`; `text` a JSON object of level, logger, message, fields.
    """

    task_run_id: UUID
    attempt: int
    number: int
    at: float
    text: str


class Chunk(NamedTuple):
    """A chunk of an attempt's stream; `text` is its data as JSON."""

    run_id: UUID
    task_run_id: UUID
    attempt: int
    number: int
    at: float
    text: str


class Word(NamedTuple):
    """How far an attempt says that it is."""

    run_id: UUID
    task_run_id: UUID
    attempt: int
    at: float
    done: float
    total: float | None
    message: str


class More(NamedTuple):
    """Seconds that an attempt has added to its execution timeout."""

    task_run_id: UUID
    attempt: int
    seconds: float


@dataclass
class Said:
    """A batch of what was said. `ended`: task runs whose progress is of no more use."""

    lines: list[Line] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    more: list[More] = field(default_factory=list)
    ended: list[UUID] = field(default_factory=list)


def write(session: Session, said: Said) -> None:
    """Store what was said: a durable transaction, in one round trip.

    Lines and chunks that are there already stay as they are, so it may be repeated.
    """
    steps = statements("says")
    now = time.monotonic()
    with session.pipeline():
        if said.more:
            session.send(steps["refresh"], _more(said.more))
        if said.lines:
            session.send(steps["lines"], _lines(said.lines, now))
        if said.chunks:
            session.send(steps["chunks"], _chunks(said.chunks, now))
        if said.words:
            session.send(steps["progress"], _words(said.words, now))
        if said.ended:
            session.send(steps["ended"], {"task_run_ids": uuids(said.ended)})


def _more(more: Sequence[More]) -> dict[str, Any]:
    return {
        "task_run_ids": uuids([m.task_run_id for m in more]),
        "attempts": array(m.attempt for m in more),
        "seconds": array(m.seconds for m in more),
    }


def _lines(lines: Sequence[Line], now: float) -> dict[str, Any]:
    return {
        "line_ids": uuids([ids.log_line_id(*line[:3]) for line in lines]),
        "task_run_ids": uuids([line.task_run_id for line in lines]),
        "attempts": array(line.attempt for line in lines),
        "numbers": array(line.number for line in lines),
        "ages": array(now - line.at for line in lines),
        "lines": documents([line.text for line in lines]),
    }


def _chunks(chunks: Sequence[Chunk], now: float) -> dict[str, Any]:
    return {
        "chunk_ids": uuids([ids.stream_chunk_id(*chunk[1:4]) for chunk in chunks]),
        "run_ids": uuids([chunk.run_id for chunk in chunks]),
        "task_run_ids": uuids([chunk.task_run_id for chunk in chunks]),
        "attempts": array(chunk.attempt for chunk in chunks),
        "numbers": array(chunk.number for chunk in chunks),
        "ages": array(now - chunk.at for chunk in chunks),
        "chunks": documents([chunk.text for chunk in chunks]),
    }


def _words(words: Sequence[Word], now: float) -> dict[str, Any]:
    return {
        "task_run_ids": uuids([word.task_run_id for word in words]),
        "run_ids": uuids([word.run_id for word in words]),
        "attempts": array(word.attempt for word in words),
        "ages": array(now - word.at for word in words),
        "done": array(word.done for word in words),
        "totals": array(word.total for word in words),
        "messages": documents([json.dumps(word.message) for word in words]),
    }


def sweep(session: Session) -> int:
    """Delete the progress of task runs that have ended; how many. Durable."""
    swept = 0
    while True:
        rows = session.fetch(statements("says")["sweep"], {"limit": BATCH})
        swept += len(rows)
        if len(rows) < BATCH:
            return swept


class LogLine(NamedTuple):
    """A line as it is read: what an attempt of a task said, and when.

    `logger` is empty where the task said it by `ctx.log`.
    """

    task: str
    attempt: int
    number: int
    level: str
    logger: str
    message: str
    fields: dict[str, Any]
    created_at: datetime


def lines(
    session: Session, run_id: UUID, shape: Shape, *, limit: int
) -> Iterable[LogLine]:
    """What the tasks of a run said, in order; of each task `limit` lines at most."""
    names = _names(run_id, shape)
    low, high = ids.family_bounds(run_id)
    rows = session.fetch(
        statements("says")["read_lines"],
        {"task_run_ids": uuids(names), "low": low, "high": high, "limit": limit},
    )
    for row in _merged(rows):
        task_run_id, attempt, number, level, logger, message, fields, at = row
        yield LogLine(
            names[task_run_id],
            attempt,
            number,
            level,
            logger,
            message,
            json.loads(fields) if fields else {},
            at,
        )


def chunks(
    session: Session, run_id: UUID, seen: dict[UUID, Cursor], *, limit: int = BATCH
) -> tuple[list[Any], bool]:
    """The data of a run's next chunks, and whether there may be more already.

    `seen` has the last chunk read of each task run, and is moved on. Those of one task
    run come in the order of attempts and numbers; of several, as they were said.
    """
    low, high = ids.family_bounds(run_id)
    rows = session.fetch(
        statements("says")["read_chunks"],
        {
            "run_id": run_id,
            "task_run_ids": uuids(seen),
            "attempts": array(attempt for attempt, _ in seen.values()),
            "numbers": array(number for _, number in seen.values()),
            "low": low,
            "high": high,
            "limit": limit,
        },
    )
    for row in rows:
        seen[row[0]] = (row[1], row[2])
    counts = {key: len(list(group)) for key, group in groupby(rows, _task_run)}
    full = any(count >= limit for count in counts.values())
    return [json.loads(row[3]) for row in _merged(rows)], full


def unseen(run_id: UUID, shape: Shape) -> dict[UUID, Cursor]:
    """The cursors of a reader that has read nothing yet."""
    return dict.fromkeys(_names(run_id, shape), START)


def _names(run_id: UUID, shape: Shape) -> Mapping[UUID, str]:
    return {ids.task_run_id(run_id, t.ordinal): t.name for t in shape.tasks}


def _task_run(row: Sequence[Any]) -> UUID:
    key: UUID = row[0]
    return key


def _merged(rows: Sequence[tuple[Any, ...]]) -> Iterable[tuple[Any, ...]]:
    """Rows of several task runs by time, those of each in the order that they have."""
    groups = [list(group) for _, group in groupby(rows, _task_run)]
    return groups[0] if len(groups) == 1 else merge(*groups, key=lambda row: row[-1])
