"""What users of other engines know, at the numbers that they know, with real workers.

Most of the time is waiting: so all scenarios go side by side, a thread each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.db import connection

from orchestrator import RunCancelled, RunFailed, RunHandle, events, operations
from orchestrator.engine import inspect, sessions
from orchestrator.models import Attempt, Run, TaskRun
from orchestrator.operations import RunFilter
from orchestrator.states import AttemptOutcome, RunStatus, TaskRunStatus
from tests.acceptance.harness import Harness
from tests.app import scenarios as app
from tests.app import scenarios_of_conditions as conditions

pytestmark = pytest.mark.acceptance

PATIENCE = 120.0  # seconds; everything goes on at once, on any machine


def statuses(handle: RunHandle[Any]) -> dict[str, str]:
    rows = Run.objects.get(pk=handle.id).task_runs().select_related("task")
    return {row.name: row.status for row in rows.with_live_status()}


def wait_until(reached: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline, f"not reached: {what}"
        time.sleep(0.1)


def push_twice(handle: RunHandle[Any], *keys: str, apart: float = 2.0) -> None:
    for pause in (apart, 0.0):
        for key in keys:
            events.push(key, {"run": str(handle.id)})
        time.sleep(pause)


def a1_twelve_ways() -> None:
    for target in (app.hello, app.hello_durable):
        asynchronous = async_to_sync(target.aenqueue)()
        ways = [
            target.enqueue(),
            asynchronous,
            target.enqueue_many([target.bind()])[0],
            async_to_sync(target.aenqueue_many)([target.bind()])[0],
            RunHandle.get(target.enqueue().id),
            target.using(priority=1).enqueue(),
        ]
        for handle in ways:
            assert handle.result(PATIENCE) == {"result": "Hello, world!"}
            result = async_to_sync(handle.aresult)(PATIENCE)
            assert result == {"result": "Hello, world!"}


def a4_graph() -> None:
    result = app.numbers.enqueue().result(PATIENCE)
    assert result["step3"] == result["step1"] + result["step2"]
    assert result["step4"] == {"step4": "step4"}


def b1_waits() -> None:
    handle = conditions.waits.enqueue(42)
    wait_until(
        lambda: statuses(handle)["start"] == TaskRunStatus.COMPLETED, "start has ended"
    )
    push_twice(handle, "skip_on_event:skip", "wait_for_event:start")
    result = handle.result(PATIENCE)
    ended = statuses(handle)
    skipped = {name for name, status in ended.items() if status == "SKIPPED"}
    assert skipped == {"skip_on_event", "skip_with_multiple_parents", "right_branch"}
    assert result["total"] == 4 * 42
    run = Run.objects.get(pk=handle.id)
    assert run.started_at is not None
    assert run.finished_at is not None
    assert (run.finished_at - run.started_at).total_seconds() >= 10


def b2_cancel_if() -> None:
    handle = conditions.cancelled_if.enqueue()
    with pytest.raises(RunCancelled):
        handle.result(PATIENCE)
    assert statuses(handle) == {
        "two": "COMPLETED",
        "child": "CANCELLED",
        "grandchild": "CANCELLED",
    }


def b3_sleep_wins() -> None:
    began = time.monotonic()
    handle = conditions.sleep_wins.enqueue()
    assert handle.result(PATIENCE) is None
    assert time.monotonic() - began >= 12
    assert list(statuses(handle).values()) == ["SKIPPED"]


def b6_cancelled_by_event() -> None:
    began = time.monotonic()
    handle = conditions.cancelled_by_event.enqueue()
    push_twice(handle, "b6:cancel", apart=3.0)
    with pytest.raises(RunCancelled):
        handle.result(PATIENCE)
    assert time.monotonic() - began < 30


def b9_woken() -> None:
    handle = conditions.woken.enqueue()
    time.sleep(2)
    assert handle.refresh().status == RunStatus.QUEUED
    events.push("b9:wake", {"run": str(uuid4())})
    events.push("b9:wake", {"run": str(handle.id)})
    assert handle.result(PATIENCE) == 5


def c1_non_retryable() -> None:
    handle = app.thrice.enqueue()
    with pytest.raises(RunFailed) as failure:
        handle.result(PATIENCE)
    messages = sorted(error.message for error in failure.value.exceptions)
    assert messages == ["no retry helps", "of the wrong type"]
    ids = [row.pk for row in Run.objects.get(pk=handle.id).task_runs()]
    attempts = Attempt.objects.filter(task_run_id__in=ids)
    assert attempts.filter(outcome=AttemptOutcome.FAILED).count() == 3
    assert attempts.filter(outcome=AttemptOutcome.COMPLETED).count() == 1


def c2_on_failure() -> None:
    handle = app.failing.enqueue()
    with pytest.raises(RunFailed, match="step1 failed"):
        handle.result(PATIENCE)
    assert statuses(handle) == {"fails": "FAILED", "handle_failure": "COMPLETED"}


def c3_timeouts() -> None:
    refreshed, late = app.refreshed.enqueue(), app.too_long.enqueue()
    began = time.monotonic()
    with pytest.raises(RunFailed, match="execution timeout of 5 s"):
        late.result(PATIENCE)
    assert 5 <= time.monotonic() - began < 30
    assert refreshed.result(PATIENCE) == {"status": "success"}


def c4_cancellation() -> None:
    handle = app.cancelling.enqueue()
    with pytest.raises(RunCancelled, match="enough"):
        handle.result(PATIENCE)
    assert statuses(handle)["self_cancel"] == TaskRunStatus.CANCELLED


def d1_fanout() -> None:
    for target, count in ((app.fanout, 2), (app.afanout, 2), (app.fanout, 12)):
        result = target.enqueue(count).result(PATIENCE)
        assert result == [
            {"process": f"child {n}", "process2": f"child {n} again"}
            for n in range(count)
        ]


def d2_metadata() -> None:
    metadata = {"test_run_id": str(uuid4())}
    handle = app.fanout.using(metadata=metadata).enqueue(2)
    handle.result(PATIENCE)
    children = Run.objects.get(pk=handle.id).children()
    assert [child.metadata for child in children] == [metadata] * 2


def e1_durable() -> None:
    handle = app.e1.enqueue()
    wait_until(lambda: handle.refresh().status == RunStatus.RUNNING, "it runs")
    time.sleep(8)
    events.push("e1:event", {"run": str(handle.id), "id": "seven"}, scope="e1")
    result = handle.result(PATIENCE)
    assert 5 <= result["slept"] < 15
    assert result["id"] == "seven"
    assert result["groups"] == ["sleep", "event"]


def e2_cancelled_and_retried() -> None:
    handle = app.sleep_five.enqueue()
    wait_until(lambda: "WAITING" in statuses(handle).values(), "it sleeps")
    handle.cancel()
    with pytest.raises(RunCancelled):
        handle.result(PATIENCE)
    handle.retry()
    began = time.monotonic()
    assert handle.result(PATIENCE) < 6
    assert time.monotonic() - began < 6 + 5  # a busy machine


def e7_replayed_when_completed() -> None:
    began = time.monotonic()
    handle = app.sleep_five.enqueue()
    handle.result(PATIENCE)
    assert time.monotonic() - began >= 5
    handle.retry("all")
    began = time.monotonic()
    assert handle.result(PATIENCE) < 1
    assert time.monotonic() - began < 5


def e9_non_determinism() -> None:
    handle = app.non_deterministic.enqueue()
    assert handle.result(PATIENCE) == {"position": None, "attempt": 1}
    handle.retry("all")
    assert handle.result(PATIENCE) == {"position": 1, "attempt": 2}


def e12_memo() -> None:
    began = time.monotonic()
    handle = app.memo.enqueue("done")
    assert handle.result(PATIENCE) == "done"
    assert time.monotonic() - began >= 5
    handle.retry("all")
    began = time.monotonic()
    assert handle.result(PATIENCE) == "done"
    assert time.monotonic() - began < 5


def e13_now() -> None:
    handle = app.now.enqueue()
    first = handle.result(PATIENCE)
    handle.retry("all")
    assert handle.result(PATIENCE) == first


def e14_lookback() -> None:
    payload = {"order": "first", "user_id": 1234}
    events.push("user:create", payload, scope="user_id:1234")
    time.sleep(1)
    assert app.lookback.enqueue(1234).result(PATIENCE) == "first"


def e18_twenty_graphs() -> None:
    handle = app.dag_spawn.enqueue()
    for _ in range(2):
        result = handle.result(PATIENCE)
        assert [row["process2"] for row in result] == [
            f"child {n} again" for n in range(20)
        ]
        handle.retry("all")


def e23_welcome() -> None:
    active, silent = (app.welcome.enqueue(str(uuid4())) for _ in range(2))
    user = Run.objects.get(pk=active.id).input
    events.push("user:active", {}, scope=user)
    assert active.result(PATIENCE) == {"welcome_sent": True, "follow_up_sent": False}
    assert silent.result(PATIENCE) == {"welcome_sent": True, "follow_up_sent": True}


def i3_bulk_retry() -> None:
    metadata = {"test_run_id": str(uuid4())}
    sizes = {app.bulk_1: 101, app.bulk_2: 49, app.bulk_3: 48}
    for target, size in sizes.items():
        target.using(metadata=metadata).enqueue_many(
            [target.bind() for _ in range(size)]
        )
    runs = Run.objects.metadata_contains(metadata)
    wait_until(
        lambda: runs.filter(outcome_status=RunStatus.FAILED).count() == 198,
        "all have failed",
    )
    operations.retry_runs(RunFilter(metadata=metadata))
    wait_until(
        lambda: runs.filter(outcome_status=RunStatus.COMPLETED).count() == 198,
        "all have completed",
    )
    for target, size in sizes.items():
        mine = runs.filter(workflow_id=target.definition.shape.workflow_id)
        rows = TaskRun.objects.filter(run_id__in=mine.values("id"), attempts=2)
        assert rows.count() == size


def i4_streams() -> None:
    text = "".join(f"{n:>9} " for n in range(30))
    for handle in [app.chunks.enqueue(text) for _ in range(5)]:
        assert list(handle.stream()) == [text[n : n + 10] for n in range(0, 300, 10)]


SCENARIOS: Sequence[Callable[[], None]] = (
    a1_twelve_ways,
    a4_graph,
    b1_waits,
    b2_cancel_if,
    b3_sleep_wins,
    b6_cancelled_by_event,
    b9_woken,
    c1_non_retryable,
    c2_on_failure,
    c3_timeouts,
    c4_cancellation,
    d1_fanout,
    d2_metadata,
    e1_durable,
    e2_cancelled_and_retried,
    e7_replayed_when_completed,
    e9_non_determinism,
    e12_memo,
    e13_now,
    e14_lookback,
    e18_twenty_graphs,
    e23_welcome,
    i3_bulk_retry,
    i4_streams,
)


def played(scenario: Callable[[], None]) -> BaseException | None:
    """What went wrong with one."""
    try:
        scenario()
    except BaseException as error:
        error.add_note(f"in {scenario.__name__}")
        return error
    finally:
        connection.close()
    return None


def test_all_of_them_side_by_side(harness: Harness) -> None:
    harness.worker("--slots", "20", "--processes", "2", "--grace", "1")
    harness.scheduler()
    with ThreadPoolExecutor(max_workers=len(SCENARIOS)) as pool:
        troubles = [error for error in pool.map(played, SCENARIOS) if error]
    if troubles:
        raise BaseExceptionGroup(f"{len(troubles)} scenarios", troubles)
    assert inspect.violations(sessions.django_session()) == []
