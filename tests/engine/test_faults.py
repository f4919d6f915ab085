"""Faults: the one table by which every loop decides what to do (reliability 4.6)."""

from __future__ import annotations

import psycopg
import pytest
from django.db import InterfaceError as DjangoInterfaceError
from django.db import OperationalError as DjangoOperationalError
from django.db import connection, transaction
from django.db.utils import DataError as DjangoDataError
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.faults import Backoff, Fault, kind_of, sqlstate
from tests.engine.lab import Lab

TABLE = {
    Fault.CONNECTION: "08000 08003 08006 08P01 57P01 57P02 57P03 57P05 53300 25006"
    " 25P03",
    Fault.CONTENTION: "40001 40P01 55P03",
    Fault.OVERLOAD: "57014 53000 53100 53200 53400",
    Fault.DATA: "22000 22021 22P02 22P05 22003 23502 23505 23514 54000 54001",
    Fault.SCHEMA: "42P01 42703 0A000 42883 3F000",
    Fault.BUG: "42601 XX000 P0001 28000 42501",
}
CODES = [(code, fault) for fault, codes in TABLE.items() for code in codes.split()]


def coded(code: str) -> psycopg.Error:
    error = psycopg.errors.lookup(code)("text")
    assert error.sqlstate == code
    return error


@pytest.mark.parametrize(("code", "fault"), CODES)
def test_each_code_has_its_kind(code: str, fault: Fault) -> None:
    try:
        error = coded(code)
    except KeyError:
        error = type("Unnamed", (psycopg.DatabaseError,), {"sqlstate": code})("text")
    assert kind_of(error) is fault
    wrapped = DjangoOperationalError("text")
    wrapped.__cause__ = error
    assert kind_of(wrapped) is fault
    assert sqlstate(wrapped) == code


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (psycopg.OperationalError("the connection is closed"), Fault.CONNECTION),
        (psycopg.InterfaceError("closed"), Fault.CONNECTION),
        (DjangoOperationalError("closed"), Fault.CONNECTION),
        (DjangoInterfaceError("closed"), Fault.CONNECTION),
        (ConnectionResetError(), Fault.CONNECTION),
        (BrokenPipeError(), Fault.CONNECTION),
        (psycopg.DataError("NUL"), Fault.DATA),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate"), Fault.DATA),
        (RecursionError(), Fault.DATA),
        (ValueError(), Fault.BUG),
        (LookupError(), Fault.BUG),
        (psycopg.ProgrammingError("bad"), Fault.BUG),
    ],
)
def test_what_has_no_code_has_its_kind_all_the_same(
    error: Exception, fault: Fault
) -> None:
    assert sqlstate(error) is None
    assert kind_of(error) is fault


def test_a_terminated_backend_is_a_lost_connection(lab: Lab) -> None:
    victim = lab.connect()
    pid = victim.info.backend_pid
    lab.connect().execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    with pytest.raises(psycopg.Error) as caught:
        victim.execute("SELECT 1")
    assert kind_of(caught.value) is Fault.CONNECTION


def test_a_lock_timeout_is_contention(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one"))
    other = lab.connect()
    other.execute("SET lock_timeout = '20ms'")
    with lab.session.transaction():
        lab.session.fetch(b"SELECT FROM orchestrator_run FOR UPDATE", {})
        with pytest.raises(psycopg.Error) as caught:
            other.execute("SELECT FROM orchestrator_run FOR UPDATE")
    other.execute("SET lock_timeout = '10s'")
    assert kind_of(caught.value) is Fault.CONTENTION


def test_djangos_wrapping_is_seen_through(lab: Lab) -> None:
    with pytest.raises(DjangoDataError) as caught, transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT '{'::jsonb")
    assert kind_of(caught.value) is Fault.DATA


@given(st.floats(0.001, 1), st.floats(1, 100), st.integers(1, 60))
def test_a_backoff_doubles_up_to_its_most(
    first: float, most: float, tries: int
) -> None:
    backoff = Backoff(first, most)
    for number in range(tries):
        ceiling = min(most, first * 2.0**number)
        assert ceiling / 2 <= backoff.next() <= ceiling
    backoff.reset()
    assert backoff.next() <= first


def test_a_backoff_never_overflows() -> None:
    backoff = Backoff(0.1, 5)
    for _ in range(5_000):
        assert 0 < backoff.next() <= 5
