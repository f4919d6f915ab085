"""Engine tests speak with PostgreSQL on connections of their own and commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from pytest_django.plugin import DjangoDbBlocker

from orchestrator.engine import notify, sessions
from tests.engine import guards
from tests.engine.lab import Lab
from tests.engine.pool import ROWS, Pool

DEFINITIONS = ("workflow_version", "task", "workflow", "queue")

LEFT_OVER = """
    SELECT pid, state, left(query, 200) FROM pg_stat_activity
    WHERE datname = current_database() AND state LIKE 'idle in transaction%'
      AND application_name LIKE 'orchestrator%'  -- not the test case's own
    UNION ALL
    SELECT pid, 'advisory lock', mode FROM pg_locks
    WHERE locktype = 'advisory'
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@pytest.fixture(scope="package")
def engine_connection(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[psycopg.Connection[Any]]:
    """The connection that guards and cleans the tables, for the whole package."""
    with django_db_blocker.unblock():
        with closing(sessions.connect(application_name="orchestrator-guard")) as made:
            guards.install(made)
            made.execute("SET session_replication_role = replica")  # no guards for it
            yield made
            guards.remove(made)


@pytest.fixture(scope="package")
def definitions(
    engine_connection: psycopg.Connection[Any],
) -> dict[str, list[int]]:
    """The definitions that were there before, which are to stay."""
    return {
        table: [
            row[0]
            for row in engine_connection.execute(
                f"SELECT id FROM orchestrator_{table}".encode()
            )
        ]
        for table in DEFINITIONS
    }


@pytest.fixture(scope="package")
def pool(engine_connection: psycopg.Connection[Any]) -> Iterator[Pool]:
    """Connections that outlive a test, with the statements that they have prepared."""
    made = Pool()
    yield made
    made.close()


@pytest.fixture
def lab(
    db: None,
    engine_connection: psycopg.Connection[Any],
    definitions: dict[str, list[int]],
    pool: Pool,
) -> Iterator[Lab]:
    """An empty engine. After the test nothing in it may be as it must never be.

    `db` is asked for so that the test database is made; the lab does not use Django's
    connection.
    """
    notify._sent.clear()
    lab = Lab(pool)
    try:
        yield lab
        assert lab.violations() == []
        assert engine_connection.execute(LEFT_OVER).fetchall() == []
    finally:
        pool.give_back(lab.connections)
        _empty(engine_connection, definitions)


def _empty(
    connection: psycopg.Connection[Any], definitions: dict[str, list[int]]
) -> None:
    with connection.transaction():
        for table in ROWS:
            connection.execute(f"DELETE FROM orchestrator_{table}".encode())
        for table in DEFINITIONS:
            connection.execute(
                f"DELETE FROM orchestrator_{table} WHERE id <> ALL (%s)".encode(),
                [definitions[table]],
            )
