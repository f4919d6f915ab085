"""Waits: what durable functions wait for, as journal entries and conditions."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator import ids
from orchestrator.conditions import EventCondition, SleepCondition, from_dict
from orchestrator.engine import failpoints, spawn
from orchestrator.engine.journal import Fence
from orchestrator.engine.sessions import Session, array, statements, uuids
from orchestrator.engine.spawn import Child
from orchestrator.exceptions import LeaseLost
from orchestrator.states import ConditionKind, EntryKind

CHUNK = 1_000  # requests a statement


class Request(NamedTuple):
    """One durable call that has to wait.

    `group` is the position of the awaiting call, which may wait for several entries.
    `called` is its `time.monotonic()`; `recorded`: it is in the journal already. It
    waits for a `child`, until a time, or for a `condition` (as data); `snapshot` is
    what had committed then, for one with events.
    """

    task_run_id: UUID
    run_id: UUID
    branch: int
    attempt: int
    position: int
    group: int
    kind: EntryKind
    name: str
    asked: str
    called: float
    recorded: bool
    condition: Mapping[str, Any] | None = None
    until: datetime | None = None
    child: Child | None = None
    snapshot: str | None = None

    @property
    def entry_id(self) -> UUID:
        """The id of its journal entry."""
        return ids.journal_id(self.task_run_id, self.branch, self.position)


class Leaf(NamedTuple):
    """One condition of a request."""

    request: Request
    number: int
    kind: ConditionKind
    key: str = ""
    scope: str = ""
    expression: str = ""
    lookback: float | None = None
    sleep: float | None = None
    checked: bool = False

    @property
    def early(self) -> bool:
        """Whether it may have come true already."""
        return not self.checked or self.kind == ConditionKind.SLEEP


def hold(session: Session, fence: Fence, requests: Sequence[Request]) -> None:
    """Write what a function waits for while it keeps its slot.

    Joins the caller's transaction. Raises LeaseLost.
    """
    with session.joined():
        lease = {
            "task_run_id": fence.task_run_id,
            "attempt": fence.attempt,
            "worker_id": fence.worker_id,
        }
        if not session.fetch(statements("waits")["fence"], lease):
            raise LeaseLost
        write(session, requests)


def write(session: Session, requests: Sequence[Request]) -> bool:
    """Write entries, conditions and child runs, in the caller's transaction.

    What is there already stays: entries, children, and groups that have conditions.
    Returns whether one of the conditions may have come true before: `tend` finds out.
    """
    steps = statements("waits")
    made: set[UUID] = set()
    children = [request.child for request in requests if request.child is not None]
    for some in _chunks(children):
        made |= spawn.spawn(session, some)
    for part in _chunks([r for r in requests if not r.recorded]):
        session.send(steps["entries"], _entries(part))
    there = open_groups(session, [r for r in requests if r.recorded])
    leaves = [
        leaf
        for request in requests
        if (request.task_run_id, request.group) not in there
        for leaf in _leaves(request, made)
    ]
    for some_leaves in _chunks(leaves):
        session.send(steps["conditions"], _conditions(some_leaves))
    failpoints.hit("waits.written")
    return any(leaf.early for leaf in leaves)


def snapshot(session: Session) -> str:
    """What has committed by now, to know which events come later."""
    text: str = session.fetch(statements("waits")["snapshot"], {})[0][0]
    return text


def open_groups(
    session: Session, requests: Collection[Request]
) -> set[tuple[UUID, int]]:
    """Of the groups that requests belong to, by task run, those still to come true."""
    return open_among(session, {(r.task_run_id, r.group) for r in requests})


def open_among(
    session: Session, wanted: Collection[tuple[UUID, int]]
) -> set[tuple[UUID, int]]:
    """Of groups, by task run, those that have conditions still to come true."""
    groups = sorted(wanted)
    if not groups:
        return set()
    params = {
        "waiting": uuids(task_run_id for task_run_id, _ in groups),
        "waiting_groups": array(group for _, group in groups),
    }
    rows = session.fetch(statements("waits")["open"], params)
    return {(task_run_id, group) for task_run_id, group in rows}


ASKED_WAIT = "wait "


def condition_of(asked: str) -> dict[str, Any] | None:
    """The condition that an entry asked for; None where it was a time alone."""
    if not asked.startswith(ASKED_WAIT):
        return None
    condition: dict[str, Any] = json.loads(asked.removeprefix(ASKED_WAIT))
    return condition


def _chunks(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def _leaves(request: Request, made: Collection[UUID]) -> Iterator[Leaf]:
    if request.child is not None:
        # Nobody can have seen the end of one that was made in this transaction.
        new = request.child.run_id in made
        yield Leaf(request, 0, ConditionKind.CHILD, checked=new)
        return
    if request.condition is None:
        yield Leaf(request, 0, ConditionKind.SLEEP, checked=True)
        return
    for number, leaf in enumerate(from_dict(request.condition).leaves()):
        if isinstance(leaf, SleepCondition):
            seconds = leaf.duration.total_seconds()
            yield Leaf(
                request, number, ConditionKind.SLEEP, sleep=seconds, checked=True
            )
        elif isinstance(leaf, EventCondition):
            yield Leaf(
                request,
                number,
                ConditionKind.EVENT,
                key=leaf.key,
                scope=leaf.scope or "",
                expression=leaf.expression,
                lookback=None
                if leaf.lookback is None
                else leaf.lookback.total_seconds(),
            )


def _entries(requests: Sequence[Request]) -> dict[str, Any]:
    now = time.monotonic()
    return {
        "entry_ids": uuids(r.entry_id for r in requests),
        "task_run_ids": uuids(r.task_run_id for r in requests),
        "branches": array(r.branch for r in requests),
        "positions": array(r.position for r in requests),
        "kinds": [r.kind.value for r in requests],
        "names": [r.name for r in requests],
        "asked": [r.asked for r in requests],
        "attempts": array(r.attempt for r in requests),
        "child_run_ids": array(r.child and r.child.run_id for r in requests),
        "ages": array(max(0.0, now - r.called) for r in requests),
    }


def _conditions(leaves: Sequence[Leaf]) -> dict[str, Any]:
    requests = [leaf.request for leaf in leaves]
    return {
        "entry_ids": uuids(r.entry_id for r in requests),
        "run_ids": uuids(r.run_id for r in requests),
        "task_run_ids": uuids(r.task_run_id for r in requests),
        "groups": array(r.group for r in requests),
        "untils": [r.until for r in requests],
        "child_run_ids": array(r.child and r.child.run_id for r in requests),
        "leaves": array(leaf.number for leaf in leaves),
        "kinds": [leaf.kind.value for leaf in leaves],
        "keys": [leaf.key for leaf in leaves],
        "scopes": [leaf.scope for leaf in leaves],
        "expressions": [leaf.expression for leaf in leaves],
        "lookbacks": array(leaf.lookback for leaf in leaves),
        "sleeps": array(leaf.sleep for leaf in leaves),
        "checked": array(leaf.checked for leaf in leaves),
        "snapshots": [r.snapshot for r in requests],
    }


def dump(requests: Sequence[Request]) -> list[dict[str, Any]]:
    """Requests as JSON, for a pipe to another process of this machine."""
    dumped = []
    for request in requests:
        data = request._asdict()
        child = request.child
        data["task_run_id"] = str(request.task_run_id)
        data["run_id"] = str(request.run_id)
        data["kind"] = request.kind.value
        data["until"] = request.until and request.until.isoformat()
        data["child"] = child and {
            **child._asdict(),
            "run_id": str(child.run_id),
            "parent": str(child.parent),
            "run_after": child.run_after and child.run_after.isoformat(),
        }
        dumped.append(data)
    return dumped


def load(dumped: Sequence[Mapping[str, Any]]) -> list[Request]:
    """What `dump` made."""
    return [
        Request(
            **{
                **data,
                "task_run_id": UUID(data["task_run_id"]),
                "run_id": UUID(data["run_id"]),
                "kind": EntryKind(data["kind"]),
                "until": _moment(data["until"]),
                "child": data["child"] and _child(data["child"]),
            }
        )
        for data in dumped
    ]


def _child(data: Mapping[str, Any]) -> Child:
    return Child(
        **{
            **data,
            "run_id": UUID(data["run_id"]),
            "parent": UUID(data["parent"]),
            "run_after": _moment(data["run_after"]),
        }
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
