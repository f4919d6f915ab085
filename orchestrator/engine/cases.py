"""Cases: the task runs that wait for a decision, with all that it depends on."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from orchestrator import ids
from orchestrator.conditions import Condition, ParentCondition
from orchestrator.engine import facts, versions
from orchestrator.engine.decide import Decision, Key, Situation, decide, handle, trees
from orchestrator.engine.outputs import ParentOutput
from orchestrator.engine.sessions import Row, Session, array, statements, uuids
from orchestrator.engine.shapes import Shape, TaskShape
from orchestrator.exceptions import InvalidDefinition

logger = logging.getLogger("orchestrator")

PATIENCE = 1.0  # seconds after which no further expressions are evaluated

START = "start"  # the slot of the time before which a run is not to start


@dataclass
class Case:
    """One task run that waits. `unjudged` are conditions that nobody has looked at
    since they came true; `unchecked`: some are still to be looked back for."""

    task_run_id: UUID
    run_id: UUID
    shape: Shape
    task: TaskShape
    conditions: dict[str, Condition]
    remaining: int
    satisfied: dict[Key, bool] = field(default_factory=dict)
    unjudged: list[int] = field(default_factory=list)
    unchecked: bool = False
    started: bool = False

    @property
    def fresh(self) -> bool:
        """Whether it opened just now, so that its conditions are not written yet."""
        return self.remaining <= 0 or self.started


def find(session: Session, limit: int) -> tuple[list[Case], list[int]] | None:
    """Lock the runs of those that are to be looked at, and read them.

    Returns them, and the ids of satisfied conditions that nobody waits for; None where
    there is nothing to look at.
    """
    steps = statements("judge")
    rows = session.fetch(steps["find"], {"limit": limit})
    if not rows:
        return None
    params = {"task_run_ids": uuids(row[0] for row in rows)}
    waits = {row[0]: row[1:] for row in session.fetch(steps["waits"], params)}
    cases: dict[UUID, Case] = {}
    for task_run_id, run_id, version_id in rows:
        shape = versions.shape(session, version_id)
        task_id, remaining = waits.get(task_run_id, (None, 0))
        task = None if shape is None or task_id is None else shape.task(task_id)
        if shape is None or task is None:
            continue
        try:
            conditions = _trees(version_id, task)
        except InvalidDefinition as error:
            # Of another release: it must not stand in others' way.
            logger.error('Task "%s" cannot be judged: %s', task.name, error)
            continue
        cases[task_run_id] = Case(
            task_run_id, run_id, shape, task, conditions, remaining
        )
    stray: list[int] = []
    for row in session.fetch(steps["conditions"], params):
        case = cases.get(row[1])
        if case is not None:
            _note(case, row)
        elif row[1] not in waits:
            stray.append(row[0])
    return list(cases.values()), stray


def _note(case: Case, row: Row) -> None:
    condition_id, _, slot, leaf, checked, satisfied, judged = row
    if not checked:
        case.unchecked = True
    if satisfied:
        case.satisfied[slot, leaf] = True
        if not judged:
            case.unjudged.append(condition_id)
            case.started = case.started or slot == START


def decisions(session: Session, cases: Sequence[Case]) -> list[tuple[Case, Decision]]:
    """What is to be done with each of them; those beyond a second are left out.

    Where outputs or inputs are asked for, so many are read at once as fit into memory.
    """
    until = time.monotonic() + PATIENCE
    size = facts.MOST if any(_asks(case) for case in cases) else len(cases)
    found: list[tuple[Case, Decision]] = []
    for start in range(0, len(cases), max(1, size)):
        some = cases[start : start + size]
        found += zip(some, _decisions(session, some), strict=True)
        if time.monotonic() > until:
            break
    return found


def _decisions(session: Session, cases: Sequence[Case]) -> list[Decision]:
    parents = _parents(session, cases)
    known = facts.of_runs(session, {c.run_id for c in cases if facts.wants(_asks(c))})
    handlers = {case.run_id for case in cases if case.task.handles}
    counts: dict[UUID, tuple[int, int]] = {}
    if handlers:
        rows = session.fetch(
            statements("judge")["counts"], {"run_ids": uuids(handlers)}
        )
        counts = {run_id: (failed, remaining) for run_id, remaining, failed in rows}
    found = []
    for case in cases:
        name = case.task.name
        if case.task.handles:
            found.append(handle(name, *counts.get(case.run_id, (0, 1))))
            continue
        now = Situation(
            parents={
                case.shape.tasks[ordinal].name: parents[key]
                for ordinal, key in _parent_ids(case)
            },
            satisfied=case.satisfied,
            facts=known.get(case.run_id, {"run_id": str(case.run_id)}),
            peeked=not (case.fresh or case.unchecked),
        )
        found.append(decide(name, case.conditions, now))
    return found


def _parents(session: Session, cases: Iterable[Case]) -> dict[UUID, ParentOutput]:
    wanted: dict[UUID, bool] = {}
    for case in cases:
        named = {
            leaf.parent_name for leaf in _of_parents(case) if leaf.expression != "true"
        }
        for ordinal, key in _parent_ids(case):
            name = case.shape.tasks[ordinal].name
            wanted[key] = wanted.get(key, False) or name in named
    if not wanted:
        return {}
    params = {"parent_ids": uuids(wanted), "wanted": array(wanted.values())}
    rows = session.fetch(statements("judge")["parents"], params)
    return {key: ParentOutput(status, output) for key, status, output in rows}


def _parent_ids(case: Case) -> list[tuple[int, UUID]]:
    return [(n, ids.task_run_id(case.run_id, n)) for n in case.task.parents]


def _of_parents(case: Case) -> list[ParentCondition]:
    return [
        leaf
        for tree in case.conditions.values()
        for leaf in tree.leaves()
        if isinstance(leaf, ParentCondition)
    ]


def _asks(case: Case) -> list[str]:
    """The expressions that are to be evaluated."""
    found = [leaf.expression for leaf in _of_parents(case)]
    return [expression for expression in found if expression != "true"]


_known: dict[tuple[int, int], dict[str, Any]] = {}


def _trees(version_id: int, task: TaskShape) -> dict[str, Condition]:
    key = (version_id, task.ordinal)
    if key not in _known:
        _known[key] = trees(task)
    return _known[key]
