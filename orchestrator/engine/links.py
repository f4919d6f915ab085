"""A connection of the engine's own that is opened again after it broke."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

import psycopg

from orchestrator.conf import settings
from orchestrator.engine import sessions
from orchestrator.engine.faults import Backoff
from orchestrator.exceptions import DatabaseTooOld

logger = logging.getLogger("orchestrator")

OLDEST_SERVER = 150_000  # PostgreSQL 15


class Link:
    """One connection and its session, for one thread.

    `name` says in log lines who lost or found the database. A broken connection is
    dropped with `drop()`; `restore()` opens another one, at most as often as its
    backoff allows, so that a loop can call it as often as it comes by.
    """

    def __init__(self, name: str, *, listen: bool = False) -> None:
        self.name = name
        self.listen = listen
        self.connection: psycopg.Connection[Any] | None = None
        self._session: sessions.WorkerSession | None = None
        # Often enough to be back before a scheduler takes the silence for a death.
        longest = min(3.0, settings.lost_after.total_seconds() / 6)
        self._backoff = Backoff(min(0.1, longest), longest)
        self._retry_at = 0.0
        self._silent_since: float | None = None

    @property
    def session(self) -> sessions.WorkerSession:
        """The session of the open connection.

        Raises psycopg.OperationalError where there is none.
        """
        if self._session is None:
            raise psycopg.OperationalError("There is no connection at the moment.")
        return self._session

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._session is not None

    @property
    def retry_in(self) -> float:
        """Seconds until `restore()` tries again."""
        return max(0.0, self._retry_at - time.monotonic())

    def restore(self) -> bool:
        """Open the connection if it is due; whether there is one now.

        Raises DatabaseTooOld for a server that is too old; an unreachable one is
        reported once in the log and tried again later.
        """
        if self._session is not None:
            return True
        if time.monotonic() < self._retry_at:
            return False
        try:
            connection = sessions.connect(listen=self.listen)
        except psycopg.Error as error:
            self._failed(error)
            return False
        _refuse_old(connection)
        self.connection = connection
        self._session = sessions.WorkerSession(connection)
        if self._silent_since is not None:
            seconds = time.monotonic() - self._silent_since
            logger.warning("%s: the database is back after %.1f s.", self.name, seconds)
            self._silent_since = None
        return True

    def proved(self) -> None:
        """A statement has worked: the next loss is tried again at once."""
        self._backoff.reset()

    def drop(self, error: BaseException | None = None, *, broken: bool = True) -> None:
        """Close the connection; `restore()` opens another one, with an `error` later.

        An error of a connection that is not `broken` has been reported elsewhere.
        """
        connection, self.connection, self._session = self.connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()
        if error is not None:
            self._failed(error, broken=broken)

    def _failed(self, error: BaseException, *, broken: bool = True) -> None:
        self._retry_at = time.monotonic() + self._backoff.next()
        if broken and self._silent_since is None:
            self._silent_since = time.monotonic()
            text = " ".join(str(error).split()) or type(error).__name__
            logger.warning(
                "%s: no connection to the database (%s). Trying again; check that "
                "PostgreSQL runs and DATABASES is right.",
                self.name,
                text,
            )


def _refuse_old(connection: psycopg.Connection[Any]) -> None:
    version = connection.info.server_version
    if version < OLDEST_SERVER:
        connection.close()
        raise DatabaseTooOld(
            f"PostgreSQL {version // 10_000} is too old; "
            "django-orchestrator needs version 15 or newer. Upgrade the server."
        )
