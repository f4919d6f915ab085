"""The outbox: what was said in one process and is still to be written.

Any thread adds to it, one thread writes. Saying something never fails a task because
of the database: what cannot be written is kept up to a cap, then dropped and counted.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol
from uuid import UUID

from orchestrator.engine.says import Chunk, Line, More, Said, Word

LINES_WITHIN = 0.5  # seconds until lines and progress are written
CHUNKS_WITHIN = 0.05  # seconds until chunks are
NEVER = float("inf")

MOST = 64 * 1024 * 1024  # characters kept while the database cannot be reached
FULL = 8 * 1024 * 1024  # characters from which on a thread that streams has to wait
PATIENCE = 2.0  # seconds for which it waits, at most
TAKE = 2_000  # items a batch
TAKE_SIZE = 4 * 1024 * 1024  # characters a batch


class Outlet(Protocol):
    """Where voices lead: an outbox, or the pipe out of an isolated process."""

    def line(self, line: Line) -> None:
        """Take a line of a log."""

    def chunk(self, chunk: Chunk) -> None:
        """Take a chunk of a stream."""

    def word(self, word: Word) -> None:
        """Take the latest word of progress."""

    def more(self, more: More) -> None:
        """Take seconds that were added to an execution timeout."""


class Outbox:
    """Lines, chunks and words on their way. `due_at` is when they are to be written,
    in `time.monotonic()`; `ring` wakes whoever writes.
    """

    def __init__(self, ring: Callable[[], None] | None = None) -> None:
        self.due_at = NEVER
        self.size = 0  # characters
        self.progressed: set[UUID] = set()  # task runs that may have a row of progress
        self._dropped = 0
        self._ring = ring
        self._lock = threading.Lock()
        self._said = Said()
        self._words: dict[UUID, Word] = {}

    @property
    def waiting(self) -> bool:
        """Whether there is anything to write."""
        return self.due_at != NEVER

    def line(self, line: Line) -> None:
        """Take a line of a log."""
        with self._lock:
            if self._fits(line.text):
                self._said.lines.append(line)
                self._due(LINES_WITHIN)

    def chunk(self, chunk: Chunk) -> None:
        """Take a chunk of a stream; a thread that is too fast waits for the writer."""
        if self.size > FULL:
            self._wait_for_room()
        with self._lock:
            if self._fits(chunk.text):
                self._said.chunks.append(chunk)
                self._due(CHUNKS_WITHIN)

    def word(self, word: Word) -> None:
        """Take the latest word of a task run, in place of the one before."""
        with self._lock:
            self._words[word.task_run_id] = word
            self.progressed.add(word.task_run_id)
            self._due(LINES_WITHIN)

    def more(self, more: More) -> None:
        """Take seconds that were added to an execution timeout; they are due now."""
        with self._lock:
            self._said.more.append(more)
            self._due(0.0)

    def forget(self, task_run_ids: Iterable[UUID]) -> None:
        """Let the progress of task runs go: they have ended, or are about to."""
        with self._lock:
            gone = self.progressed.intersection(task_run_ids)
            if not gone:
                return
            self.progressed -= gone
            for task_run_id in gone:
                self._words.pop(task_run_id, None)
            self._said.ended += gone
            self._due(0.0)

    def take(self) -> Said:
        """The next batch; what is left is due at once."""
        with self._lock:
            said, self._said = _split(self._said)
            said.words, self._words = list(self._words.values()), {}
            self.size -= _size(said)
            left = self._said.lines or self._said.chunks
            self.due_at = time.monotonic() if left else NEVER
            return said

    def put_back(self, said: Said, *, delay: float) -> None:
        """Take back a batch that was not written; it is due again after `delay` s."""
        with self._lock:
            rest = self._said
            self._said = Said(
                lines=said.lines + rest.lines,
                chunks=said.chunks + rest.chunks,
                more=said.more + rest.more,
                ended=said.ended + rest.ended,
            )
            for word in said.words:
                if word.task_run_id in self.progressed:
                    # A word that was said since is the later one.
                    self._words.setdefault(word.task_run_id, word)
            self.size += _size(said)
            self.due_at = time.monotonic() + delay

    def everything(self) -> tuple[list[str], list[str], list[Word]]:
        """The texts of lines and chunks, and the words, that are still here."""
        with self._lock:
            lines = [line.text for line in self._said.lines]
            chunks = [chunk.text for chunk in self._said.chunks]
            return lines, chunks, list(self._words.values())

    def drop(self, said: Said) -> None:
        """Count a batch that can never be written."""
        with self._lock:
            self._dropped += len(said.lines) + len(said.chunks)

    def count_dropped(self) -> int:
        """How many lines and chunks were dropped since this was asked before."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
            return dropped

    def _fits(self, text: str) -> bool:
        if self.size + len(text) > MOST:
            self._dropped += 1
            return False
        self.size += len(text)
        return True

    def _due(self, within: float) -> None:
        due_at = time.monotonic() + within
        if due_at < self.due_at:
            self.due_at = due_at
            if self._ring is not None:
                self._ring()

    def _wait_for_room(self) -> None:
        if asyncio._get_running_loop() is not None:
            return  # a loop must not wait: it serves others
        give_up = time.monotonic() + PATIENCE
        while self.size > FULL and time.monotonic() < give_up:
            time.sleep(0.005)


def _split(said: Said) -> tuple[Said, Said]:
    """A batch and the rest, both in the order in which they were said."""
    first, rest = Said(more=said.more, ended=said.ended), Said()
    room = TAKE_SIZE
    for line in said.lines:
        fits = not rest.lines and len(first.lines) < TAKE and room > 0
        (first if fits else rest).lines.append(line)
        room -= len(line.text)
    for chunk in said.chunks:
        fits = not rest.chunks and len(first.chunks) < TAKE and room > 0
        (first if fits else rest).chunks.append(chunk)
        room -= len(chunk.text)
    return first, rest


def _size(said: Said) -> int:
    lines = sum(len(line.text) for line in said.lines)
    return lines + sum(len(chunk.text) for chunk in said.chunks)
