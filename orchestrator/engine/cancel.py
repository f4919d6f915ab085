"""Cancel: end runs now, wherever their task runs are, and the runs below them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from orchestrator import ids
from orchestrator.engine import notify, tree
from orchestrator.engine.sessions import Session, array, statements
from orchestrator.engine.tree import Versions

CHUNK = 1_000  # runs that one round of statements ends


def cancel(
    session: Session, run_ids: Collection[UUID], *, reason: str, children: bool = True
) -> list[UUID]:
    """Cancel those of `run_ids` that have not ended; return their ids.

    Joins the caller's transaction, and may wait for another one that holds a Run.
    Queued work leaves at once. What is being executed ends here and now; its worker is
    told, and whatever it reports later changes nothing.

    With `children`, the open runs below end as well. All that is known of them is
    locked together with `run_ids`, in id order as every verb does; and once nothing of
    a run is being executed, what it spawned meanwhile is looked for.
    """
    with session.joined():
        wanted = set(run_ids)
        if children:
            wanted.update(tree.below(session, tree.open_runs(session, wanted)))
        held = _lock(session, wanted)
        roots = {run_id: held[run_id] for run_id in run_ids if run_id in held}
        below = _below(session, roots, held) if children else {}
        executed = _end(session, roots, reason)
        executed |= _end(session, below, _follows(reason))
        while children and executed:
            # Only what was being executed can have spawned more, until just now.
            late = _lock(session, tree.below(session, roots))
            executed = _end(session, late, _follows(reason))
    return sorted(roots)


def _follows(reason: str) -> str:
    return f"Cancelled with the run that spawned it: {reason}"


def _lock(session: Session, run_ids: Collection[UUID]) -> Versions:
    """Lock those that have not ended, in id order; the version of each."""
    held: Versions = {}
    ordered = sorted(run_ids)
    for start in range(0, len(ordered), CHUNK):
        params = {"run_ids": array(ordered[start : start + CHUNK])}
        held.update(session.fetch(statements("cancel")["lock"], params))
    return held


def _below(session: Session, roots: Versions, held: Versions) -> Versions:
    """The open runs below the roots that are held: those that were locked with them,
    and those that have been spawned since."""
    found = tree.below(session, roots)
    locked = held | _lock(session, found.keys() - held.keys())
    return {run_id: found[run_id] for run_id in found if run_id in locked}


def _end(session: Session, runs: Versions, reason: str) -> bool:
    """End runs that are held; whether anything of them was being executed."""
    executed = False
    members = sorted(runs.items())
    for start in range(0, len(members), CHUNK):
        executed |= _end_chunk(session, members[start : start + CHUNK], reason)
    if executed:
        notify.control(session, "cancel")
    return executed


def _end_chunk(session: Session, runs: Sequence[tuple[UUID, int]], reason: str) -> bool:
    steps = statements("cancel")
    task_runs = [task_run for _, task_run in tree.task_run_ids(session, runs)]
    params: dict[str, object] = {
        "run_ids": array(run_id for run_id, _ in runs),
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
        params["attempt_ids"] = array(ids.attempt_id(row[0], row[1]) for row in leased)
        params["leased_ids"] = array(row[0] for row in leased)
        params["attempts"] = array(row[1] for row in leased)
        params["worker_ids"] = array(row[2] for row in leased)
        session.send(steps["attempts"], params)
    session.send(steps["end"], params)
    if session.fetch(statements("children")["ended"], params):
        notify.tend(session)
    return bool(leased)
