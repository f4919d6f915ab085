"""Cancel: end runs now, wherever their task runs are."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from orchestrator import ids
from orchestrator.engine import notify, versions
from orchestrator.engine.sessions import Session, array, statements


def cancel(session: Session, run_ids: Collection[UUID], *, reason: str) -> list[UUID]:
    """Cancel those of `run_ids` that have not ended; return their ids.

    Joins the caller's transaction, and may wait for another one that holds a Run.
    Queued work leaves at once. What is being executed ends here and now; its worker is
    told, and whatever it reports later changes nothing.
    """
    steps = statements("cancel")
    with session.joined():
        rows = session.fetch(steps["lock"], {"run_ids": array(run_ids)})
        if not rows:
            return []
        task_runs: list[UUID] = []
        for run_id, version_id in rows:
            shape = versions.shape(session, version_id)
            count = len(shape.tasks) if shape else 0
            task_runs += [ids.task_run_id(run_id, n) for n in range(count)]
        params: dict[str, object] = {
            "run_ids": array(row[0] for row in rows),
            "task_run_ids": array(task_runs),
            "reason": reason,
        }
        # In the direction in which task runs move, so that none slips past.
        for step in ("waiting", "conditions", "delayed", "queued"):
            session.send(steps[step], params)
        leased = session.fetch(steps["leased"], params)
        params["claimed"] = [row[3] for row in leased]
        params["leased_runs"] = array(row[4] for row in leased)
        if leased:
            params["attempt_ids"] = array(
                ids.attempt_id(row[0], row[1]) for row in leased
            )
            params["leased_ids"] = array(row[0] for row in leased)
            params["attempts"] = array(row[1] for row in leased)
            params["worker_ids"] = array(row[2] for row in leased)
            session.send(steps["attempts"], params)
            notify.control(session, "cancel")
        session.send(steps["end"], params)
        if session.fetch(statements("children")["ended"], params):
            notify.tend(session)
    return [row[0] for row in rows]
