"""The timeline of a task run: what happened to it, moment by moment.

Nothing is written for it. It is read from the run, the attempts, the journal and the
place that holds the task run now. So its conditions are told as long as it waits for
them; what came of them is in the sentence of its end, or is the first attempt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from orchestrator import ids
from orchestrator.models.journal import JournalEntry
from orchestrator.models.live import DelayedItem, Lease, Wait, WaitCondition
from orchestrator.states import ConditionKind, EntryKind, TimelineKind

if TYPE_CHECKING:
    from orchestrator.models.runs import Attempt, TaskRun

START = "start"  # the slot of the time that the run may start at

# What is of one time, as it comes in one attempt.
_ORDER = list(TimelineKind)

_WORDS = {
    EntryKind.STEP: "step",
    EntryKind.NOW: "time",
    EntryKind.WAIT: "wait for",
    EntryKind.CHILD: "child",
}


class Moment(NamedTuple):
    """One thing that happened: when, of which kind, and in a sentence.

    `attempt` is the number of the attempt that it belongs to, 0 before the first one;
    `position` is that of a durable call in the journal, 0 for all else.
    """

    at: datetime
    kind: TimelineKind
    text: str
    attempt: int = 0
    position: int = 0


def timeline(task_run: TaskRun) -> list[Moment]:
    """What happened to a task run so far, in order, and when it is due next."""
    attempts = list(task_run.attempt_rows())
    lease = Lease.objects.filter(task_run_id=task_run.id).first()
    calls = list(_journal(task_run))
    told = [
        *_held(task_run),
        *_around(calls, _executed(attempts, lease)),
        *calls,
    ]
    told.sort(key=lambda m: (m.at, m.attempt, _ORDER.index(m.kind), m.position))
    told.insert(0, _enqueued(task_run))
    return [*told, *_due(task_run), *_ended(task_run, told[-1])]


def _around(calls: Sequence[Moment], executed: Iterator[Moment]) -> Iterator[Moment]:
    """Starts and ends, which are known to some milliseconds, around exact calls."""
    made: dict[int, list[datetime]] = defaultdict(list)
    for call in calls:
        if call.kind is not TimelineKind.RETURNED:
            made[call.attempt].append(call.at)
    for moment in executed:
        bound = min if moment.kind is TimelineKind.STARTED else max
        yield moment._replace(at=bound([moment.at, *made[moment.attempt]]))


def _enqueued(task_run: TaskRun) -> Moment:
    run = task_run.run
    text = "The run was enqueued"
    if run.run_after is not None:
        text += f", to start at {run.run_after.isoformat(timespec='seconds')}"
    return Moment(run.created_at, TimelineKind.ENQUEUED, f"{text}.")


def _held(task_run: TaskRun) -> Iterator[Moment]:
    wait = Wait.objects.filter(task_run_id=task_run.id, suspended=False).first()
    if wait is None or wait.opened_at is None:
        return
    conditions = list(
        WaitCondition.objects.filter(
            task_run_id=task_run.id, entry_id__isnull=True
        ).order_by("id")
    )
    last = wait.attempt - 1
    # When the time to start has come, the wait opens anew.
    conditions = [
        one for one in conditions if one.slot != START or not one.satisfied_at
    ]
    if conditions:
        names = "; ".join(_condition(one) for one in conditions)
        text = f"Waits, and looks out for {names}."
        yield Moment(wait.opened_at, TimelineKind.HELD, text, last)
    for one in conditions:
        if one.satisfied_at is not None:
            text = f"{one.slot}: {_condition(one)} has come."
            yield Moment(one.satisfied_at, TimelineKind.HAPPENED, text, last)


def _condition(condition: WaitCondition) -> str:
    if condition.kind == ConditionKind.EVENT:
        scope = f' of scope "{condition.scope}"' if condition.scope else ""
        return f'the event "{condition.key}"{scope}'
    due = condition.due_at
    return f"the time {due.isoformat(timespec='seconds')}" if due else "a time"


def _executed(attempts: Sequence[Attempt], lease: Lease | None) -> Iterator[Moment]:
    for attempt in attempts:
        number = attempt.number
        text = f"Attempt {number} started."
        yield Moment(attempt.started_at, TimelineKind.STARTED, text, number)
        text = f"Attempt {number} ended: {attempt.outcome}"
        if attempt.error:
            line = attempt.error["message"].partition("\n")[0].removesuffix(".")
            text += f", {attempt.error['type']}: {line}"
        yield Moment(attempt.finished_at, TimelineKind.STOPPED, f"{text}.", number)
    if lease is not None:
        text = f"Attempt {lease.attempt} was claimed."
        yield Moment(lease.claimed_at, TimelineKind.STARTED, text, lease.attempt)


def _journal(task_run: TaskRun) -> Iterator[Moment]:
    low, high = ids.family_bounds(task_run.id)
    entries = JournalEntry.objects.filter(
        task_run_id=task_run.id, id__gte=low, id__lte=high
    ).defer("output", "error", "asked")
    told = set()
    for entry in entries.order_by("branch", "position"):
        # A branch begins with copies of what it keeps.
        key = (entry.position, entry.created_at, entry.attempt)
        if key in told:
            continue
        told.add(key)
        what = f"Call {entry.position}, {_WORDS[EntryKind(entry.kind)]} {entry.name}"
        call = (entry.attempt, entry.position)
        if entry.kind in (EntryKind.STEP, EntryKind.NOW):
            text = f"{what.removesuffix(' now')}, was recorded."
            yield Moment(entry.created_at, TimelineKind.RECORDED, text, *call)
            continue
        yield Moment(entry.created_at, TimelineKind.CALLED, f"{what}, began.", *call)
        if entry.completed_at is not None:
            text = f"{what}, is over."
            yield Moment(entry.completed_at, TimelineKind.RETURNED, text, *call)


def _due(task_run: TaskRun) -> Iterator[Moment]:
    item = DelayedItem.objects.filter(task_run_id=task_run.id).first()
    if item is not None:
        text = f"{item.status}: attempt {item.attempt} is due."
        yield Moment(item.due_at, TimelineKind.DUE, text, item.attempt - 1)


def _ended(task_run: TaskRun, last: Moment) -> Iterator[Moment]:
    if task_run.finished_at is not None:
        text = f"{task_run.outcome_status}. {task_run.status_reason}".rstrip()
        at = max(task_run.finished_at, last.at)
        yield Moment(at, TimelineKind.ENDED, text, last.attempt)
