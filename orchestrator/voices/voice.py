"""The voice of one attempt: it numbers, checks and caps what is said."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from orchestrator import serialization
from orchestrator.conf import settings
from orchestrator.engine.says import Chunk, Line, More, Word
from orchestrator.exceptions import InvalidOutput
from orchestrator.voices.lines import line as line_of
from orchestrator.voices.outbox import Outlet

MAX_LINES = 10_000  # of an attempt
MAX_WORD = 500  # characters of a word of progress


class Voice:
    """What an attempt says goes to an outlet. Any thread may use it."""

    __slots__ = (
        "_attempt",
        "_chunks",
        "_dropped",
        "_last",
        "_lines",
        "_lock",
        "_outlet",
        "_run_id",
        "_task_run_id",
    )

    def __init__(
        self, outlet: Outlet, run_id: UUID, task_run_id: UUID, attempt: int
    ) -> None:
        self._outlet = outlet
        self._run_id = run_id
        self._task_run_id = task_run_id
        self._attempt = attempt
        self._lock = threading.Lock()
        self._lines = 0
        self._chunks = 0
        self._dropped = 0
        self._last: Line | None = None  # kept back, in case more come than may

    def log(
        self,
        message: object,
        level: str | int,
        fields: Mapping[str, Any],
        logger: str = "",
    ) -> None:
        """Say a line, cut to 8 KiB; of more than 10,000 the last says how many."""
        full = self._lines >= MAX_LINES
        text = "" if full else line_of(message, level, fields, logger)
        with self._lock:
            if self._lines >= MAX_LINES:
                # The last place is for the word about those that found none.
                self._dropped += 1 if self._last is None else 2
                self._last = None
                return
            self._lines += 1
            line = self._numbered(self._lines, text)
            if self._lines == MAX_LINES:
                self._last = line
            else:
                self._outlet.line(line)

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Say how far it is; only the latest word counts.

        Raises InvalidOutput where that is no number.
        """
        self._outlet.word(
            Word(
                self._run_id,
                self._task_run_id,
                self._attempt,
                time.monotonic(),
                _number("done", done),
                None if total is None else _number("total", total),
                serialization.clean(str(message))[:MAX_WORD],
            )
        )

    def stream(self, chunk: Any) -> None:
        """Say a chunk; raises InvalidOutput where it is not JSON or too large."""
        text = serialization.dumps(
            chunk, limit=settings.max_output_bytes, what="A chunk", sanitise=True
        )
        with self._lock:
            self._chunks += 1
            self._outlet.chunk(
                Chunk(
                    self._run_id,
                    self._task_run_id,
                    self._attempt,
                    self._chunks,
                    time.monotonic(),
                    text,
                )
            )

    def more(self, seconds: float) -> None:
        """Say that the execution timeout is longer by so much."""
        self._outlet.more(More(self._task_run_id, self._attempt, seconds))

    def close(self) -> None:
        """Say the last line, at the end of the attempt."""
        with self._lock:
            if self._last is not None:
                self._outlet.line(self._last)
                self._last = None
            elif self._dropped:
                text = (
                    f"{self._dropped:,} further lines were dropped: an attempt keeps "
                    f"{MAX_LINES:,}."
                )
                self._outlet.line(
                    self._numbered(MAX_LINES, line_of(text, "WARNING", {}, ""))
                )
                self._dropped = 0

    def _numbered(self, number: int, text: str) -> Line:
        return Line(self._task_run_id, self._attempt, number, time.monotonic(), text)


def _number(name: str, value: float) -> float:
    wrong = isinstance(value, bool) or not isinstance(value, int | float)
    if wrong or not -sys.float_info.max <= value <= sys.float_info.max:  # or NaN
        shown = serialization.shortened(serialization.safe_repr(value), 80)
        raise InvalidOutput(f"ctx.progress({name}={shown}): give a finite number.")
    return float(value)
