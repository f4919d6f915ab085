"""Tasks that kill their process, overrun, or leave a mess behind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from django.db import connection

from orchestrator import RunFailed
from orchestrator.models import Attempt, Run
from tests.acceptance.harness import Harness
from tests.app import tasks

pytestmark = pytest.mark.acceptance


@pytest.mark.parametrize("how", ["exit", "segfault", "kill"])
def test_a_poison_task_fails_after_its_budget_and_harms_no_neighbour(
    harness: Harness, trace: Path, how: str
) -> None:
    harness.worker("--slots", "4")
    neighbours = [tasks.work.enqueue(str(trace), f"n{n}", 1.5) for n in range(3)]
    poison = tasks.poison.enqueue(str(trace), how)
    with pytest.raises(RunFailed, match="failed") as failure:
        poison.result(timeout=60)
    assert "WorkerLost" in str(failure.value.exceptions[0])
    assert [handle.result(timeout=60) for handle in neighbours] == ["n0", "n1", "n2"]
    lost = Attempt.objects.filter(outcome="LOST", task_run__run_id=poison.id)
    assert lost.count() == 4  # the budget of 3, and the one that exceeded it
    assert trace.read_text().count("start poison") == 4


@pytest.mark.parametrize(
    ("how", "words"), [("segfault", "SIGSEGV"), ("exit", "exit code 0")]
)
def test_an_isolated_task_dies_alone_and_says_how(
    harness: Harness, trace: Path, how: str, words: str
) -> None:
    harness.worker("--slots", "2")
    neighbour = tasks.work.enqueue(str(trace), "neighbour", 4)
    with pytest.raises(RunFailed, match="failed"):
        tasks.die_alone.enqueue(how).result(timeout=60)
    assert words in str(Attempt.objects.filter(outcome="LOST")[0].error)
    assert neighbour.result(timeout=60) == "neighbour"
    assert trace.read_text().count("start neighbour") == 1


def test_an_isolated_task_is_killed_at_its_timeout_with_all_that_it_started(
    harness: Harness, trace: Path
) -> None:
    harness.worker()
    handle = tasks.overrun_alone.enqueue(str(trace))
    with pytest.raises(RunFailed, match="failed"):
        handle.result(timeout=60)
    attempt = Attempt.objects.get()
    assert attempt.outcome == "TIMED_OUT"
    assert (attempt.finished_at - attempt.started_at).total_seconds() < 3
    pids = [int(word) for word in trace.read_text().split()[2:4]]
    harness.wait_until(
        lambda: not any(_alive(pid) for pid in pids), "its whole group is gone"
    )


def test_an_isolated_process_is_used_again(harness: Harness, trace: Path) -> None:
    harness.worker("--slots", "1")
    for name in ("a", "b"):
        tasks.work_alone.enqueue(str(trace), name).result(timeout=60)
    pids = {line.split()[2] for line in trace.read_text().splitlines()}
    assert len(pids) == 1


def test_a_thread_that_overruns_is_timed_out_and_its_child_replaced(
    harness: Harness, trace: Path
) -> None:
    worker = harness.worker("--slots", "2")
    (child,) = harness.ready(worker)
    handle = tasks.overrun.enqueue(str(trace), 30)
    with pytest.raises(RunFailed, match="failed"):
        handle.result(timeout=10)
    harness.wait_until(
        lambda: worker.children() not in ([], [child]), "another child takes over"
    )
    assert tasks.work.enqueue(str(trace), "next").result(timeout=60) == "next"
    attempt = Attempt.objects.get(outcome="TIMED_OUT")
    assert 0.4 < (attempt.finished_at - attempt.started_at).total_seconds() < 2
    assert not Attempt.objects.filter(outcome="LOST").exists()


def test_the_late_result_of_a_thread_is_dropped(harness: Harness, trace: Path) -> None:
    harness.worker("--slots", "4")
    keep_busy = tasks.work.enqueue(str(trace), "busy", 3)
    handle = tasks.overrun.enqueue(str(trace), 1.2)
    with pytest.raises(RunFailed, match="failed"):
        handle.result(timeout=10)
    harness.wait_until(lambda: "end overrun" in trace.read_text(), "it ends, too late")
    assert keep_busy.result(timeout=60) == "busy"
    handle.refresh()
    assert handle.status == "FAILED"
    assert Attempt.objects.filter(task_run__run_id=handle.id).count() == 1


@pytest.mark.parametrize("stubborn", [False, True])
def test_an_async_task_is_cancelled_at_its_timeout(
    harness: Harness, trace: Path, *, stubborn: bool
) -> None:
    harness.worker()
    handle = tasks.aoverrun.enqueue(str(trace), stubborn=stubborn)
    with pytest.raises(RunFailed, match="failed"):
        handle.result(timeout=10)
    assert "cancelled" in trace.read_text()
    assert Attempt.objects.get().outcome == "TIMED_OUT"


def test_a_connection_that_the_server_closed_does_not_reach_the_next_task(
    harness: Harness,
) -> None:
    harness.worker("--slots", "1")
    seen = set()
    for _ in range(3):
        pid = tasks.backend.enqueue().result(timeout=60)
        seen.add(pid)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 2000)", [pid])
    assert len(seen) == 3


@pytest.mark.parametrize("how", ["raw", "atomic", "autocommit", "broken"])
def test_a_transaction_that_a_task_leaves_open_does_not_reach_the_next_one(
    harness: Harness, how: str
) -> None:
    harness.worker("--slots", "1")
    mess = tasks.leave_mess.enqueue(how)
    harness.wait_until(
        lambda: Run.objects.unfinished().count() == 0, "the messy task ends"
    )
    pid = tasks.backend.enqueue().result(timeout=60)
    if how != "broken":
        assert pid != mess.result()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND state LIKE 'idle in transaction%%'"
        )
        assert cursor.fetchone()[0] == 0


def test_a_clean_connection_is_kept_between_tasks(harness: Harness) -> None:
    harness.worker("--slots", "1")
    pids = {tasks.backend.enqueue().result(timeout=60) for _ in range(5)}
    assert len(pids) == 1


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_failing_neighbour_thread_leaves_the_others_alone(
    harness: Harness, trace: Path
) -> None:
    harness.worker("--slots", "2")
    slow = tasks.work.enqueue(str(trace), "slow", 1)
    started = time.monotonic()
    with pytest.raises(RunFailed, match="failed"):
        tasks.flaky_now.enqueue().result(timeout=60)
    assert slow.result(timeout=60) == "slow"
    assert time.monotonic() - started < 20
