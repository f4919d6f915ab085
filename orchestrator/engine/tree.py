"""Tree: the runs that task runs spawned, and those that theirs did."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from uuid import UUID

from orchestrator import ids
from orchestrator.engine import versions
from orchestrator.engine.sessions import Session, array, statements, uuids

CHUNK = 2_000  # task runs whose children one statement looks for

Versions = dict[UUID, int]  # the version of each run, by the run's id


def open_runs(session: Session, run_ids: Collection[UUID]) -> Versions:
    """Those of the runs that have not ended. Locks nothing."""
    rows = session.fetch(statements("tree")["open"], {"run_ids": array(run_ids)})
    return {row[0]: row[1] for row in rows}


def below(session: Session, roots: Versions) -> Versions:
    """The open runs that task runs of `roots` spawned, and those below them.

    Level by level; also below a child that has ended, whose own children may go on.
    Locks nothing: what another transaction has not committed is not found.
    """
    seen = set(roots)
    found: Versions = {}
    level: Sequence[tuple[UUID, int]] = list(roots.items())
    while level:
        under: list[tuple[UUID, int]] = []
        for run_id, version_id, is_open in _children(session, level):
            if run_id in seen:
                continue
            seen.add(run_id)
            under.append((run_id, version_id))
            if is_open:
                found[run_id] = version_id
        level = under
    return found


def task_run_ids(
    session: Session, runs: Iterable[tuple[UUID, int]]
) -> Iterator[tuple[UUID, UUID]]:
    """Each run's id with that of each of its task runs."""
    for run_id, version_id in runs:
        shape = versions.shape(session, version_id)
        for ordinal in range(len(shape.tasks) if shape else 0):
            yield run_id, ids.task_run_id(run_id, ordinal)


def _children(
    session: Session, runs: Sequence[tuple[UUID, int]]
) -> Iterator[tuple[UUID, int, bool]]:
    owned = list(task_run_ids(session, runs))
    for start in range(0, len(owned), CHUNK):
        part = owned[start : start + CHUNK]
        families = {run_id: ids.family_bounds(run_id) for run_id, _ in part}
        bounds = [families[run_id] for run_id, _ in part]
        params = {
            "parents": uuids(task_run for _, task_run in part),
            "lows": uuids(low for low, _ in bounds),
            "highs": uuids(high for _, high in bounds),
        }
        yield from session.fetch(statements("tree")["children"], params)
