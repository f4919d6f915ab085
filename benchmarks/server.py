"""The one PostgreSQL of a run, and the databases that peers get from it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from sample_project.embedded import EmbeddedServer

PREFIX = "orchestrator_bench_"


class Server:
    """A PostgreSQL in which databases named ``orchestrator_bench_…`` come and go.

    ``url`` is that of a maintenance database (``postgres`` as a rule).
    """

    def __init__(self, url: str, pid_file: Path | None = None) -> None:
        self._url = url
        self.postmaster: int | None = None
        """Its process id, where it is on this machine and our own."""
        if pid_file is not None:
            self.postmaster = int(pid_file.read_text().split()[0])
        self._connection = psycopg.connect(url, autocommit=True)
        self._created: set[str] = set()

    def close(self) -> None:
        """Drop what the run created."""
        for database in self._created:
            self._drop(database)
        self._connection.close()

    def url(self, name: str) -> str:
        """The address of a database of this server."""
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{PREFIX}{name}"))

    def create(self, name: str, template: str | None = None) -> str:
        """(Re)create a database, empty or as a copy; returns its address.

        Nobody may be connected to the template. Files are copied, not logged, and
        a checkpoint ends it, so that its own writes are not measured as a peer's.
        """
        self._drop(PREFIX + name)
        self._created.add(PREFIX + name)
        self._connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(PREFIX + name),
                sql.Identifier(PREFIX + template if template else "template1"),
            )
        )
        self.checkpoint()
        return self.url(name)

    def checkpoint(self) -> None:
        """Write what is dirty; needs a privilege that a borrowed role may lack."""
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            self._connection.execute("CHECKPOINT")

    def analyze(self, name: str) -> None:
        """What autovacuum would have done long ago in a real backlog."""
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")

    def transactions(self, names: list[str]) -> dict[str, int]:
        """Transactions so far, committed or not, in each of the databases."""
        rows = self._connection.execute(
            "SELECT datname, xact_commit + xact_rollback FROM pg_stat_database "
            "WHERE datname = ANY(%s)",
            ([PREFIX + name for name in names],),
        )
        return {name.removeprefix(PREFIX): int(count) for name, count in rows}

    def version(self) -> str:
        """For the report, say ``PostgreSQL 18.4``."""
        number = self._connection.info.parameter_status("server_version") or "?"
        return f"PostgreSQL {number.split()[0]}"

    def _drop(self, database: str) -> None:
        self._connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(
                sql.Identifier(database)
            )
        )


@contextlib.contextmanager
def server(directory: Path) -> Iterator[Server]:
    """The server of ``BENCH_DATABASE_URL``, else a private one in ``directory``.

    The private one has PostgreSQL's defaults where they matter: fsync and
    synchronous_commit on, shared_buffers 128 MB. It is gone when the block ends.
    """
    if url := os.environ.get("BENCH_DATABASE_URL"):
        with contextlib.closing(Server(url)) as found:
            yield found
        return
    embedded = EmbeddedServer(directory)
    embedded.ensure()
    try:
        host = quote(str(embedded.sockets), safe="")
        # An empty authority needs a user before libpq and asyncpg agree on it.
        url = f"postgresql://postgres@/postgres?host={host}&port=5432"
        pid_file = embedded.data / "postmaster.pid"
        with contextlib.closing(Server(url, pid_file)) as private:
            yield private
    finally:
        embedded.release()


def watch(url: str) -> psycopg.Connection[tuple[object, ...]]:
    """A connection that asks what is left, by index whatever the table's size."""
    return psycopg.connect(url, autocommit=True, options="-c enable_seqscan=off")


def wait_until_empty(
    connection: psycopg.Connection[tuple[object, ...]],
    query: sql.SQL,
    parameters: dict[str, object],
    deadline: float,
) -> bool:
    """Poll until ``query`` (whether anything is left) says False.

    Returns False if the deadline (monotonic seconds) came first.
    """
    while True:
        row = connection.execute(query, parameters, prepare=True).fetchone()
        if row is not None and not row[0]:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
