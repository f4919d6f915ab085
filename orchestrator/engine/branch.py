"""Branch: execute a durable task again from a position of its journal."""

from __future__ import annotations

from uuid import UUID

from orchestrator import ids
from orchestrator.engine import retry, versions
from orchestrator.engine.sessions import Session, array, statements, uuids
from orchestrator.exceptions import IllegalTransition, RunNotFound


def branch(session: Session, run_id: UUID, task: str, position: int) -> None:
    """Reopen an ended run from a position (from 1) of a durable task's journal.

    What is on record before it is kept, the rest is done again, and all tasks that
    depend on this one are executed again, durable ones from their first position. The
    old branch stays on record.

    Joins the caller's transaction, and may wait for another one that holds the Run.
    Raises RunNotFound; IllegalTransition where the run has not ended, the task is not
    a durable one of it, or its journal does not come so far.
    """
    steps = statements("branch")
    with session.joined():
        rows = session.fetch(statements("retry")["lock"], {"run_id": run_id})
        if not rows:
            raise RunNotFound(f"There is no run {run_id}. It may have been dropped.")
        version_id, status, _ = rows[0]
        if status is None:
            raise IllegalTransition(
                f"Run {run_id} has not ended. Wait for its end, or cancel it first."
            )
        shape = versions.shape(session, version_id)
        nodes = {node.name: node for node in shape.tasks} if shape else {}
        node = nodes.get(task)
        if node is None or not node.durable:
            durable = ", ".join(n.name for n in nodes.values() if n.durable)
            raise IllegalTransition(
                f'This run has no durable task "{task}". Its durable tasks are '
                f"{durable or 'none'}."
            )
        task_run_id = ids.task_run_id(run_id, node.ordinal)
        key = {"task_run_id": task_run_id}
        entries = session.fetch(steps["read"], key)
        known = [number for _, number in entries if number is not None]
        if not 1 <= position <= max(known, default=0) + 1:
            raise IllegalTransition(
                f'The journal of "{task}" has {len(known)} entries; give a position '
                f"of 1 to {max(known, default=0) + 1}, not {position}."
            )
        new = entries[0][0] + 1
        kept = [number for number in known if number < position]
        copied = [ids.journal_id(task_run_id, new, number) for number in kept]
        session.send(
            steps["copy"],
            {**key, "entry_ids": uuids(copied), "positions": array(kept)},
        )
        session.send(steps["use"], key)
        retry.retry(session, run_id, tasks=[task], branched=task_run_id)
