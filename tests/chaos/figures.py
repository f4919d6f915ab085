"""The figures of a soak: what was done to it, and how soon it recovered."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from django.db import connection

from tests.chaos.rig import Rig

if TYPE_CHECKING:
    from tests.chaos.storm import Storm

COUNTS = """
    SELECT
        (SELECT count(*) FROM orchestrator_run),
        (SELECT count(*) FROM orchestrator_task_run),
        (SELECT count(*) FROM orchestrator_attempt),
        (SELECT count(*) FROM orchestrator_attempt WHERE outcome = 'LOST')
"""

# From a loss that was noticed to the next start, and who had it.
RECOVERED = """
    SELECT
        worker.pid, extract(epoch FROM lost.started_at)::float8,
        extract(epoch FROM lost.finished_at)::float8,
        extract(epoch FROM next.started_at)::float8
    FROM orchestrator_attempt AS lost
    JOIN orchestrator_attempt AS next
      ON next.task_run_id = lost.task_run_id AND next.number = lost.number + 1
    JOIN orchestrator_worker AS worker ON worker.id = lost.worker_id
    WHERE lost.outcome = 'LOST'
"""


def measured(rig: Rig) -> dict[str, Any]:
    """What the tables tell, once everything is at rest."""
    with connection.cursor() as cursor:
        cursor.execute(COUNTS)
        runs, task_runs, attempts, lost = cursor.fetchone()
        cursor.execute(RECOVERED)
        rows = cursor.fetchall()
    causes = [_cause(rig, pid, began, noticed) for pid, began, noticed, _ in rows]
    queued = [row[2] - cause for row, cause in zip(rows, causes, strict=True)]
    again = [row[3] - cause for row, cause in zip(rows, causes, strict=True)]
    return {
        "runs": runs,
        "task_runs": task_runs,
        "attempts": attempts,
        "lost": lost,
        "queued": max(queued, default=0.0),
        "again": max(again, default=0.0),
    }


def _cause(rig: Rig, pid: int, began: float, noticed: float) -> float:
    """When that worker was last disturbed before the loss was noticed.

    A failpoint does not say when: then it is the start of what was lost.
    """
    found = [
        event.at
        for event in rig.events
        if event.pid == pid
        and began <= event.at <= noticed
        and not event.what.startswith(("start", "thaw"))
    ]
    return max(found, default=began)


def summary(storm: Storm, troubles: list[str]) -> str:
    """The figures in a few lines, then what is wrong."""
    done, figures = Counter(storm.monkey.done), storm.figures
    kills = sum(done[name] for name in ("kill_child", "kill_worker", "kill_scheduler"))
    starts = [e for e in storm.rig.events if e.what.startswith("start ")]
    armed = sum(1 for event in starts if event.detail)
    frozen = sum(count for name, count in done.items() if name.startswith("freeze"))
    ended = done["terminate_worker"] + done["terminate_scheduler"]
    enqueued = sum(1 for entry in storm.journal.entries if entry.committed)
    rolled_back = sum(1 for e in storm.journal.entries if e.committed is False)
    unknown = sum(1 for entry in storm.journal.entries if entry.committed is None)
    lines = [
        f"seed {storm.seed}: {figures['seconds']:.0f} s, "
        f"{len(starts)} workers and schedulers started",
        f"  {kills} kills ({done['kill_child']} children, {done['kill_worker']} "
        f"supervisors, {done['kill_scheduler']} schedulers), {armed} starts with "
        f"a failpoint, {frozen} freezes, {ended} SIGTERMs",
        f"  {done['backends']} connections terminated, database restarted "
        f"{done['restart_fast']} times in order, "
        f"{done['restart_immediate']} times by a crash",
        f"  {figures['runs']} runs, {figures['task_runs']} task runs, "
        f"{figures['attempts']} attempts, {figures['lost']} lost and recovered; "
        f"{enqueued} transactions committed, {rolled_back} rolled back, {unknown} of "
        "unknown outcome",
        f"  worst recovery: queued again after {figures['queued']:.1f} s, started "
        f"again after {figures['again']:.1f} s, backlog included; drained "
        f"{figures['drain']:.1f} s after the chaos",
    ]
    if troubles:
        lines.append(f"  {len(troubles)} violations:")
        lines += [f"    {text}" for text in troubles]
    else:
        lines.append("  0 lost, 0 duplicated")
    return "\n".join(lines)
