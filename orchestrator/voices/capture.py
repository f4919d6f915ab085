"""Capture: what tasks log with Python's `logging`, into the log of their attempt.

A contextvar says which attempt is executed. Threads of the worker, its event loop,
`asyncio.to_thread` and `sync_to_async` carry it; a thread that a task starts by hand
does so where it is started with `contextvars.copy_context().run`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from orchestrator.voices.voice import Voice


class Speaker(Protocol):
    """The context of an attempt."""

    @property
    def is_replaying(self) -> bool:
        """Whether what it says has been said by an attempt before."""

    @property
    def voice(self) -> Voice:
        """What it speaks with."""


speaker: ContextVar[Speaker | None] = ContextVar("orchestrator_speaker", default=None)

_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_formatter = logging.Formatter()


class Capture(logging.Handler):
    """A handler of the root logger; the levels of the loggers say what comes here.

    Where no other handler shows a record, logging's last resort does, as it would
    without this one.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record of a task; raises nothing."""
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and self._alone(record):
            last.handle(record)
        who = speaker.get()
        if who is None or who.is_replaying:
            return
        try:
            fields = {k: v for k, v in vars(record).items() if k not in _USUAL}
            who.voice.log(_said(record), record.levelname, fields, record.name)
        except Exception:
            self.handleError(record)

    def _alone(self, record: logging.LogRecord) -> bool:
        log: logging.Logger | None = logging.getLogger(record.name)
        while log is not None:
            if any(handler is not self for handler in log.handlers):
                return False
            log = log.parent if log.propagate else None
        return True


def _said(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info:
        text = f"{text}\n{_formatter.formatException(record.exc_info)}"
    if record.stack_info:
        text = f"{text}\n{record.stack_info}"
    return text


def install() -> Capture:
    """Begin to capture what tasks log in this process."""
    handler = Capture()
    logging.getLogger().addHandler(handler)
    return handler


@contextmanager
def captured() -> Iterator[None]:
    """Capture what tasks log while the block is executed."""
    handler = install()
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
