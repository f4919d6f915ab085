"""Outputs: what a claimed task's parents returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from orchestrator import ids
from orchestrator.engine import versions
from orchestrator.engine.claim import Claim
from orchestrator.engine.sessions import Session, array, statements


class ParentOutput(NamedTuple):
    """How one parent ended: its status, and its output as a JSON text or None."""

    status: str
    output: str | None


def parent_outputs(
    session: Session, claims: Sequence[Claim]
) -> dict[UUID, dict[str, ParentOutput]]:
    """By task run id, the outputs of the direct parents by name; one statement.

    Claims of tasks without parents are not among the keys.
    """
    wanted: dict[UUID, list[tuple[str, UUID]]] = {}
    for claim in claims:
        shape = versions.shape(session, claim.version_id)
        node = shape.task(claim.task_id) if shape else None
        if shape is None or node is None or not node.parents:
            continue
        wanted[claim.task_run_id] = [
            (shape.tasks[ordinal].name, ids.task_run_id(claim.run_id, ordinal))
            for ordinal in node.parents
        ]
    if not wanted:
        return {}
    keys = {key for parents in wanted.values() for _, key in parents}
    rows = session.fetch(
        statements("outputs")["outputs"],
        {"task_run_ids": array(keys), "low": min(keys), "high": max(keys)},
    )
    ended = {row[0]: ParentOutput(row[1], row[2]) for row in rows}
    return {
        task_run_id: {name: ended[key] for name, key in parents if key in ended}
        for task_run_id, parents in wanted.items()
    }
