"""A database with a million rows in the way, and plans read as data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from django.core.management import call_command
from django.db import connections
from django.test import override_settings
from psycopg import sql

from orchestrator import ids
from orchestrator.engine import partitions, register, sessions
from orchestrator.engine.sessions import WorkerSession, statements
from orchestrator.engine.shapes import Shape, queue_id
from tests.engine.lab import task
from tests.engine.seed import (
    ATTEMPT_ROWS,
    LIVE_ROWS,
    QUEUE_ROWS,
    RUN_ROWS,
    TASK_RUN_ROWS,
)

ALIAS = "plans"  # of the database while it is migrated
MONTHS = 24
RUNS = 120_000  # of which so many are in history, spread over the months
KNOWN, UNKNOWN = 20, 25  # lanes of tasks that the worker knows, and does not

PLACEHOLDER = re.compile(r"%\((\w+)\)s")
TYPED = re.compile(r"%\((\w+)\)s::(\w+(?:\[\])?)")

SINGLES = [
    Shape.build(f"known{n}", {"tasks": [task(f"known{n}")]}) for n in range(KNOWN)
]
STRANGERS = [
    Shape.build(f"unknown{n}", {"tasks": [task(f"unknown{n}")]}) for n in range(UNKNOWN)
]
GRAPH = Shape.build(
    "graph",
    {"tasks": [task("a"), task("b", "a"), task("c", "a"), task("d", "b", "c")]},
)

BIG = (
    "run",
    "task_run",
    "attempt",
    "queue_item",
    "delayed_item",
    "deadline",
    "wait",
    "wait_condition",
    "event",
    "event_item",
    "open_run",
)


class Backlog:
    """The seeded database, grown step by step."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.size = 0
        self.session = WorkerSession(sessions.connect(dbname=name))
        self.plain = self._plain_connection()
        month = _month(MONTHS)
        self.numbers: dict[str, Any] = {
            "first": round(month.timestamp() * 1000),
            "step": round((datetime.now(UTC) - month).total_seconds() * 1000 / RUNS),
            "runs": RUNS,
            "queue": queue_id("default"),
            "workflows": [shape.workflow_id for shape in SINGLES],
            "versions": [shape.version_id for shape in SINGLES],
            "lanes": [shape.tasks[0].lane for shape in SINGLES],
        }
        self._make_partitions()
        register.register(self.session, [*SINGLES, *STRANGERS, GRAPH])
        for statement in (RUN_ROWS, TASK_RUN_ROWS, ATTEMPT_ROWS, *LIVE_ROWS):
            self.plain.execute(statement.encode(), self.numbers)
        self.numbers["sample"] = [
            row[0]
            for row in self.plain.execute(
                "SELECT id FROM orchestrator_run WHERE status IS NULL LIMIT 4"
            )
        ]
        self.parents = self._parents()
        self.empty = {
            name
            for name, parent in self.parents.items()
            if parent in partitions.TABLES
            and not self.plain.execute(
                f"SELECT FROM {name} LIMIT 1".encode()
            ).fetchone()
        }

    def close(self) -> None:
        self.session.connection.close()
        self.plain.close()

    def grow(self, size: int) -> None:
        """So many queue items: a third in other queues, a quarter unknown tasks."""
        others = [queue_id(f"other{n}") for n in range(10)]
        default = [queue_id("default")]
        strangers = [shape.tasks[0].lane for shape in STRANGERS]
        known = self.numbers["lanes"]
        new = size - self.size
        shares = [(others, known, new // 3), (default, strangers, new // 4)]
        shares.append((default, known, new - new // 3 - new // 4))
        for queues, lanes, count in shares:
            self.plain.execute(
                QUEUE_ROWS.encode(),
                {
                    **self.numbers,
                    "queues": queues,
                    "lanes": lanes,
                    "from": self.size,
                    "to": self.size + count - 1,
                },
            )
            self.size += count

    def analyse(self) -> None:
        self.plain.execute("ANALYZE")

    def generic_plan(self, verb: str, step: str) -> list[Mapping[str, Any]]:
        """The nodes of a statement's plan for any values, on a worker's session."""
        names = self._prepare(verb, step)
        return self._explain("EXPLAIN (FORMAT JSON)", ["NULL"] * len(names))

    def executed(
        self, verb: str, step: str, params: Mapping[str, Any]
    ) -> list[Mapping[str, Any]]:
        """The nodes of that plan as it was executed, and taken back."""
        names = self._prepare(verb, step)
        values = [sql.Literal(params[name]).as_string(None) for name in names]
        with self.session.connection.transaction(force_rollback=True):
            return self._explain("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)", values)

    def custom_plan(self, verb: str, step: str) -> list[Mapping[str, Any]]:
        """The nodes of its plan for a few rows, on a connection such as Django's."""
        statement = statements(verb)[step]
        params = {
            name: self.sample(kind) for name, kind in TYPED.findall(statement.decode())
        }
        explained = self.plain.execute(
            b"EXPLAIN (FORMAT JSON) " + statement, params
        ).fetchone()
        return nodes(explained)

    def sample(self, kind: str) -> Any:
        """A value of a parameter's type; ids are those of runs in the history."""
        run_ids = self.numbers["sample"]
        samples: dict[str, Any] = {
            "uuid": run_ids[0],
            "uuid[]": run_ids,
            "text": "[]",
            "bool": True,
            "bool[]": [True] * len(run_ids),
            "timestamptz": "now",
            "timestamptz[]": ["now"] * len(run_ids),
        }
        if kind in samples:
            return samples[kind]
        return [1] * len(run_ids) if kind.endswith("[]") else 1

    def _prepare(self, verb: str, step: str) -> list[str]:
        """Prepare a statement as `hot`; the names of its parameters, in order."""
        text = statements(verb)[step].decode()
        names = list(dict.fromkeys(PLACEHOLDER.findall(text)))
        numbered = PLACEHOLDER.sub(lambda m: f"${names.index(m[1]) + 1}", text)
        statement = f"PREPARE hot AS {numbered.replace('%%', '%')}"
        connection = self.session.connection
        connection.execute("DEALLOCATE ALL", prepare=False)
        connection.execute(statement.encode(), prepare=False)
        return names

    def _explain(self, how: str, values: list[str]) -> list[Mapping[str, Any]]:
        arguments = f"({', '.join(values)})" if values else ""
        return nodes(
            self.session.connection.execute(
                f"{how} EXECUTE hot{arguments}".encode(), prepare=False
            ).fetchone()
        )

    def _plain_connection(self) -> psycopg.Connection[Any]:
        """As Django's: with the server's own settings."""
        parameters = connections["default"].get_connection_params()
        for name in ("cursor_factory", "context", "pool"):
            parameters.pop(name, None)
        parameters["dbname"] = self.name
        connection = psycopg.connect(**parameters, autocommit=True)
        connection.prepare_threshold = None
        return connection

    def _make_partitions(self) -> None:
        self.plain.execute("SET client_min_messages = warning")
        for table in partitions.TABLES:
            self.plain.execute(f"DROP TABLE {table}_all".encode())
            low = None
            for ago in range(MONTHS, -2, -1):
                start, end = _month(ago), _month(ago - 1)
                high = ids.floor_uuid(round(end.timestamp() * 1000))
                name = f"{table}_{start:%Y_%m}"
                partitions._make(self.session, table, name, low, high)
                low = high
        for table in (*BIG, "lease"):  # nothing else decides when it is analysed
            if f"orchestrator_{table}" not in partitions.TABLES:
                self.plain.execute(
                    f"ALTER TABLE orchestrator_{table}"
                    " SET (autovacuum_enabled = false)".encode()
                )

    def _is_empty(self, table: str) -> bool:
        statement = f"SELECT FROM {table} LIMIT 1"
        return self.plain.execute(statement.encode()).fetchone() is None

    def _parents(self) -> dict[str, str]:
        """By a partition's or its index's name, that of its parent's."""
        rows = self.plain.execute(
            "SELECT inhrelid::regclass::text, inhparent::regclass::text"
            " FROM pg_inherits"
        ).fetchall()
        return dict(rows)


def _month(ago: int) -> datetime:
    now = datetime.now(UTC)
    number = now.year * 12 + now.month - 1 - ago
    return datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)


@contextmanager
def backlog() -> Iterator[Backlog]:
    """A database of its own beside the test's, migrated and seeded."""
    name = f"{connections['default'].settings_dict['NAME']}_plans"
    with closing(sessions.connect(dbname="postgres")) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
        try:
            _migrate(name)
            with closing(Backlog(name)) as made:
                yield made
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def _migrate(name: str) -> None:
    connections.databases[ALIAS] = {**connections.databases["default"], "NAME": name}
    try:
        with override_settings(ORCHESTRATOR={"PARTITION_BY": "none"}):
            call_command("migrate", "orchestrator", database=ALIAS, verbosity=0)
    finally:
        connections[ALIAS].close()
        del connections[ALIAS]
        del connections.databases[ALIAS]


@dataclass
class Scan:
    """How a plan reads a table: by which index, or all of it."""

    table: str
    index: str | None
    node: Mapping[str, Any]


def nodes(explained: Any) -> list[Mapping[str, Any]]:
    """All nodes of an `EXPLAIN (FORMAT JSON)`; each knows its `Parent Type`."""
    document = explained[0]
    if isinstance(document, str):
        document = json.loads(document)
    found: list[Mapping[str, Any]] = []

    def walk(node: dict[str, Any], parent: str) -> None:
        found.append({**node, "Parent Type": parent})
        for child in node.get("Plans", []):
            walk(child, node["Node Type"])

    walk(document[0]["Plan"], "")
    return found
