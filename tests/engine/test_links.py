"""Links: a connection of the engine's own that comes back after it broke."""

from __future__ import annotations

import logging
from typing import Any

import psycopg
import pytest

from orchestrator.engine import links, sessions
from orchestrator.engine.links import Link
from orchestrator.exceptions import DatabaseTooOld
from tests.engine.lab import Lab


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time by which links decide when to try again."""
    made = Clock()
    monkeypatch.setattr(links, "time", made)
    return made


@pytest.fixture
def down(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """While its only element is true, nothing can be connected to."""
    state = [False]
    usual = sessions.connect

    def connect(**options: Any) -> psycopg.Connection[Any]:
        if state[0]:
            raise psycopg.OperationalError("connection refused")
        return usual(**{"application_name": "orchestrator-lab", **options})

    monkeypatch.setattr(sessions, "connect", connect)
    return state


def test_it_opens_once_and_stays_open(lab: Lab, clock: Clock, down: Any) -> None:
    link = Link("Child 1")
    assert not link.is_open
    with pytest.raises(psycopg.OperationalError):
        _ = link.session
    assert link.restore()
    session = link.session
    assert link.restore()
    assert link.session is session
    assert session.fetch(b"SELECT 1", {}) == [(1,)]
    link.drop()
    assert not link.is_open


def test_it_tries_again_no_sooner_than_its_backoff_says(
    lab: Lab, clock: Clock, down: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    link = Link("Child 1")
    down[0] = True
    with caplog.at_level(logging.WARNING):
        delays = []
        for _ in range(8):
            assert not link.restore()
            delays.append(link.retry_in)
            clock.now += link.retry_in - 0.001
            down[0] = False
            assert not link.restore()  # not yet
            down[0] = True
            clock.now += 0.002
    assert len(caplog.records) == 1  # said once, however often it is tried
    assert "Child 1" in caplog.text
    assert max(delays) <= 5
    assert delays[-1] > delays[0]
    down[0] = False
    with caplog.at_level(logging.WARNING):
        assert link.restore()
    assert "the database is back" in caplog.records[-1].getMessage()
    link.drop()


def test_a_connection_that_broke_is_opened_again(
    lab: Lab, clock: Clock, down: list[bool]
) -> None:
    link = Link("Child 1")
    assert link.restore()
    connection = link.connection
    assert connection is not None
    pid = connection.info.backend_pid
    lab.connect().execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    with pytest.raises(psycopg.OperationalError) as caught:
        link.session.fetch(b"SELECT 1", {})
    link.drop(caught.value)
    assert not link.is_open
    assert connection.closed
    clock.now += link.retry_in + 0.001
    assert link.restore()
    assert link.session.fetch(b"SELECT 1", {}) == [(1,)]
    link.drop()


def test_what_works_again_is_soon_tried_again(
    lab: Lab, clock: Clock, down: list[bool]
) -> None:
    link = Link("Child 1")
    down[0] = True
    for _ in range(10):
        link.restore()
        clock.now += link.retry_in + 0.001
    down[0] = False
    assert link.restore()
    link.proved()
    link.drop(psycopg.OperationalError("gone"))
    assert link.retry_in <= 0.1
    assert not link.is_open


def test_a_server_that_is_too_old_is_refused_by_name(
    lab: Lab, clock: Clock, down: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "OLDEST_SERVER", 990_000)
    link = Link("Child 1")
    with pytest.raises(DatabaseTooOld, match=r"PostgreSQL \d+ is too old"):
        link.restore()
    assert not link.is_open
