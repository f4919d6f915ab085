"""Sessions: where a verb speaks, and how its transaction begins."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from importlib.resources import files
from typing import Any, Protocol
from uuid import UUID

import psycopg
from django.db import connections, transaction

from orchestrator.conf import settings

Row = tuple[Any, ...]

SNAPSHOT = b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"

# Not ROLLBACK, after which psycopg drops the prepared statements of the next pipeline.
TAKE_BACK = b"DO $$BEGIN RAISE 'orchestrator: the batch is taken back'; END$$"

RENEW_PLANS = 64  # exchanges

_STEP = re.compile(rb"^-- step: (\w+)\n", re.MULTILINE)


@cache
def statements(verb: str) -> Mapping[str, bytes]:
    """The steps of `engine/<verb>.sql` by name; a file of one step has it as `verb`.

    A step begins with a line `-- step: <name>`; what stands before the first one is
    the file's header.
    """
    text = files("orchestrator.engine").joinpath(f"{verb}.sql").read_bytes()
    parts = _STEP.split(text)
    if len(parts) == 1:
        return {verb: text}
    return {
        name.decode(): body for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def array(values: Iterable[object]) -> str:
    """An array literal of numbers, UUIDs or bare words; None becomes NULL.

    Sent as untyped text and cast in the statement, so that a prepared statement has
    one signature whatever the values; the fastest way to pass them, too.
    """
    return "{" + ",".join(["NULL" if v is None else str(v) for v in values]) + "}"


def uuids(values: Iterable[UUID]) -> str:
    """An array literal of UUIDs, written in the cheapest way."""
    return "{" + ",".join([value.hex for value in values]) + "}"


def documents(texts: Sequence[str | None]) -> str:
    """JSON texts as one JSON array, for `jsonb_array_elements`; None becomes null.

    The server parses them once, and nothing needs to be quoted. Where all are None the
    array is empty: `ROWS FROM` pads with NULL.
    """
    if not any(texts):
        return "[]"
    return "[" + ",".join(["null" if text is None else text for text in texts]) + "]"


class Session(Protocol):
    """One connection on which verbs speak."""

    def fetch(self, statement: bytes, params: Mapping[str, Any]) -> list[Row]:
        """Execute and return all rows; an empty list for a statement without any."""

    def send(self, statement: bytes, params: Mapping[str, Any]) -> psycopg.Cursor[Row]:
        """Execute; inside `pipeline()` the rows may be fetched once it has ended."""

    def transaction(self) -> AbstractContextManager[object]:
        """A durable transaction: raises where another one is already open."""

    def joined(self) -> AbstractContextManager[object]:
        """A transaction, or a savepoint of the caller's."""

    def stream(self) -> AbstractContextManager[object]:
        """Like `joined`, for statements that need no answer: the server works on one
        while the next is made. Errors come at the end."""

    def snapshot(self) -> AbstractContextManager[object]:
        """A read-only transaction that sees one moment, unless one is open already."""

    def pipeline(self) -> AbstractContextManager[object]:
        """A durable transaction whose statements do not wait for each other's answers.

        What `send` returns may be fetched once it has ended; `fetch` would end it.
        """

    def renew_plans(self) -> None:
        """Let no plan grow old; to be called at every exchange."""

    def on_commit(self, function: Any) -> None:
        """Call `function` once the surrounding transaction has committed."""


class DjangoSession:
    """Django's connection of one alias: verbs join the caller's transaction.

    Errors are those of `django.db.utils`. Statements bypass `execute_wrapper` and the
    query log.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def send(self, statement: bytes, params: Mapping[str, Any]) -> psycopg.Cursor[Row]:
        wrapper = connections[self.alias]
        wrapper.ensure_connection()
        wrapper.validate_no_broken_transaction()
        raw = wrapper.connection
        with wrapper.wrap_database_errors:
            cursor: psycopg.Cursor[Row] = psycopg.Cursor(raw)
            cursor.execute(statement, params, prepare=_prepare(raw))
        return cursor

    def fetch(self, statement: bytes, params: Mapping[str, Any]) -> list[Row]:
        cursor = self.send(statement, params)
        return cursor.fetchall() if cursor.description else []

    def transaction(self) -> AbstractContextManager[object]:
        return transaction.atomic(using=self.alias, durable=True)

    def joined(self) -> AbstractContextManager[object]:
        return transaction.atomic(using=self.alias)

    @contextmanager
    def stream(self) -> Iterator[None]:
        wrapper = connections[self.alias]
        with self.joined():
            wrapper.ensure_connection()
            with wrapper.wrap_database_errors, wrapper.connection.pipeline():
                yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        if connections[self.alias].in_atomic_block:
            yield
            return
        with transaction.atomic(using=self.alias):
            self.send(SNAPSHOT, {})
            yield

    def pipeline(self) -> AbstractContextManager[object]:
        return self.transaction()

    def renew_plans(self) -> None:
        """Nothing: Django's connection plans for the values at hand."""

    def on_commit(self, function: Any) -> None:
        transaction.on_commit(function, using=self.alias)


class WorkerSession:
    """A worker's or scheduler's own autocommit connection, used by one thread."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.prepare = settings.prepared_statements
        self._exchanges = 0
        self._committed: list[Any] | None = None

    def send(self, statement: bytes, params: Mapping[str, Any]) -> psycopg.Cursor[Row]:
        return self.connection.execute(statement, params, prepare=self.prepare)

    def fetch(self, statement: bytes, params: Mapping[str, Any]) -> list[Row]:
        cursor = self.send(statement, params)
        return cursor.fetchall() if cursor.description else []

    def transaction(self) -> AbstractContextManager[object]:
        return self._durable(self.connection.transaction)

    def pipeline(self) -> AbstractContextManager[object]:
        return self._durable(self._pipelined)

    @contextmanager
    def _pipelined(self) -> Iterator[None]:
        # Up to its end, a pipeline on an autocommit connection is one transaction.
        with self.connection.pipeline():
            try:
                yield
            except BaseException:
                # Its end commits what was sent before, unless something has failed.
                with suppress(psycopg.Error):
                    self.connection.execute(TAKE_BACK, prepare=False)
                raise

    @contextmanager
    def _durable(
        self, begin: Callable[[], AbstractContextManager[object]]
    ) -> Iterator[None]:
        if self._committed is not None:
            raise RuntimeError("A durable transaction cannot be nested in another one.")
        self._committed = []
        try:
            with begin():
                yield
            committed = self._committed
        finally:
            self._committed = None
        for function in committed:
            function()

    def joined(self) -> AbstractContextManager[object]:
        if self._committed is None:
            return self.transaction()
        return self.connection.transaction()

    @contextmanager
    def stream(self) -> Iterator[None]:
        with self.joined():
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        with self.transaction():
            self.send(SNAPSHOT, {})
            yield

    def renew_plans(self) -> None:
        """Have generic plans made anew now and then; to be called at every exchange.

        A plan that was made while a table was empty would stay, and read the whole
        table once it is full. The sizes that count at planning are those of the files,
        so nothing needs to be analysed.
        """
        self._exchanges += 1
        if self._exchanges % RENEW_PLANS == 0:
            self.connection.execute("DISCARD PLANS", prepare=False)

    def on_commit(self, function: Any) -> None:
        if self._committed is None:
            function()
        else:
            self._committed.append(function)


def django_session() -> DjangoSession:
    """A session on Django's connection of `ORCHESTRATOR["DATABASE"]`."""
    return DjangoSession(settings.database)


def connect(*, listen: bool = False, **overrides: Any) -> psycopg.Connection[Any]:
    """Open an autocommit connection of the engine's own, from Django's parameters.

    `listen=True` uses `ORCHESTRATOR["LISTEN_DATABASE"]` where it is set: LISTEN needs
    a connection that no transaction pooler sits on.

    Raises psycopg.OperationalError where the database cannot be reached.
    """
    alias = (listen and settings.listen_database) or settings.database
    params: dict[str, Any] = dict(connections[alias].get_connection_params())
    for name in ("cursor_factory", "context", "pool", "prepare_threshold"):
        params.pop(name, None)
    params = {**DEFAULT_PARAMETERS, **params, **overrides}
    connection = psycopg.connect(**params, autocommit=True)
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    if not settings.prepared_statements:
        # A pooler sits in between: what is set here would reach whoever comes next.
        connection.prepare_threshold = None
        return connection
    connection.prepare_threshold = 0
    for name, value in SESSION_SETTINGS.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    return connection


DEFAULT_PARAMETERS = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "target_session_attrs": "read-write",
    "application_name": "orchestrator",
}

SESSION_SETTINGS = {
    "timezone": "UTC",
    "default_transaction_isolation": "read committed",
    "statement_timeout": "60s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    "enable_seqscan": "off",
}


def _prepare(raw: psycopg.Connection[Any]) -> bool | None:
    """Prepare on Django's connection, too, unless a pooler sits in between."""
    if not settings.prepared_statements:
        return False
    if raw.prepare_threshold is None:
        raw.prepare_threshold = 1_000_000_000  # only what asks for it is prepared
    return True


def first(rows: Sequence[Row]) -> Row:
    """The only row of a statement that always returns one."""
    return rows[0]
