"""Sessions: whose transaction a verb is part of, and what a connection is set to."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from django.db import connection as django_connection
from django.db import transaction
from django.db.utils import DataError, ProgrammingError
from django.test import override_settings

from orchestrator.engine import sessions
from orchestrator.engine.sessions import WorkerSession, array, statements
from tests.engine.lab import Lab
from tests.engine.pool import rolled_back

Step = tuple[bytes, dict[str, Any]]

INSERT = b"INSERT INTO lab_note VALUES (%(text)s)"
BROKEN = b"SELECT 1 / %(zero)s::int"


@pytest.fixture
def notes(lab: Lab) -> Any:
    """A table of the test's own, and a function that reads it from elsewhere."""
    connection = lab.main.connection
    connection.execute("CREATE TABLE lab_note (text text)")
    other = lab.connect()

    def read() -> list[str]:
        rows = other.execute("SELECT text FROM lab_note ORDER BY text").fetchall()
        return [text for [text] in rows]

    yield read
    connection.execute("DROP TABLE lab_note")


def test_a_transaction_commits_as_a_whole(lab: Lab, notes: Any) -> None:
    with lab.session.transaction():
        lab.session.send(INSERT, {"text": "a"})
        assert notes() == []
        lab.session.send(INSERT, {"text": "b"})
    assert notes() == ["a", "b"]


def test_a_transaction_does_not_nest(lab: Lab) -> None:
    with lab.session.transaction():
        with pytest.raises(RuntimeError, match="cannot be nested"):
            with lab.session.transaction():
                pass
    with lab.session.transaction():
        pass


def test_a_joined_one_is_a_savepoint_or_a_transaction(lab: Lab, notes: Any) -> None:
    with lab.session.joined():
        lab.session.send(INSERT, {"text": "a"})
    with lab.session.transaction():
        lab.session.send(INSERT, {"text": "b"})
        with rolled_back(lab.session.joined()):
            lab.session.send(INSERT, {"text": "c"})
    assert notes() == ["a", "b"]


def test_what_is_to_follow_a_commit_follows_it(lab: Lab, notes: Any) -> None:
    seen: list[list[str]] = []
    with lab.session.transaction():
        lab.session.send(INSERT, {"text": "a"})
        lab.session.on_commit(lambda: seen.append(notes()))
        assert seen == []
    assert seen == [["a"]]
    lab.session.on_commit(lambda: seen.append([]))
    assert seen == [["a"], []]


def test_nothing_follows_a_rollback(lab: Lab) -> None:
    seen: list[int] = []
    with rolled_back(lab.session.transaction()):
        lab.session.on_commit(lambda: seen.append(1))
    with lab.session.transaction():
        pass
    assert seen == []


def test_a_snapshot_sees_one_moment_and_writes_nothing(lab: Lab, notes: Any) -> None:
    other = lab.connect()
    with lab.session.snapshot():
        assert lab.session.fetch(b"SELECT count(*) FROM lab_note", {}) == [(0,)]
        other.execute("INSERT INTO lab_note VALUES ('a')")
        assert lab.session.fetch(b"SELECT count(*) FROM lab_note", {}) == [(0,)]
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        with lab.session.snapshot():
            lab.session.send(INSERT, {"text": "b"})
    assert notes() == ["a"]


# A pipeline is a transaction, too.


def pipelined(lab: Lab, steps: list[Step]) -> None:
    with lab.session.pipeline():
        for statement, params in steps:
            lab.session.send(statement, params)


def test_a_pipeline_commits_as_a_whole(lab: Lab, notes: Any) -> None:
    with lab.session.pipeline():
        first = lab.session.send(b"SELECT 1", {})
        for text in "abc":
            lab.session.send(INSERT, {"text": text})
    assert first.fetchall() == [(1,)]
    assert notes() == ["a", "b", "c"]


@pytest.mark.parametrize("position", [0, 1, 3])
def test_a_pipeline_with_a_statement_that_fails_leaves_nothing(
    lab: Lab, notes: Any, position: int
) -> None:
    steps: list[Step] = [(INSERT, {"text": text}) for text in "abc"]
    steps.insert(position, (BROKEN, {"zero": 0}))
    with pytest.raises(psycopg.errors.DivisionByZero):
        pipelined(lab, steps)
    assert notes() == []
    assert lab.session.fetch(b"SELECT 1", {}) == [(1,)]


@pytest.mark.parametrize("position", [0, 1, 3])
def test_a_pipeline_with_a_value_that_cannot_be_sent_leaves_nothing(
    lab: Lab, notes: Any, position: int
) -> None:
    texts = ["a", "b", "c"]
    texts.insert(position, "\ud800")
    with pytest.raises(UnicodeEncodeError):
        pipelined(lab, [(INSERT, {"text": text}) for text in texts])
    assert notes() == []


def test_a_pipeline_left_by_an_exception_leaves_nothing(lab: Lab, notes: Any) -> None:
    seen: list[int] = []
    with rolled_back(lab.session.pipeline()):
        lab.session.on_commit(lambda: seen.append(1))
        lab.session.send(INSERT, {"text": "a"})
    assert (notes(), seen) == ([], [])
    with lab.session.pipeline():
        lab.session.send(INSERT, {"text": "b"})
    assert notes() == ["b"]


def test_a_pipeline_left_by_an_exception_spoils_no_prepared_statement(
    lab: Lab,
) -> None:
    session = lab.hand(fresh=True).session
    for n in range(4):
        with rolled_back(session.pipeline()):
            session.send(b"SELECT %(n)s::int", {"n": n})
        statement = b"SELECT %%(n)s::int + %d" % n
        for _ in range(3):
            with session.pipeline():
                cursor = session.send(statement, {"n": 1})
            assert cursor.fetchall() == [(n + 1,)]


def test_a_pipeline_reads_what_is_committed_whatever_the_default(lab: Lab) -> None:
    """A role's default isolation is not the engine's (reliability F35)."""
    name = lab.value("SELECT current_database()")
    setting = f'ALTER DATABASE "{name}" {{}} default_transaction_isolation {{}}'
    guard = lab.connect()
    guard.execute(setting.format("SET", "= 'repeatable read'").encode())
    try:
        with sessions.connect() as connection:
            session = WorkerSession(connection)
            with session.pipeline():
                cursor = session.send(b"SHOW transaction_isolation", {})
            assert cursor.fetchall() == [("read committed",)]
            with session.transaction():
                rows = session.fetch(b"SHOW transaction_isolation", {})
            assert rows == [("read committed",)]
    finally:
        guard.execute(setting.format("RESET", "").encode())


def test_plans_are_renewed_now_and_then(lab: Lab) -> None:
    for _ in range(2 * sessions.RENEW_PLANS + 1):
        with lab.session.pipeline():
            lab.session.renew_plans()
            cursor = lab.session.send(b"SELECT %(n)s::int", {"n": 7})
        assert cursor.fetchall() == [(7,)]


# Connections.


def test_a_connection_is_set_up_for_a_worker(lab: Lab) -> None:
    connection = sessions.connect()
    try:
        assert connection.autocommit
        for name, value in {
            "timezone": "UTC",
            "statement_timeout": "1min",
            "lock_timeout": "10s",
            "idle_in_transaction_session_timeout": "1min",
            "plan_cache_mode": "force_generic_plan",
            "jit": "off",
            "application_name": "orchestrator",
        }.items():
            row = connection.execute(f"SHOW {name}".encode()).fetchone()
            assert row == (value,), name
    finally:
        connection.close()


def test_prepared_statements_can_be_switched_off(lab: Lab) -> None:
    options = {"PARTITION_BY": "none", "PREPARED_STATEMENTS": False}
    with override_settings(ORCHESTRATOR=options):
        with sessions.connect() as connection:
            session = WorkerSession(connection)
            for _ in range(10):
                session.fetch(b"SELECT %(n)s::int", {"n": 1})
            rows = session.fetch(b"SELECT name FROM pg_prepared_statements", {})
            (timeout,) = session.fetch(b"SHOW statement_timeout", {})
    assert rows == []
    # Nothing is left on a pooler's connection for whoever has it next.
    assert timeout == ("0",)


def test_a_workers_statements_are_prepared_once(lab: Lab) -> None:
    with sessions.connect() as connection:
        session = WorkerSession(connection)
        for n in range(5):
            session.fetch(b"SELECT %(n)s::int + 1", {"n": n})
        rows = session.fetch(
            b"SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%%+ 1'",
            {},
        )
    assert rows == [(1,)]


# Django's connection.


def test_django_errors_are_djangos(lab: Lab) -> None:
    session = sessions.django_session()
    with pytest.raises(DataError), transaction.atomic():
        session.fetch(BROKEN, {"zero": 0})
    with pytest.raises(ProgrammingError), transaction.atomic():
        session.fetch(b"SELECT FROM nowhere", {})


def test_djangos_broken_transaction_is_not_used_any_more(lab: Lab) -> None:
    session = sessions.django_session()
    with rolled_back(transaction.atomic()):
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            session.fetch(b"SELECT 1", {})


def test_djangos_stream_is_taken_back_as_a_whole_and_harms_nothing(lab: Lab) -> None:
    session = sessions.django_session()
    first = b"CREATE TEMPORARY TABLE streamed (text text) ON COMMIT DROP"
    insert = b"INSERT INTO streamed VALUES (%(text)s)"
    session.fetch(first, {})
    with session.stream():
        for text in "ab":
            session.send(insert, {"text": text})
    with pytest.raises(DataError):
        stream_and_fail(session, insert)
    with rolled_back(session.stream()):
        session.send(insert, {"text": "d"})
    rows = session.fetch(b"SELECT text FROM streamed ORDER BY text", {})
    assert rows == [("a",), ("b",)]


def stream_and_fail(session: sessions.DjangoSession, insert: bytes) -> None:
    with session.stream():
        session.send(insert, {"text": "c"})
        session.send(BROKEN, {"zero": 0})
        session.send(insert, {"text": "c"})


def test_django_itself_prepares_nothing_because_of_us(lab: Lab) -> None:
    session = sessions.django_session()
    session.fetch(b"SELECT %(n)s::int", {"n": 1})
    with django_connection.cursor() as cursor:
        for _ in range(10):
            cursor.execute("SELECT 'djangos own'")
        cursor.execute(
            "SELECT count(*) FROM pg_prepared_statements"
            " WHERE statement LIKE '%%djangos own%%'",
            [],
        )
        assert cursor.fetchone() == (0,)


def test_djangos_snapshot_joins_what_is_open(lab: Lab) -> None:
    session = sessions.django_session()
    with session.snapshot():
        assert session.fetch(b"SELECT 1", {}) == [(1,)]


@pytest.mark.django_db(transaction=True)
def test_djangos_snapshot_is_read_only_where_nothing_is_open() -> None:
    session = sessions.django_session()
    with session.snapshot():
        rows = session.fetch(b"SHOW transaction_isolation", {})
        assert rows == [("repeatable read",)]
    with session.pipeline():
        cursor = session.send(b"SELECT 1", {})
    assert cursor.fetchall() == [(1,)]


# Statements and arrays.


def test_a_file_of_one_step_has_it_by_its_own_name() -> None:
    assert list(statements("clock")) == ["clock"]


def test_a_file_of_several_steps_has_them_by_name() -> None:
    assert set(statements("promote")) == {"promote", "next"}
    for body in statements("promote").values():
        assert b"-- step:" not in body


def test_an_array_is_one_literal() -> None:
    assert array([]) == "{}"
    assert array([1, None, -2.5, True]) == "{1,NULL,-2.5,True}"
