"""Partitions: make the ranges of history ahead of time, contiguous and without a gap.

Workers and schedulers call `ensure` at their start and every hour, so that a stopped
scheduler does not stop inserts. There is no default partition: it would have to be
scanned whenever another one is attached.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import sql

from orchestrator import ids
from orchestrator.conf import settings
from orchestrator.engine.faults import sqlstate
from orchestrator.engine.sessions import Session, statements

logger = logging.getLogger("orchestrator")

TABLES = (
    "orchestrator_run",
    "orchestrator_task_run",
    "orchestrator_attempt",
    "orchestrator_event",
    "orchestrator_journal_entry",
    "orchestrator_log_line",
    "orchestrator_stream_chunk",
)

LOCK_TIMEOUT = "5s"
NOT_ALLOWED = "42501"  # PostgreSQL's code for a role that lacks a privilege

# History is inserted once and updated once: room on the page for that one update, and
# an early vacuum, since the visibility map serves the lists of the admin.
STORAGE = sql.SQL(
    "(fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05,"
    " autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1)"
)


def ensure(session: Session, tables: tuple[str, ...] = TABLES) -> list[str]:
    """Make the partitions for now and the periods ahead; return the new ones' names.

    A partition is made as a table of its own and then attached, which locks the parent
    only against other changes of its partitions, for at most 5 seconds; raises a lock
    timeout beyond that, and the next call goes on from there.

    Only the owner of the tables can make them. A role that is not is warned and goes
    on: there is room for as long as those reach that were made ahead.
    """
    made: list[str] = []
    try:
        for table in tables:
            while (bounds := _next(session, table)) is not None:
                made.append(_make(session, table, *bounds))
    except Exception as error:
        if sqlstate(error) != NOT_ALLOWED:
            raise
        logger.warning(
            "The partitions of history cannot be made ahead (%s). Let a scheduler "
            "connect as the owner of the tables, or run manage.py migrate as the "
            "owner, before the last one is full.",
            str(error).splitlines()[0],
        )
    return made


def _next(session: Session, table: str) -> tuple[str, UUID | None, UUID | None] | None:
    """The name and bounds of the next missing partition, or None."""
    rows = session.fetch(statements("partitions")["partitions"], {"parent": table})
    now, count, upper = rows[0]
    if settings.partition_by == "none":
        return None if count else (f"{table}_all", None, None)
    if count and upper is None:
        return None  # the last partition has no end: PARTITION_BY was "none"
    ends = _period_ends(now, settings.partition_by, settings.partitions_ahead)
    for end in ends:
        bound = ids.floor_uuid(_milliseconds(end))
        if upper is None or bound > upper:
            # Named by where it begins, which no other one does, whatever the period.
            start = _start(end, settings.partition_by) if upper is None else _at(upper)
            return f"{table}_{start:%Y_%m_%d}", upper, bound
    return None


def _period_ends(now: datetime, period: str, ahead: int) -> Iterator[datetime]:
    end = _end(now.astimezone(UTC), period)
    for _ in range(ahead + 1):
        yield end
        end = _end(end, period)


def _end(moment: datetime, period: str) -> datetime:
    """The first instant after the period that `moment` lies in."""
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return day + timedelta(days=1)
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def _start(end: datetime, period: str) -> datetime:
    last = end - timedelta(days=1)
    return last if period == "day" else last.replace(day=1)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _at(bound: UUID) -> datetime:
    return datetime.fromtimestamp(ids.milliseconds_of(bound) / 1000, UTC)


def _make(
    session: Session, table: str, name: str, low: UUID | None, high: UUID | None
) -> str:
    """Create and attach one partition; a racing process finds it there already."""
    parent, child = sql.Identifier(table), sql.Identifier(name)
    bounds = sql.SQL("FROM ({}) TO ({})").format(
        sql.SQL("MINVALUE") if low is None else sql.Literal(str(low)),
        sql.SQL("MAXVALUE") if high is None else sql.Literal(str(high)),
    )
    steps = [
        sql.SQL("SELECT pg_advisory_xact_lock(hashtextextended({}, 0))").format(
            sql.Literal(f"{table} partitions")
        ),
        sql.SQL("SELECT set_config('lock_timeout', {}, true)").format(
            sql.Literal(LOCK_TIMEOUT)
        ),
    ]
    with session.joined():
        for step in steps:
            _execute(session, step)
        rows = session.fetch(
            statements("partitions")["exists"], {"parent": table, "name": name}
        )
        if not rows:
            for step in (
                sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL) WITH {}").format(
                    child, parent, STORAGE
                ),
                sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES {}").format(
                    parent, child, bounds
                ),
            ):
                _execute(session, step)
    return name


def _execute(session: Session, composed: Any) -> None:
    session.send(composed.as_string(None).encode().replace(b"%", b"%%"), {})
