"""Isolated execution: a process for one task at a time, killed when it must end.

The process is warm: it has loaded the project and waits for its next task. Requests and
answers are JSON in frames over two pipes; what the task says comes in between. When it
ends without an answer, the attempt is LOST, charged to the budget for lost workers, and
says how the process ended. A task that is cancelled gets a SIGTERM, which raises
TaskCancelled in it, and a second later its process is killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from contextvars import copy_context
from datetime import timedelta
from time import monotonic
from typing import Any
from uuid import UUID

from orchestrator import lifespans, voices
from orchestrator.engine import sessions, waits
from orchestrator.engine.claim import Claim
from orchestrator.engine.outputs import ParentOutput
from orchestrator.engine.says import More
from orchestrator.engine.settle import Result
from orchestrator.engine.shapes import Shape
from orchestrator.exceptions import TaskCancelled
from orchestrator.hosts import Host
from orchestrator.states import AttemptOutcome
from orchestrator.worker import boot, execute, hygiene, pipes
from orchestrator.worker.board import Board
from orchestrator.worker.execute import Work
from orchestrator.worker.pipes import Ended, Pipe, read, write
from orchestrator.worker.slots import LINGER

logger = logging.getLogger("orchestrator")

START_TIMEOUT = 120.0  # seconds for a process to load the project
LEAVE = 5.0  # seconds for a process to tear down its lifespan


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
        self._kill_at: float | None = None
        self._ready = False

    def execute(self, work: Work) -> Result:
        """Have it executed; the process is of no further use when `usable` is false."""
        try:
            if not self._ready:
                started_by = monotonic() + START_TIMEOUT
                read(self._answers, lambda: started_by, self.process)
                self._ready = True
            with self._lock:
                self._work = work
                self._kill_at = None
            if work.cancelled:
                return execute.cancelled(work)
            work.started = monotonic()
            write(self._requests, _request(work))
            answer = self._listen(work)
        except TimeoutError:
            self.kill()
            if work.cancelled:
                return execute.cancelled(work)
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
        if self._stopped():
            self.kill()  # with the programs that it has left behind
        return _result(work, answer)

    def _stopped(self) -> bool:
        return self._kill_at is not None

    def _listen(self, work: Work) -> Any:
        """Pass on what the task says, until its answer."""

        def deadline() -> float | None:
            over = None if work.timeout is None else work.started + work.timeout
            stopped = self._kill_at
            if over is None or stopped is None:
                return stopped if over is None else over
            return min(over, stopped)

        while True:
            frame = read(self._answers, deadline, self.process)
            if "said" not in frame:
                return frame
            kind, item = pipes.heard(frame)
            if isinstance(item, More) and work.timeout is not None:
                work.timeout += item.seconds
            getattr(work.host.outlet, kind)(item)

    @property
    def usable(self) -> bool:
        """Whether it can take another task."""
        return self._requests >= 0 and self.process.poll() is None

    def stop_while(self, work: Work) -> None:
        """Ask it to end, if it is executing just this work, and soon kill it."""
        with self._lock:
            if self._work is work and self._kill_at is None:
                self._kill_at = monotonic() + LINGER
                with contextlib.suppress(ProcessLookupError):
                    self.process.send_signal(signal.SIGTERM)

    def leave(self) -> None:
        """Let it end by itself: there are no more tasks for it."""
        os.close(self._requests)
        self._requests = -1

    def kill(self, patience: float = 0.05) -> int | None:
        """End it with all that it started; how it ended."""
        with contextlib.suppress(Exception):
            # A moment for a process that is ending by itself to say how.
            self.process.wait(patience)
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

    def close(self) -> None:
        """Let idle processes end, with their lifespans; kill what takes too long."""
        processes, self._idle = self._idle, []
        for process in processes:
            process.leave()
        for process in processes:
            process.kill(LEAVE)

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


def _request(work: Work) -> dict[str, Any]:
    return {
        "claim": [str(v) if isinstance(v, UUID) else v for v in work.claim],
        "workflow": work.shape.workflow,
        "shape": dict(work.shape.data),
        "parents": {name: list(output) for name, output in work.parents.items()},
        "worker_id": str(work.host.worker_id) if work.host.worker_id else None,
        "labels": work.host.labels,
    }


def _work(request: dict[str, Any], host: Host) -> Work:
    from orchestrator import registry

    fields = dict(zip(Claim._fields, request["claim"], strict=True))
    for name in ("task_run_id", "run_id", "event_id"):
        fields[name] = fields[name] and UUID(fields[name])
    claim = Claim(**fields)
    host.worker_id = request["worker_id"] and UUID(request["worker_id"])
    host.labels = request["labels"]
    return execute.start(
        claim,
        registry.task(claim.task_id),
        Shape.build(request["workflow"], request["shape"]),
        {name: ParentOutput(*output) for name, output in request["parents"].items()},
        host,
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
        "waits": None if result.waits is None else waits.dump(result.waits),
    }


def _result(work: Work, answer: dict[str, Any]) -> Result:
    delay = answer.pop("retry_in")
    awaited = answer.pop("waits")
    return Result(
        work.claim,
        AttemptOutcome(answer.pop("outcome")),
        retry_in=None if delay is None else timedelta(seconds=delay),
        waits=None if awaited is None else waits.load(awaited),
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
    voices.install()
    opened = hygiene.adopt_thread()
    pipe = Pipe(outgoing)
    background = lifespans.Background()
    lifespan = lifespans.enter(background.submit)
    pipe.send("ready")
    told = Told()
    signal.signal(signal.SIGTERM, told.receive)
    while True:
        try:
            request = read(incoming)
        except (Ended, OSError):
            break
        work = _work(request, Host(outlet=pipe, lifespan=lifespan.value))
        execute.load_journals(sessions.django_session(), [work])
        result = told.execute(work)
        hygiene.tidy(opened)
        pipe.send(_answer(result))
    code = 1
    try:
        lifespan.close()
        code = 0
    finally:
        os._exit(code)


class Told:
    """What SIGTERM does: it ends the task at hand, and nothing else."""

    def __init__(self) -> None:
        self.work: Work | None = None

    def execute(self, work: Work) -> Result:
        """Execute a task that may be told to end."""
        self.work = work
        try:
            return copy_context().run(execute.run_sync, work)
        except BaseException as error:
            return execute.failed(work, error)
        finally:
            self.work = None

    def receive(self, number: int, frame: Any) -> None:
        """Raise TaskCancelled in the task, as soon as it executes Python."""
        work = self.work
        if work is not None and not work.cancelled:
            work.cancelled = True
            work.stop()
            raise TaskCancelled


if __name__ == "__main__":
    main(*sys.argv[1:])
