"""The classifier of trouble, by table."""

from __future__ import annotations

import psycopg
import pytest
from django.db import DataError, OperationalError
from psycopg import errors

from orchestrator.engine.faults import Backoff, Fault, kind_of


def wrapped(cause: Exception) -> Exception:
    error = OperationalError("wrapped by Django")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.AdminShutdown(), Fault.CONNECTION),
        (errors.CrashShutdown(), Fault.CONNECTION),
        (errors.CannotConnectNow(), Fault.CONNECTION),
        (errors.ConnectionFailure(), Fault.CONNECTION),
        (errors.TooManyConnections(), Fault.CONNECTION),
        (errors.ReadOnlySqlTransaction(), Fault.CONNECTION),
        (errors.IdleInTransactionSessionTimeout(), Fault.CONNECTION),
        (psycopg.OperationalError("server closed the connection"), Fault.CONNECTION),
        (psycopg.InterfaceError("the connection is closed"), Fault.CONNECTION),
        (ConnectionResetError(), Fault.CONNECTION),
        (errors.SerializationFailure(), Fault.CONTENTION),
        (errors.DeadlockDetected(), Fault.CONTENTION),
        (errors.LockNotAvailable(), Fault.CONTENTION),
        (errors.QueryCanceled(), Fault.OVERLOAD),
        (errors.DiskFull(), Fault.OVERLOAD),
        (errors.OutOfMemory(), Fault.OVERLOAD),
        (errors.UntranslatableCharacter(), Fault.DATA),
        (errors.UniqueViolation(), Fault.DATA),
        (errors.ProgramLimitExceeded(), Fault.DATA),
        (psycopg.DataError("refused by the driver"), Fault.DATA),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate"), Fault.DATA),
        (errors.UndefinedTable(), Fault.SCHEMA),
        (errors.UndefinedColumn(), Fault.SCHEMA),
        (errors.FeatureNotSupported(), Fault.SCHEMA),
        (errors.SyntaxError(), Fault.BUG),
        (ValueError("anything else"), Fault.BUG),
        (wrapped(errors.AdminShutdown()), Fault.CONNECTION),
        (wrapped(errors.DeadlockDetected()), Fault.CONTENTION),
        (OperationalError("without a cause"), Fault.CONNECTION),
        (DataError("without a cause"), Fault.BUG),
    ],
)
def test_trouble_is_told_apart(error: Exception, kind: Fault) -> None:
    assert kind_of(error) is kind


def test_backoff_doubles_with_jitter_up_to_its_most() -> None:
    backoff = Backoff(0.1, 5.0)
    delays = [backoff.next() for _ in range(100)]
    assert 0.05 <= delays[0] <= 0.1
    assert 0.1 <= delays[1] <= 0.2
    assert all(2.5 <= delay <= 5.0 for delay in delays[7:])
    backoff.reset()
    assert backoff.next() <= 0.1
