"""Query plans, with a million rows around: by the intended indexes and no others.

The plans are generic ones, as workers have them, before and after the tables are
analysed. Nothing that is read grows with the backlog.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

import pytest
from pytest_django.plugin import DjangoDbBlocker

from orchestrator.engine.claim import Demand, WorkerKey
from orchestrator.engine.shapes import queue_id
from orchestrator.models import Run
from tests.engine.plans import BIG, SINGLES, Backlog, backlog, nodes

pytestmark = pytest.mark.django_db

SMALL, MEDIUM, FULL = 3_000, 100_000, 1_000_000

RUN, TASK_RUN, ATTEMPT = (
    f"orchestrator_{name}_pkey" for name in ("run", "task_run", "attempt")
)
RUN_OPEN = "orchestrator_run_open"
QUEUE, WAIT, LEASE, OPEN_RUN, DEADLINE, DELAYED = (
    f"orchestrator_{name}_pkey"
    for name in ("queue_item", "wait", "lease", "open_run", "deadline", "delayed_item")
)
EVENT, EVENT_KEY, EVENT_SCOPE, ITEM = (
    f"orchestrator_{name}"
    for name in ("event_pkey", "event_key", "event_scope", "event_item_pkey")
)
CONDITION, BY_EVENT, BY_TIME, BY_WAIT, TO_JUDGE, TO_CHECK = (
    f"orchestrator_{name}"
    for name in (
        "wait_condition_pkey",
        "condition_event",
        "condition_due",
        "condition_wait",
        "condition_judge",
        "condition_check",
    )
)

# By verb and step, the indexes that may be used.
WORKERS: dict[tuple[str, str], set[str]] = {
    ("claim", "claim"): {QUEUE, RUN},
    ("settle", "plain"): {RUN, TASK_RUN, LEASE},
    ("settle", "graph"): {RUN, TASK_RUN, LEASE, WAIT, OPEN_RUN},
    ("settle", "swept"): {WAIT, OPEN_RUN},
    ("give_back", "give_back"): {RUN, LEASE},
    ("promote", "promote"): {DELAYED, "orchestrator_delayed_due", RUN},
    ("promote", "next"): {"orchestrator_delayed_due"},
    ("expire", "lock"): {"orchestrator_deadline_expires", RUN},
    ("expire", "take"): {DEADLINE, TASK_RUN, QUEUE},
    ("outputs", "outputs"): {TASK_RUN},
    ("leases", "held"): {"orchestrator_lease_worker"},
    ("leases", "overdue"): {"orchestrator_lease_timeout"},
    ("rescue", "runs"): {RUN},
    ("rescue", "wait"): {RUN},
    ("route", "take"): {ITEM, EVENT},
    ("route", "weigh"): {EVENT, BY_EVENT},
    ("route", "plain"): {EVENT, BY_EVENT, CONDITION},
    ("route", "asking"): {EVENT, BY_EVENT},
    ("route", "satisfy"): {EVENT, CONDITION},
    ("route", "left"): {CONDITION},
    ("route", "done"): {ITEM},
    ("ripen", "ripen"): {BY_TIME, CONDITION},
    ("ripen", "next"): {BY_TIME},
    ("look_back", "take"): {TO_CHECK},
    ("look_back", "ended"): {CONDITION, RUN},
    ("look_back", "oldest"): {CONDITION, EVENT_KEY, EVENT_SCOPE},
    ("look_back", "forward"): {CONDITION, EVENT_KEY, EVENT_SCOPE},
    ("look_back", "backward"): {CONDITION, EVENT_KEY, EVENT_SCOPE},
    ("look_back", "done"): {CONDITION},
    ("facts", "runs"): {RUN, "orchestrator_workflow_pkey"},
    ("facts", "event"): {EVENT},
    ("judge", "find"): {"orchestrator_wait_due", TO_JUDGE, RUN},
    ("judge", "waits"): {WAIT},
    ("judge", "conditions"): {BY_WAIT},
    ("judge", "parents"): {TASK_RUN},
    ("judge", "counts"): {OPEN_RUN},
    ("judge", "hold"): {WAIT},
    ("judge", "judged"): {CONDITION},
    ("judge", "decided"): {BY_WAIT, CONDITION},
    ("judge", "run"): {WAIT},
    ("judge", "end"): {WAIT},
}
CALLERS: dict[tuple[str, str], set[str]] = {
    ("enqueue", "enqueue"): set(),
    ("push", "push"): set(),
    ("outcome", "run"): {RUN, OPEN_RUN, LEASE},
    ("outcome", "tasks"): {TASK_RUN},
    ("outcome", "errors"): {ATTEMPT},
    ("cancel", "lock"): {RUN, RUN_OPEN},
    ("cancel", "waiting"): {WAIT},
    ("cancel", "delayed"): {DELAYED, TASK_RUN},
    ("cancel", "queued"): {QUEUE, TASK_RUN},
    ("cancel", "leased"): {LEASE},
    ("cancel", "attempts"): {TASK_RUN},
    ("cancel", "end"): {RUN, RUN_OPEN, TASK_RUN, OPEN_RUN, DEADLINE},
    ("tree", "open"): {RUN, RUN_OPEN},
    ("tree", "children"): {"orchestrator_run_parent"},
    ("retry", "lock"): {RUN},
    ("retry", "read"): {TASK_RUN},
    ("retry", "reopen"): {RUN, TASK_RUN},
    ("reprioritise", "lock"): {RUN, RUN_OPEN},
    ("reprioritise", "waiting"): {WAIT},
    ("reprioritise", "delayed"): {DELAYED},
    ("reprioritise", "queued"): {QUEUE, TASK_RUN},
    ("reprioritise", "leased"): {LEASE},
    ("reprioritise", "history"): {RUN, RUN_OPEN, TASK_RUN},
}


@pytest.fixture(scope="module")
def small(
    engine_connection: Any, django_db_blocker: DjangoDbBlocker
) -> Iterator[Backlog]:
    with django_db_blocker.unblock(), backlog() as made:
        made.grow(SMALL)
        yield made


@pytest.fixture(scope="module")
def usage(small: Backlog) -> dict[str, dict[int, int]]:
    """Buffers of a claim, by kind and by the size of the backlog, in the end full."""
    found: dict[str, dict[int, int]] = {"one lane": {}, "all lanes": {}}
    for size in (SMALL, MEDIUM, FULL):
        small.grow(size)
        for kind, known in (("one lane", 1), ("all lanes", len(SINGLES))):
            found[kind][size] = claim_buffers(small, known)
    return found


@pytest.fixture(scope="module", params=["before ANALYZE", "after ANALYZE"])
def full(
    usage: dict[str, dict[int, int]], small: Backlog, request: pytest.FixtureRequest
) -> Backlog:
    assert small.size == FULL
    if request.param == "after ANALYZE":
        small.analyse()
    return small


def claim_params(known: int) -> dict[str, Any]:
    lanes: dict[int, int | None] = {s.tasks[0].lane: None for s in SINGLES[:known]}
    demand = Demand((queue_id("default"),), lanes, 100)
    return demand.params(WorkerKey(UUID(int=1), 1))


def claim_buffers(made: Backlog, known: int) -> int:
    params = claim_params(known)
    made.executed("claim", "claim", params)  # read what is cold, and set hint bits
    root = made.executed("claim", "claim", params)[0]
    return int(root["Shared Hit Blocks"] + root["Shared Read Blocks"])


def check(made: Backlog, plan: list[Mapping[str, Any]], allowed: set[str]) -> None:
    """No big table is read as a whole, and only those indexes are used."""
    big = {f"orchestrator_{name}" for name in BIG}
    for node in plan:
        if node.get("Relation Name") in made.empty:
            continue  # a month to come: any plan will do, and it is soon made anew
        if node["Node Type"] == "Seq Scan":
            assert made_of(made, node) not in big, node
        index = node.get("Index Name")
        if index is None:
            continue
        assert made.parents.get(index, index) in allowed, node
        # Without a condition it is the whole index, unless the first rows will do.
        first = node["Parent Type"] in ("Limit", "LockRows")
        assert "Index Cond" in node or first, node


@pytest.mark.parametrize("key", WORKERS, ids=" ".join)
def test_a_worker_finds_its_rows_by_their_keys(
    full: Backlog, key: tuple[str, str]
) -> None:
    check(full, full.generic_plan(*key), WORKERS[key])


@pytest.mark.parametrize("key", CALLERS, ids=" ".join)
def test_a_caller_finds_its_rows_by_their_keys(
    full: Backlog, key: tuple[str, str]
) -> None:
    check(full, full.custom_plan(*key), CALLERS[key])


def test_a_claim_reads_no_more_the_more_there_is(
    usage: dict[str, dict[int, int]],
) -> None:
    for kind, found in usage.items():
        assert found[FULL] <= found[MEDIUM] * 1.25, (kind, found)
        assert found[FULL] <= found[SMALL] * 2, (kind, found)


def test_a_claim_takes_what_it_was_asked_for(full: Backlog) -> None:
    for known in (1, len(SINGLES)):
        plan = full.executed("claim", "claim", claim_params(known))
        assert plan[0]["Actual Rows"] == 100
        [deleted] = [
            n
            for n in plan
            if n["Node Type"] == "ModifyTable" and n["Operation"] == "Delete"
        ]
        assert deleted["Plans"][0]["Actual Rows"] == 100


def test_a_claim_visits_one_partition_for_each_run(full: Backlog) -> None:
    plan = full.executed("claim", "claim", claim_params(len(SINGLES)))
    visited = [
        node["Actual Loops"]
        for node in plan
        if made_of(full, node) == "orchestrator_run" and node["Actual Loops"]
    ]
    assert sum(visited) == 100


def made_of(made: Backlog, node: Mapping[str, Any]) -> str | None:
    table = node.get("Relation Name")
    return made.parents.get(table, table) if table else None


# The lists of the admin.

# Read as a whole to find what runs: as small as the work in flight.
SMALL_TABLES = ("orchestrator_lease", "orchestrator_open_run")

LISTS: dict[str, Callable[[], Any]] = {
    "all": lambda: Run.objects.all(),
    "with live status": lambda: Run.objects.with_live_status(),
    "running": lambda: Run.objects.with_status("RUNNING"),
    "queued": lambda: Run.objects.with_status("QUEUED"),
    "failed": lambda: Run.objects.with_status("FAILED", "CANCELLED").order_by(
        "-finished_at", "-id"
    ),
    "unfinished": lambda: Run.objects.unfinished(),
    "of a workflow": lambda: Run.objects.filter(workflow_id=SINGLES[3].workflow_id),
    "with metadata": lambda: Run.objects.metadata_contains({"user": 7}),
    "since": lambda: Run.objects.filter(pk__gte=UUID(int=0x0190 << 112)),
}


@pytest.mark.parametrize("full", ["after ANALYZE"], indirect=True)
@pytest.mark.parametrize("name", LISTS)
def test_a_page_of_a_list_reads_no_big_table_as_a_whole(
    full: Backlog, name: str
) -> None:
    page: Any = LISTS[name]()[:50]
    sql, params = page.query.sql_with_params()
    prefix = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "
    plan = nodes(full.plain.execute((prefix + sql).encode(), params).fetchone())
    for node in plan:
        read = node["Node Type"] == "Seq Scan" and node["Actual Loops"]
        if read and node["Relation Name"] not in full.empty:
            assert made_of(full, node) in SMALL_TABLES, node
    root = plan[0]
    assert root["Shared Hit Blocks"] + root["Shared Read Blocks"] < 3_000, root
