"""What must be true once a soak has come to rest.

Each check returns sentences, one for each thing that is wrong. The engine's own
invariants are in `orchestrator.engine.inspect`; these compare with what was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from orchestrator.conf import settings
from orchestrator.engine import inspect, sessions
from orchestrator.states import AttemptOutcome, RunStatus, TaskRunStatus
from tests.chaos.journal import KINDS, Journal
from tests.chaos.rig import Rig

SHOWN = 20  # sentences of one check; the rest is counted

# Those that were enqueued; the runs that they spawned are looked at for themselves.
RUNS = """
    SELECT tenant, id, status, generation, status_reason FROM orchestrator_run
    WHERE parent_task_run_id IS NULL
"""

CHILDREN = """
    SELECT child.id, task_run.run_id, child.status, parent.status
    FROM orchestrator_run AS child
    JOIN orchestrator_task_run AS task_run ON task_run.id = child.parent_task_run_id
    JOIN orchestrator_run AS parent ON parent.id = task_run.run_id
"""

STEPS = """
    SELECT key, number, count(*) FROM chaos_step GROUP BY key, number
    HAVING count(*) > 1
"""

UNRECORDED = """
    SELECT step.key, step.number
    FROM chaos_step AS step
    WHERE NOT EXISTS (
        SELECT FROM orchestrator_journal_entry AS entry
        WHERE entry.task_run_id = step.key::uuid AND entry.kind = 'STEP'
          AND entry.output = to_jsonb(step.number)
    )
"""

OUTCOMES = """
    SELECT
        task_run.id, task_run.run_id, task_run.status, task_run.generation,
        count(*) FILTER (WHERE outcome = %(lost)s),
        (array_agg(outcome ORDER BY number DESC))[1],
        count(*) FILTER (WHERE outcome = %(completed)s)
    FROM orchestrator_task_run AS task_run
    JOIN orchestrator_attempt AS attempt ON attempt.task_run_id = task_run.id
    GROUP BY task_run.id
"""

EXECUTED = """
    SELECT trace.task_run_id, trace.attempt, count(*), array_agg(worker.pid ORDER BY at)
    FROM chaos_trace AS trace
    LEFT JOIN orchestrator_worker AS worker ON worker.id = trace.worker_id
    GROUP BY trace.task_run_id, trace.attempt
    HAVING count(*) > 1
"""

UNKNOWN_ATTEMPT = """
    SELECT DISTINCT trace.task_run_id, trace.attempt
    FROM chaos_trace AS trace
    JOIN orchestrator_task_run AS task_run ON task_run.id = trace.task_run_id
    WHERE NOT EXISTS (
        SELECT FROM orchestrator_attempt AS attempt
        WHERE attempt.task_run_id = trace.task_run_id
          AND attempt.number = trace.attempt
    )
"""

UNTRACED = """
    SELECT attempt.task_run_id, attempt.number
    FROM orchestrator_attempt AS attempt
    JOIN orchestrator_task_run AS task_run ON task_run.id = attempt.task_run_id
    JOIN orchestrator_task AS task ON task.id = task_run.task_id
    WHERE attempt.outcome = 'COMPLETED' AND task.name = ANY (%s)
      AND NOT EXISTS (
        SELECT FROM chaos_trace AS trace
        WHERE trace.task_run_id = attempt.task_run_id
          AND trace.attempt = attempt.number
    )
"""

EFFECTS = """
    SELECT run.tenant, run.id, run.status, count(effect.key)
    FROM orchestrator_run AS run
    LEFT JOIN orchestrator_task_run AS task_run ON task_run.run_id = run.id
    LEFT JOIN chaos_effect AS effect ON effect.task_run_id = task_run.id
    WHERE run.parent_task_run_id IS NULL
    GROUP BY run.id
"""

LEFT = """
    SELECT 'Deadlines are left: ' || count(*) FROM orchestrator_deadline
    HAVING count(*) > 0
    UNION ALL
    SELECT 'A worker is still ' || status FROM orchestrator_worker
    WHERE status NOT IN ('STOPPED', 'LOST')
    UNION ALL
    SELECT 'An advisory lock is held by ' || pid FROM pg_locks
    WHERE locktype = 'advisory'
    UNION ALL
    SELECT 'A transaction is open: ' || query FROM pg_stat_activity
    WHERE state LIKE 'idle in transaction%%'
"""

TRACED = [
    "soak-effect", "soak-aeffect", "soak-alone", "left", "join", "link-3", "even",
    "odd", "gone", "tidy",
]  # fmt: skip


def everything(journal: Journal, rig: Rig) -> list[str]:
    """All that is wrong."""
    found = [f"{v.rule}: {v.text}" for v in _violations()]
    for check in (conservation, budgets, executions, effects, steps, left_over):
        sentences = list(check(journal, rig))
        found += sentences[:SHOWN]
        if len(sentences) > SHOWN:
            found.append(f"… {len(sentences) - SHOWN} more of {check.__name__}")
    return found + list(worker_logs(rig)) + list(server_log(rig))


def _violations() -> list[inspect.Violation]:
    return inspect.violations(sessions.django_session(), at_rest=True)


def _rows(statement: str, params: Any = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return list(cursor.fetchall())


def conservation(journal: Journal, rig: Rig) -> Iterator[str]:
    """Every committed run is there and ended as it may; no other one is there."""
    lost = _lost_for_good()
    runs: dict[str, dict[Any, tuple[str, str]]] = {}
    for tenant, run_id, status, _, reason in _rows(RUNS):
        runs.setdefault(tenant, {})[run_id] = (status, reason)
    for entry in journal.entries:
        found = runs.pop(entry.tenant, {})
        what = f"Entry {entry.number} ({entry.count} × {entry.kind})"
        counts = {True: {entry.count}, False: {0}, None: {0, entry.count}}
        if len(found) not in counts[entry.committed]:
            yield f"{what}, committed: {entry.committed}, left {len(found)} runs."
        if entry.committed and set(entry.run_ids) != set(found):
            yield f"{what} left other runs than it was told."
        for run_id, (status, reason) in found.items():
            legal = journal.legal(entry.kind, run_id)
            if status == RunStatus.FAILED and run_id in lost:
                continue  # its budget for lost workers was spent, and truly so
            if status not in legal:
                asked = [(a.what, a.done) for a in journal.asked.get(run_id, ())]
                yield (
                    f"Run {run_id} ({entry.kind}) is {status} ({reason}); legal: "
                    f"{', '.join(sorted(legal))}; asked: {asked}."
                )
    for tenant, found in runs.items():
        yield f"{len(found)} runs of tenant {tenant!r} were never asked for."


class Outcome(NamedTuple):
    """What the attempts of one task run came to; `lost` and `completed` are counts."""

    id: UUID
    run_id: UUID
    status: str
    generation: int
    lost: int
    last: str
    completed: int


def _outcomes() -> list[Outcome]:
    params = {"lost": AttemptOutcome.LOST, "completed": AttemptOutcome.COMPLETED}
    return [Outcome(*row) for row in _rows(OUTCOMES, params)]


def _lost_for_good() -> set[UUID]:
    """Runs with a task whose budget for lost workers is spent, and truly so."""
    lost = {
        row.run_id
        for row in _outcomes()
        if row.status == TaskRunStatus.FAILED
        and row.last == AttemptOutcome.LOST
        and row.lost > settings.lost_budget
    }
    # Whoever waited for such a run has failed with it.
    return lost | {parent for child, parent, *_ in _rows(CHILDREN) if child in lost}


def budgets(journal: Journal, rig: Rig) -> Iterator[str]:
    """Lost attempts stay within their budget; a result is accepted once."""
    most = settings.lost_budget + 1
    for row in _outcomes():
        gone = row.last == AttemptOutcome.LOST and row.status == TaskRunStatus.FAILED
        if row.lost > most * row.generation or (gone and row.lost < most):
            yield f"Task run {row.id} is {row.status} after {row.lost} losses."
        if row.completed > row.generation:
            yield f"Task run {row.id} was completed {row.completed} times."


def executions(journal: Journal, rig: Rig) -> Iterator[str]:
    """An attempt is executed once; what a draining worker returned may be again."""
    drained = {e.pid for e in rig.events if e.what.startswith("terminate")}
    for task_run_id, attempt, count, pids in _rows(EXECUTED):
        again = [pid for pid in pids[:-1] if pid not in drained]
        if again:
            yield (
                f"Attempt {attempt} of task run {task_run_id} was executed {count} "
                f"times, by the workers {pids}, not all of which were told to end."
            )
    for task_run_id, attempt in _rows(UNKNOWN_ATTEMPT):
        yield f"Attempt {attempt} of task run {task_run_id} is not on record."
    for task_run_id, attempt in _rows(UNTRACED, [TRACED]):
        yield f"Attempt {attempt} of {task_run_id} was accepted, never executed."


def effects(journal: Journal, rig: Rig) -> Iterator[str]:
    """A completed run has each of its effects once; another one at most once."""
    kinds = {entry.tenant: KINDS[entry.kind] for entry in journal.entries}
    for tenant, run_id, status, count in _rows(EFFECTS):
        expected = kinds[tenant].effects
        if count > expected or (status == RunStatus.COMPLETED and count != expected):
            yield f"Run {run_id} is {status} and has {count} of {expected} effects."


def steps(journal: Journal, rig: Rig) -> Iterator[str]:
    """A step and its record are committed together, and once."""
    for key, number, count in _rows(STEPS):
        yield f"Step {number} of task run {key} was committed {count} times."
    for key, number in _rows(UNRECORDED):
        yield f"Step {number} of task run {key} is not in its journal."


def left_over(journal: Journal, rig: Rig) -> Iterator[str]:
    """What the engine's own check of a system at rest does not look at."""
    for (sentence,) in _rows(LEFT):
        yield sentence


# What the processes and the server say.

# An ERROR that a killed child, or one that was frozen for too long, is reported with.
EXPECTED_ERRORS = re.compile(
    r"ERROR orchestrator: Child \d+ (died \(|has stalled; it is killed)"
)
CONNECTION_TROUBLE = re.compile(
    r"^(psycopg|django\.db\.utils)\.\w*(OperationalError|InterfaceError|AdminShutdown)"
)
TRACEBACK = "Traceback (most recent call last):"

# A process that is frozen inside a transaction holds its locks; who waits tries again.
EXPECTED_SERVER_ERRORS = re.compile(
    r"FATAL:  (the database system is|terminating connection|connection to client lost)"
    r"|ERROR:  canceling statement due to lock timeout"
)


def worker_logs(rig: Rig) -> Iterator[str]:
    """Errors that nobody has caused."""
    for process in rig.harness.processes:
        lines = process.log_path.read_text(errors="replace").splitlines()
        before = ""
        for number, line in enumerate(lines, 1):
            error = line.startswith("ERROR") and not EXPECTED_ERRORS.match(line)
            bare = line.startswith(TRACEBACK) and not before.startswith("ERROR")
            if (error or bare) and not _caused_by_connection(lines[number - 1 :]):
                yield f"{process.log_path.name}:{number}: {line}"
            before = line


def _caused_by_connection(lines: list[str]) -> bool:
    """Whether the traceback that begins here ends in trouble with a connection."""
    inside = False
    last = ""
    for number, line in enumerate(lines):
        if number and line.startswith(("ERROR ", "WARNING ", "INFO ")):
            break
        if line.startswith(TRACEBACK):
            inside = True
        elif inside and line and not line.startswith(" "):
            last = line
    return bool(CONNECTION_TROUBLE.match(last))


def server_log(rig: Rig) -> Iterator[str]:
    """Errors of the server, such as deadlocks and duplicate keys."""
    seen: dict[str, int] = {}
    for line in Path(rig.server.log).read_text(errors="replace").splitlines():
        match = re.search(r"(ERROR|FATAL|PANIC):  .*", line)
        if match and not EXPECTED_SERVER_ERRORS.match(match[0]):
            text = re.sub(r"\d+|[0-9a-f-]{36}", "…", match[0])
            seen[text] = seen.get(text, 0) + 1
    for text, count in seen.items():
        yield f"The server says, {count} times: {text}"
