"""What a task leaves behind in its thread, and how the next one never sees it.

Django re-arms its connection health checks only at the signals of a request, which a
worker has none of. Here each connection is noticed when it opens. After a task, what it
left broken or open is thrown away; before the next one, the check is armed again, so
that a connection which the server has closed meanwhile is replaced at its first use. A
thread without connections pays nothing.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

logger = logging.getLogger("orchestrator")

IDLE_CLOSE = 10.0  # seconds after which an idle slot gives its connections back


class Connections(threading.local):
    """The connections that were opened in this thread."""

    def __init__(self) -> None:
        self.opened: list[BaseDatabaseWrapper] = []
        self.is_slot = False


class Elsewhere:
    """How often connections of threads that are no slots were to be checked."""

    rounds = 0


here = Connections()


def _noticed(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if not here.is_slot:
        _watch(connection)
    elif connection not in here.opened:
        here.opened.append(connection)


def _watch(connection: BaseDatabaseWrapper) -> None:
    """Have the connection's own thread arm the check, between two transactions.

    A check in the middle of one would begin another at its end, and Django's
    connection would never commit again.
    """
    if "close_if_health_check_failed" in vars(connection):
        return  # it was opened again
    check = connection.close_if_health_check_failed
    checked = Elsewhere.rounds

    def check_once_a_round() -> None:
        nonlocal checked
        if checked != Elsewhere.rounds and _is_between_transactions(connection):
            checked = Elsewhere.rounds
            _arm(connection)
        check()

    vars(connection)["close_if_health_check_failed"] = check_once_a_round


def install() -> None:
    """Begin to notice connections; once for each process."""
    connection_created.connect(_noticed, dispatch_uid="orchestrator.worker")


def adopt_thread() -> list[BaseDatabaseWrapper]:
    """Make this thread a slot; its list of connections, which the caller may test."""
    here.is_slot = True
    return here.opened


def arm_elsewhere() -> None:
    """Have connections of threads that are no slots checked at their next use.

    Async tasks reach the ORM through threads that belong to asgiref. No connection is
    touched here: each is armed by its own thread.
    """
    Elsewhere.rounds += 1


def tidy(opened: list[BaseDatabaseWrapper]) -> None:
    """After a task: keep what is clean, with its check armed; drop the rest."""
    for connection in list(opened):
        try:
            clean = _is_clean(connection)
        except Exception:
            logger.exception("A connection that a task left behind cannot be read.")
            clean = False
        if clean:
            _arm(connection)
        else:
            opened.remove(connection)
            _throw_away(connection)


def close(opened: list[BaseDatabaseWrapper]) -> None:
    """Close this thread's connections; they open again when they are needed."""
    for connection in opened:
        with contextlib.suppress(Exception):
            connection.close()
    opened.clear()


def _arm(connection: BaseDatabaseWrapper) -> None:
    vars(connection).update(health_check_enabled=True, health_check_done=False)


def _is_between_transactions(connection: BaseDatabaseWrapper) -> bool:
    raw = connection.connection
    if raw is None or connection.in_atomic_block:
        return False
    if not (connection.autocommit and connection.settings_dict["AUTOCOMMIT"]):
        return False
    if connection.vendor == "postgresql":
        # Idle, or known to be broken.
        return raw.pgconn.transaction_status in (0, 4)
    return True


def _is_clean(connection: BaseDatabaseWrapper) -> bool:
    raw = connection.connection
    if raw is None:
        return False
    if connection.in_atomic_block or connection.needs_rollback:
        return False
    if connection.errors_occurred or connection.closed_in_transaction:
        return False
    if connection.get_autocommit() != connection.settings_dict["AUTOCOMMIT"]:
        return False
    # CONN_MAX_AGE = 0 means "until the request ends"; here, until the slot is idle.
    close_at = connection.close_at if connection.settings_dict["CONN_MAX_AGE"] else None
    if close_at is not None and time.monotonic() >= close_at:
        return False
    if connection.vendor == "postgresql":
        return bool(raw.pgconn.transaction_status == 0)  # PQTRANS_IDLE
    return True


def _throw_away(connection: BaseDatabaseWrapper) -> None:
    # Left inside an atomic block that nobody will leave, `close` would keep it open.
    connection.in_atomic_block = False
    connection.closed_in_transaction = False
    with contextlib.suppress(Exception):
        connection.close()
    connection.connection = None
