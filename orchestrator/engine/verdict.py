"""Verdict: whether a failed or lost attempt is followed by another one."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.conf import settings
from orchestrator.engine.claim import Claim
from orchestrator.engine.settle import Result
from orchestrator.engine.shapes import TaskShape
from orchestrator.states import AttemptOutcome


def failed(
    claim: Claim,
    task: TaskShape,
    error: dict[str, str],
    *,
    started: float,
    finished: float,
    outcome: AttemptOutcome = AttemptOutcome.FAILED,
    retryable: bool = True,
) -> Result:
    """The result of an attempt that failed, by the task's own retry policy."""
    again = retryable and claim.failures < task.retries.attempts
    return Result(
        claim,
        outcome,
        started,
        finished,
        error=_text(error),
        reason="" if again else _reason(task, error),
        final=not again,
        retry_in=task.retries.delay(claim.failures + 1) if again else None,
    )


def timed_out(
    claim: Claim, task: TaskShape, *, started: float, finished: float
) -> Result:
    """The result of an attempt that exceeded its execution timeout: a failure."""
    seconds = f"{task.execution_timeout or 0:g}"
    error = {
        "type": "orchestrator.exceptions.TaskTimedOut",
        "message": f"The task exceeded its execution timeout of {seconds} s.",
        "traceback": "",
    }
    return failed(
        claim,
        task,
        error,
        started=started,
        finished=finished,
        outcome=AttemptOutcome.TIMED_OUT,
    )


def lost(
    claim: Claim,
    task: TaskShape,
    detail: str,
    *,
    started: float,
    finished: float,
) -> Result:
    """The result of an attempt whose worker died, by the budget for lost workers."""
    again = claim.losses < settings.lost_budget
    error = {
        "type": "orchestrator.exceptions.WorkerLost",
        "message": detail,
        "traceback": "",
    }
    return Result(
        claim,
        AttemptOutcome.LOST,
        started,
        finished,
        error=_text(error),
        reason="" if again else _reason(task, error),
        final=not again,
    )


def _reason(task: TaskShape, error: dict[str, str]) -> str:
    name = error["type"].rpartition(".")[2]
    line = error["message"].strip().split("\n", 1)[0][:200]
    return f'Task "{task.name}" failed: {name}' + (f": {line}" if line else "")


def _text(error: dict[str, Any]) -> str:
    return json.dumps(error)
