"""Fixtures for every test: the database, its slot, and second connections."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connections

from orchestrator import registry

SLOTS = Path(__file__).resolve().parent.parent / ".sample" / "test-slots"


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None,
) -> Iterator[None]:
    """Give this process a test database that no other suite is using.

    The first suite of a checkout has ``test_orchestrator``, one that runs at the
    same time ``test_orchestrator_2``, and so on.
    """
    number, lock = _free_slot()
    if number > 1:
        test = connections["default"].settings_dict["TEST"]
        test["NAME"] = f"{test['NAME']}_{number}"
    yield
    lock.close()


def _free_slot() -> tuple[int, TextIOWrapper]:
    """A number, from 1, held by nobody else; freed when the file is closed."""
    SLOTS.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        lock = (SLOTS / str(number)).open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            return number, lock
    raise RuntimeError(f"A thousand suites at once? See the locks in {SLOTS}.")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """Tell child processes which database the running test has."""
    name = connections["default"].settings_dict["NAME"]
    os.environ["ORCHESTRATOR_TEST_DATABASE_NAME"] = name
    yield
    del os.environ["ORCHESTRATOR_TEST_DATABASE_NAME"]


LEFT_OVER = """
    SELECT pid, application_name, state, left(query, 200) FROM pg_stat_activity
    WHERE datname = current_database() AND state LIKE 'idle in transaction%'
    UNION ALL
    SELECT pid, 'advisory lock', mode, '' FROM pg_locks
    WHERE locktype = 'advisory'
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@pytest.fixture(autouse=True)
def _no_session_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a transactional test that leaves open transactions or advisory locks.

    A process that was killed a moment ago may still have a session that is ending.
    """
    yield
    marker = request.node.get_closest_marker("django_db")
    if not marker or not marker.kwargs.get("transaction"):
        return
    deadline = time.monotonic() + 5
    with closing(_connect()) as connection:
        while left := connection.execute(LEFT_OVER).fetchall():
            assert time.monotonic() < deadline, f"left behind: {left}"
            time.sleep(0.05)


def _connect() -> psycopg.Connection[Any]:
    parameters = connections["default"].get_connection_params()
    for django_only in ("cursor_factory", "context", "pool"):
        parameters.pop(django_only, None)
    return psycopg.connect(**parameters, autocommit=True)


@pytest.fixture
def second_connection() -> Iterator[Callable[[], psycopg.Connection[Any]]]:
    """Makes raw autocommit connections to the test database, closed after the test.

    They see only what is committed: the test needs ``transactional_db`` (or
    ``django_db(transaction=True)``) for them to see its rows.
    """
    opened: list[psycopg.Connection[Any]] = []

    def connect() -> psycopg.Connection[Any]:
        opened.append(_connect())
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
def own_definitions() -> Iterator[None]:
    """Forget, after the test, the workflows and tasks that it declares."""
    with registry.isolated():
        yield
