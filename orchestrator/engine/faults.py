"""What kind of trouble an exception is, in one place, for every loop of the engine.

A loop never dies of the database: it asks `kind_of` and acts by the answer. Django
wraps psycopg's exceptions, so the code is also looked for in the cause.
"""

from __future__ import annotations

import enum
import random

import psycopg
from django.db import InterfaceError as DjangoInterfaceError
from django.db import OperationalError as DjangoOperationalError


class Fault(enum.Enum):
    """A class of trouble, and what follows from it."""

    CONNECTION = "connection"  # connect again, with backoff, and try the same again
    CONTENTION = "contention"  # try the same again, soon
    OVERLOAD = "overload"  # the server cannot keep up: smaller batches, more slowly
    DATA = "data"  # one value is refused: find it; the rest goes on
    SCHEMA = "schema"  # another release's tables: connect again, then wait for them
    BUG = "bug"  # none of these: log it with its traceback


_CONNECTION_CODES = frozenset(
    {"57P01", "57P02", "57P03", "57P05", "53300", "25006", "25P03"}
)
_CONTENTION_CODES = frozenset({"40001", "40P01", "55P03"})
_OVERLOAD_CODES = frozenset({"57014", "53000", "53100", "53200", "53400"})
_SCHEMA_CODES = frozenset({"42P01", "42703", "0A000", "42883", "3F000"})
_DATA_CLASSES = frozenset({"22", "23", "54"})


def sqlstate(error: BaseException) -> str | None:
    """The five characters of PostgreSQL's error code, or None where there is none."""
    for candidate in (error, error.__cause__):
        code = getattr(candidate, "sqlstate", None)
        if isinstance(code, str):
            return code
    return None


def kind_of(error: BaseException) -> Fault:
    """Classify an exception that came out of a verb."""
    code = sqlstate(error)
    if code is not None:
        return _kind_of_code(code)
    if isinstance(
        error,
        psycopg.OperationalError
        | psycopg.InterfaceError
        | DjangoOperationalError
        | DjangoInterfaceError
        | ConnectionError,
    ):
        return Fault.CONNECTION
    if isinstance(error, psycopg.DataError | UnicodeEncodeError | RecursionError):
        return Fault.DATA
    return Fault.BUG


def _kind_of_code(code: str) -> Fault:
    if code.startswith("08") or code in _CONNECTION_CODES:
        return Fault.CONNECTION
    if code in _CONTENTION_CODES:
        return Fault.CONTENTION
    if code in _OVERLOAD_CODES:
        return Fault.OVERLOAD
    if code in _SCHEMA_CODES:
        return Fault.SCHEMA
    if code[:2] in _DATA_CLASSES:
        return Fault.DATA
    return Fault.BUG


class Backoff:
    """Delays that double from `first` to `most` seconds, each with jitter."""

    def __init__(self, first: float, most: float) -> None:
        self.first = first
        self.most = most
        self.failures = 0

    def reset(self) -> None:
        """What was tried has worked: begin again with the shortest delay."""
        self.failures = 0

    def next(self) -> float:
        """Seconds to wait before the next try: half to the whole of a doubled delay."""
        delay = min(self.most, self.first * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return delay * (0.5 + random.random() / 2)  # noqa: S311
