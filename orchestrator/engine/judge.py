"""Judge: which of the task runs that wait are executed, skipped or cancelled.

Settles and whoever satisfies a condition say that there is something to look at; what
follows from it is decided here alone. Durable task runs that are suspended are not
among them: `resume` looks at those.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.conditions import EventCondition, SleepCondition
from orchestrator.engine import cases, notify
from orchestrator.engine.cases import Case
from orchestrator.engine.claim import Claim
from orchestrator.engine.decide import Action, Decision, Key, leaves
from orchestrator.engine.expire import NOBODY
from orchestrator.engine.leases import Held
from orchestrator.engine.sessions import Session, array, statements, uuids
from orchestrator.engine.settle import Result, settle
from orchestrator.states import AttemptOutcome, ConditionKind

BATCH = 500

# The slot of what has a task run looked at again once there was a look back for it.
PEEK: Key = ("peek", 0)

Decided = tuple[Case, Decision]


def judge(session: Session, limit: int = BATCH) -> int:
    """Decide about task runs that wait, in a durable transaction; about how many.

    Locks their runs in id order and leaves those that are locked elsewhere.
    """
    with session.transaction():
        found = cases.find(session, limit)
        if found is None:
            return 0
        waiting, stray = found
        decided = cases.decisions(session, waiting)
        _hold(session, [d for d in decided if d[0].fresh and _stays(d)])
        seen = [case for case, decision in decided if _is_seen(case, decision)]
        marked = [*stray, *(key for case in seen for key in case.unjudged)]
        if marked:
            params = {"judged": array(marked)}
            session.send(statements("judge")["judged"], params)
        over = [case for case, decision in decided if not _stays((case, decision))]
        if over:
            params = {"task_run_ids": uuids(case.task_run_id for case in over)}
            session.send(statements("judge")["decided"], params)
        _run(session, [case for case, d in decided if d.action is Action.RUN])
        ended = (Action.SKIP, Action.CANCEL)
        _end(session, [d for d in decided if d[1].action in ended])
    return len(over) + len(seen) + len(stray)


def _stays(decided: Decided) -> bool:
    return decided[1].action in (Action.HOLD, Action.PEEK)


def _is_seen(case: Case, decision: Decision) -> bool:
    """Whether it needs no look before something else comes true.

    What waits for a look back stays to be looked at.
    """
    return _stays((case, decision)) and (case.fresh or decision.action is Action.HOLD)


def _hold(session: Session, held: Sequence[Decided]) -> None:
    if not held:
        return
    params = {
        "task_run_ids": uuids(case.task_run_id for case, _ in held),
        "started": uuids(case.task_run_id for case, _ in held if case.started),
        "conditions": json.dumps([row for each in held for row in _rows(*each)]),
    }
    session.send(statements("judge")["hold"], params)


def _rows(case: Case, decision: Decision) -> Iterator[dict[str, Any]]:
    """What is waited for; that of parents is known already."""
    common = {"key": "", "scope": "", "expression": ""}
    for (slot, number), leaf in leaves(case.conditions).items():
        row: dict[str, Any] = {"task_run_id": str(case.task_run_id), **common}
        row |= {"slot": slot, "leaf": number}
        if isinstance(leaf, SleepCondition):
            seconds = leaf.duration.total_seconds()
            yield row | {"kind": ConditionKind.SLEEP.value, "seconds": seconds}
        elif isinstance(leaf, EventCondition):
            yield row | {
                "kind": ConditionKind.EVENT.value,
                "key": leaf.key,
                "scope": leaf.scope or "",
                "expression": leaf.expression,
                "lookback": leaf.lookback and leaf.lookback.total_seconds(),
            }
    if decision.action is Action.PEEK:
        yield {
            "task_run_id": str(case.task_run_id),
            **common,
            "slot": PEEK[0],
            "leaf": PEEK[1],
            "kind": ConditionKind.SLEEP.value,
            "satisfied": True,
        }


def _run(session: Session, released: Sequence[Case]) -> None:
    if released:
        params = {"task_run_ids": uuids(case.task_run_id for case in released)}
        rows = session.fetch(statements("judge")["run"], params)
        notify.wake(session, {row[0] for row in rows})


def _end(session: Session, ended: Sequence[Decided]) -> None:
    """End them as if an attempt had, with all that follows; there is none on record."""
    if not ended:
        return
    known = {case.task_run_id: (case, decision) for case, decision in ended}
    params = {"task_run_ids": uuids(known), "worker_id": NOBODY}
    now = time.monotonic()
    results = []
    for row in session.fetch(statements("judge")["end"], params):
        held = Held(*row)
        case, decision = known[held.task_run_id]
        skipped = decision.action is Action.SKIP
        outcome = AttemptOutcome.COMPLETED if skipped else AttemptOutcome.CANCELLED
        results.append(
            Result(
                _claim(held, case),
                outcome,
                now,
                now,
                reason=decision.reason,
                executed=False,
                skipped=skipped,
            )
        )
    if results:
        settled = settle(session, NOBODY, results)
        notify.wake(session, settled.queues)


def _claim(held: Held, case: Case) -> Claim:
    return Claim(
        task_run_id=held.task_run_id,
        run_id=held.run_id,
        task_id=held.task_id,
        queue_id=held.queue_id,
        attempt=held.attempt,
        failures=held.failures,
        losses=held.losses,
        version_id=case.shape.version_id,
        priority=0,
        tenant="",
        metadata="{}",
        input="null",
    )
