"""Isolated execution: a process for one task at a time, killed when it must end.

The process is warm: it has loaded the project and waits for its next task. Requests and
answers are JSON in frames over two pipes. When it ends without an answer, the attempt
is LOST, charged to the budget for lost workers, and says how the process ended.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import struct
import subprocess
import sys
import threading
from contextvars import copy_context
from datetime import timedelta
from time import monotonic
from typing import Any
from uuid import UUID

from orchestrator.engine.claim import Claim
from orchestrator.engine.outputs import ParentOutput
from orchestrator.engine.settle import Result
from orchestrator.engine.shapes import Shape
from orchestrator.states import AttemptOutcome
from orchestrator.worker import boot, execute, hygiene
from orchestrator.worker.board import Board
from orchestrator.worker.execute import Work

logger = logging.getLogger("orchestrator")

_LENGTH = struct.Struct(">I")
START_TIMEOUT = 120.0  # seconds for a process to load the project
LOOK = 1.0  # seconds between two looks at whether the process still lives


class Ended(Exception):
    """The process has closed its pipe."""


class Isolated:
    """One warm process, seen from the child that owns it."""

    def __init__(self) -> None:
        theirs, self._requests = os.pipe()
        self._answers, back = os.pipe()
        self.process = boot.spawn(
            "orchestrator.worker.isolated",
            [str(os.getpid()), str(theirs), str(back)],
            (theirs, back),
            start_new_session=True,
        )
        os.close(theirs)
        os.close(back)
        self._lock = threading.Lock()
        self._work: Work | None = None
        self._ready = False

    def execute(self, work: Work) -> Result:
        """Have it executed; the process is of no further use when `usable` is false."""
        try:
            if not self._ready:
                self._read(START_TIMEOUT)
                self._ready = True
            with self._lock:
                self._work = work
            if work.cancelled:
                return execute.cancelled(work)
            work.started = monotonic()
            write(self._requests, _request(work))
            answer = self._read(work.timeout)
        except TimeoutError:
            self.kill()
            work.timed_out = True
            return execute.timed_out(work)
        except (Ended, OSError):
            code = self.kill()
            if work.cancelled:
                return execute.cancelled(work)
            return execute.lost(work, boot.exit_text(code))
        finally:
            with self._lock:
                self._work = None
        return _result(work, answer)

    @property
    def usable(self) -> bool:
        """Whether it can take another task."""
        return self._requests >= 0 and self.process.poll() is None

    def kill_while(self, work: Work) -> None:
        """Kill it if it is executing just this work."""
        with self._lock:
            if self._work is work:
                self._signal()

    def kill(self) -> int | None:
        """End it with all that it started; how it ended."""
        with contextlib.suppress(Exception):
            # A moment for a process that is ending by itself to say how.
            self.process.wait(0.05)
        self._signal()
        code = self.process.wait()
        for descriptor in (self._requests, self._answers):
            if descriptor >= 0:
                os.close(descriptor)
        self._requests = self._answers = -1
        return code

    def _signal(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _read(self, timeout: float | None) -> Any:
        deadline = None if timeout is None else monotonic() + timeout
        return read(self._answers, deadline, self.process)


class IsolatedPool:
    """The warm processes of one child; any of its threads may use it."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._idle: list[Isolated] = []

    def run(self, work: Work) -> Result:
        """Execute in a process of its own; blocks this slot's thread meanwhile."""
        process = self._take()
        work.handle = process
        self._board.note_group(work.slot, process.process.pid)
        try:
            result = process.execute(work)
        finally:
            self._board.note_group(work.slot, 0)
            work.handle = None
        if process.usable:
            self._idle.append(process)
        return result

    def _take(self) -> Isolated:
        while self._idle:
            try:
                process = self._idle.pop()
            except IndexError:
                break
            if process.usable:
                return process
            process.kill()
        return Isolated()


def write(descriptor: int, message: Any) -> None:
    """Send one frame."""
    body = json.dumps(message).encode()
    data = memoryview(_LENGTH.pack(len(body)) + body)
    while data:
        data = data[os.write(descriptor, data) :]


def read(
    descriptor: int,
    deadline: float | None = None,
    process: subprocess.Popen[bytes] | None = None,
) -> Any:
    """Receive one frame by `deadline` (monotonic seconds).

    Raises Ended where the other side has closed or `process` has ended, TimeoutError
    after the deadline.
    """
    length = _read_exactly(descriptor, _LENGTH.size, deadline, process)
    return json.loads(
        _read_exactly(descriptor, _LENGTH.unpack(length)[0], deadline, process)
    )


def _read_exactly(
    descriptor: int,
    size: int,
    deadline: float | None,
    process: subprocess.Popen[bytes] | None,
) -> bytes:
    data = bytearray()
    while len(data) < size:
        _await_readable(descriptor, deadline, process)
        part = os.read(descriptor, size - len(data))
        if not part:
            raise Ended
        data += part
    return bytes(data)


def _await_readable(
    descriptor: int,
    deadline: float | None,
    process: subprocess.Popen[bytes] | None,
) -> None:
    while process is not None or deadline is not None:
        ended = process is not None and process.poll() is not None
        left = LOOK if deadline is None else min(LOOK, deadline - monotonic())
        if select.select([descriptor], [], [], 0 if ended else max(0.0, left))[0]:
            return
        if ended:
            raise Ended  # a grandchild still holds the pipe open
        if deadline is not None and monotonic() >= deadline:
            raise TimeoutError


def _request(work: Work) -> dict[str, Any]:
    return {
        "claim": [str(v) if isinstance(v, UUID) else v for v in work.claim],
        "workflow": work.shape.workflow,
        "shape": dict(work.shape.data),
        "parents": {name: list(output) for name, output in work.parents.items()},
        "worker_id": str(work.worker_id) if work.worker_id else None,
    }


def _work(request: dict[str, Any]) -> Work:
    from orchestrator import registry

    task_run_id, run_id, *rest = request["claim"]
    claim = Claim(UUID(task_run_id), UUID(run_id), *rest)
    worker_id = request["worker_id"]
    return execute.start(
        claim,
        registry.task(claim.task_id),
        Shape.build(request["workflow"], request["shape"]),
        {name: ParentOutput(*output) for name, output in request["parents"].items()},
        UUID(worker_id) if worker_id else None,
    )


def _answer(result: Result) -> dict[str, Any]:
    return {
        "outcome": result.outcome.value,
        "output": result.output,
        "error": result.error,
        "reason": result.reason,
        "final": result.final,
        "retry_in": result.retry_in.total_seconds() if result.retry_in else None,
        "started": result.started,
        "finished": result.finished,
    }


def _result(work: Work, answer: dict[str, Any]) -> Result:
    delay = answer.pop("retry_in")
    return Result(
        work.claim,
        AttemptOutcome(answer.pop("outcome")),
        retry_in=None if delay is None else timedelta(seconds=delay),
        **answer,
    )


def main(parent: str, requests: str, answers: str) -> None:
    """Serve tasks until the pipe closes."""
    boot.die_with(int(parent))
    incoming, outgoing = int(requests), int(answers)
    for descriptor in (incoming, outgoing):
        os.set_inheritable(descriptor, False)
    boot.set_up_django()
    hygiene.install()
    opened = hygiene.adopt_thread()
    write(outgoing, "ready")
    while True:
        try:
            request = read(incoming)
        except (Ended, OSError):
            os._exit(0)
        work = _work(request)
        result = copy_context().run(execute.run_sync, work)
        hygiene.tidy(opened)
        write(outgoing, _answer(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
