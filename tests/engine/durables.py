"""What a durable function asks for, made by hand."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import UUID

from orchestrator import ids
from orchestrator.engine.claim import Claim
from orchestrator.engine.settle import Result
from orchestrator.engine.shapes import Shape
from orchestrator.engine.spawn import Child
from orchestrator.engine.waits import Request
from orchestrator.states import AttemptOutcome, EntryKind
from tests.engine.lab import Hand, Lab, task

RETRY = {"attempts": 3, "initial": 0, "factor": 2, "max": 1, "jitter": False}


def durable_shape(lab: Lab, name: str = "durable", **options: Any) -> Shape:
    """A workflow of one durable task."""
    node = task(name, durable=True, retries=RETRY, **options)
    return lab.shape(name, node, standalone=True)


def request(
    claim: Claim,
    position: int = 1,
    *,
    group: int | None = None,
    seconds: float | None = None,
    event: str | None = None,
    child: Child | None = None,
    condition: dict[str, Any] | None = None,
    recorded: bool = False,
    snapshot: str | None = None,
) -> Request:
    """One call: a sleep, an event, a child or a condition."""
    kind, asked = EntryKind.WAIT, f"sleep {seconds}"
    if seconds is not None:
        condition = {"kind": "sleep", "seconds": seconds}
    elif event is not None:
        condition = {"kind": "event", "key": event, "expression": "true"}
    if child is not None:
        kind, asked = EntryKind.CHILD, f"run {child.run_id}"
    elif seconds is None:
        asked = "wait " + json.dumps(condition)
    return Request(
        claim.task_run_id,
        claim.run_id,
        1,
        claim.attempt,
        position,
        position if group is None else group,
        kind,
        "",
        asked,
        time.monotonic(),
        recorded,
        condition,
        None,
        child,
        snapshot,
    )


def child_of(claim: Claim, shape: Shape, key: str | int = 0) -> Child:
    """A child of the claimed task run."""
    run_id = ids.child_run_id(claim.task_run_id, key)
    return Child(run_id, claim.task_run_id, shape.version_id, "null")


def suspended(claim: Claim, *requests: Request) -> Result:
    """The result of an attempt that waits for these."""
    now = time.monotonic()
    outcome = AttemptOutcome.SUSPENDED
    return Result(claim, outcome, now - 0.1, now, final=False, waits=requests)


def suspend(hand: Hand, claim: Claim, *requests: Request) -> None:
    """Report it."""
    exchanged = hand.exchange([suspended(claim, *requests)])
    assert exchanged.accepted == 1


def entries(lab: Lab, run_id: UUID) -> list[tuple[Any, ...]]:
    """Position, output, error and whether it is over, of a run's single task run."""
    return lab.rows(
        "SELECT position, output, error, completed_at IS NOT NULL"
        " FROM orchestrator_journal_entry WHERE task_run_id = %s ORDER BY position",
        ids.task_run_id(run_id, 0),
    )


def pushed(key: str) -> str:
    """An event as `engine.push` takes it."""
    return json.dumps(
        {
            "key": key,
            "scope": "",
            "payload": None,
            "metadata": {},
            "tenant": "",
            "priority": None,
        }
    )
