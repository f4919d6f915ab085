"""What task runs leave behind while they are executed: journals, logs and streams.

Read for the person who looks, never sent to all: results and chunks are payloads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, F, Max, Q
from django.db.models.functions import Left

from orchestrator import ids
from orchestrator.models import JournalEntry, LogLine, StreamChunk, TaskRun
from orchestrator_ui.views import conditions
from orchestrator_ui.views.payloads import Pretty

MAX_ENTRIES = 100  # of the journals of one run
MAX_LINES = 100  # the latest of its log
MAX_CHUNKS = 50  # the latest of its stream
MAX_RESULT = 2_000  # characters of a result or a chunk


@dataclass(frozen=True)
class Entry:
    """One durable call; `result` is None where it may not be seen or is not there."""

    task: str
    position: int
    kind: str
    asked: str
    attempt: int
    child_run_id: UUID | None
    error: str
    created_at: datetime
    completed_at: datetime | None
    result: str | None


@dataclass(frozen=True)
class Line:
    """One line of a log; `fields` as JSON text, for those who may see payloads."""

    task: str
    attempt: int
    number: int
    level: str
    message: str
    created_at: datetime
    fields: str | None


@dataclass(frozen=True)
class Chunk:
    """One chunk of a stream."""

    task: str
    attempt: int
    number: int
    data: str


@dataclass(frozen=True)
class Records:
    """All of it, and whether there is more than is shown."""

    entries: Sequence[Entry]
    more_entries: bool
    lines: Sequence[Line]
    more_lines: bool
    chunks: Sequence[Chunk]
    more_chunks: bool


def signature(task_runs: Mapping[UUID, str]) -> str:
    """What differs once there is more to read; three queries."""
    low, high = _bounds(task_runs)
    entries = JournalEntry.objects.filter(
        task_run_id__in=task_runs, pk__gte=low, pk__lte=high
    ).aggregate(n=Count("pk"), over=Count("completed_at"))
    parts = [entries["n"], entries["over"]]
    for model in (LogLine, StreamChunk):
        rows: Any = model.objects.filter(
            task_run_id__in=task_runs, pk__gte=low, pk__lte=high
        )
        newest = rows.values("task_run_id", "attempt").annotate(n=Max("number"))
        parts.append(sum(row["n"] for row in newest))
    return ".".join(map(str, parts))


def read(task_runs: Mapping[UUID, str], *, payloads: bool) -> Records:
    """The records of task runs, given their names; three queries."""
    entries, more_entries = _entries(task_runs, payloads=payloads)
    lines, more_lines = log(task_runs, payloads=payloads)
    chunks, more_chunks = _chunks(task_runs) if payloads else ([], False)
    return Records(entries, more_entries, lines, more_lines, chunks, more_chunks)


def log(
    task_runs: Mapping[UUID, str],
    *,
    payloads: bool,
    before: tuple[int, int] | None = None,
) -> tuple[list[Line], bool]:
    """The latest lines in the order in which they were said, or, of one task run,
    those before an attempt and a number; and whether there are earlier ones."""
    low, high = _bounds(task_runs)
    rows = LogLine.objects.filter(task_run_id__in=task_runs, pk__gte=low, pk__lte=high)
    order = ("-attempt", "-number")
    if before is not None:
        attempt, number = before
        rows = rows.filter(
            Q(attempt__lt=attempt) | Q(attempt=attempt, number__lt=number)
        )
    elif len(task_runs) > 1:
        order = ("-created_at", "-number")
    found: Any = (
        rows.order_by(*order)
        .annotate(text=_start("fields"))
        .values_list(
            "task_run_id", "attempt", "number", "level", "message", "created_at", "text"
        )[: MAX_LINES + 1]
    )
    lines = [
        Line(
            task_runs[key],
            attempt,
            number,
            level,
            message,
            created,
            text if payloads else None,
        )
        for key, attempt, number, level, message, created, text in found
    ]
    return lines[:MAX_LINES][::-1], len(lines) > MAX_LINES


def _entries(
    task_runs: Mapping[UUID, str], *, payloads: bool
) -> tuple[list[Entry], bool]:
    low, high = _bounds(task_runs)
    branches = dict(
        TaskRun.objects.filter(pk__in=task_runs).values_list("pk", "branch")
    )
    used = Q(pk__in=[])
    for branch in set(branches.values()):
        keys = [key for key, value in branches.items() if value == branch]
        used |= Q(task_run_id__in=keys, branch=branch)
    found: Any = (
        JournalEntry.objects.filter(used, pk__gte=low, pk__lte=high)
        .order_by("task_run_id", "position")
        .annotate(text=_start("output"), problem=_start("error"))
        .values_list(
            "task_run_id",
            "position",
            "kind",
            "asked",
            "attempt",
            "child_run_id",
            "problem",
            "created_at",
            "completed_at",
            "text",
        )[: MAX_ENTRIES + 1]
    )
    entries = [
        Entry(
            task_runs[key],
            position,
            kind,
            conditions.asked(asked),
            attempt,
            child,
            (error or "") if payloads else "",
            created,
            completed,
            text if payloads else None,
        )
        for (
            key,
            position,
            kind,
            asked,
            attempt,
            child,
            error,
            created,
            completed,
            text,
        ) in found
    ]
    return entries[:MAX_ENTRIES], len(entries) > MAX_ENTRIES


def _chunks(task_runs: Mapping[UUID, str]) -> tuple[list[Chunk], bool]:
    low, high = _bounds(task_runs)
    rows: Any = (
        StreamChunk.objects.filter(task_run_id__in=task_runs, pk__gte=low, pk__lte=high)
        .order_by("-task_run_id", "-attempt", "-number")
        .annotate(text=_start("data"))
        .values_list("task_run_id", "attempt", "number", "text")[: MAX_CHUNKS + 1]
    )
    chunks = [Chunk(task_runs[key], *rest) for key, *rest in rows]
    return chunks[:MAX_CHUNKS][::-1], len(chunks) > MAX_CHUNKS


def _bounds(task_runs: Mapping[UUID, str]) -> tuple[UUID, UUID]:
    """Those of their family, so that one partition is read; of nothing, nothing."""
    member = next(iter(task_runs), UUID(int=0))
    return ids.family_bounds(member)


def _start(column: str) -> Left:
    return Left(Pretty(F(column)), MAX_RESULT)
