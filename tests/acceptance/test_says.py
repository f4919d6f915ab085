"""What tasks say and how they end, with real workers: read from this process."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from orchestrator import IdempotencyCollision, RunCancelled, RunFailed
from orchestrator.models import Lease, Progress, Run, TaskRun, Worker
from tests.acceptance.harness import Harness
from tests.app import says

pytestmark = pytest.mark.acceptance


@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_a_reader_gets_each_chunk_as_it_is_said_and_the_end_with_the_run(
    harness: Harness, kind: str
) -> None:
    """Scenario I4."""
    harness.worker()
    says.recite.enqueue(1, 0.0).result(timeout=60)
    spoken = says.recite if kind == "thread" else says.arecite
    handle: Any = spoken.enqueue(20, 0.1)
    seen = []
    for chunk in handle.stream():
        seen.append((chunk, time.monotonic()))
    assert [chunk for chunk, _ in seen] == [f"{n:010}" for n in range(20)]
    # Not all at once at the end.
    assert seen[-1][1] - seen[0][1] > 1.0
    assert handle.refresh().status == "COMPLETED"
    assert handle.result() == 20


def test_a_reader_that_comes_late_gets_all_of_it(harness: Harness) -> None:
    harness.worker()
    handles = [says.recite.enqueue(50, 0.0) for _ in range(5)]
    for handle in handles:
        handle.result(timeout=60)

        async def read(handle: Any = handle) -> list[Any]:
            return [chunk async for chunk in handle.astream()]

        assert async_to_sync(read)() == [f"{n:010}" for n in range(50)]


def test_what_was_logged_is_there_when_the_run_has_ended(harness: Harness) -> None:
    harness.worker("--processes", "2")
    handles = [says.chatter.enqueue(50) for _ in range(20)]
    for handle in handles:
        handle.result(timeout=60)
        found = handle.logs()
        assert [line.message for line in found] == [
            "begins",
            *(f"line {n}" for n in range(50)),
        ]
        assert (found[0].logger, found[0].level) == ("tests.says", "WARNING")


def test_an_isolated_process_says_as_much(harness: Harness) -> None:
    harness.worker()
    handle = says.recite_alone.enqueue(300)
    assert handle.result(timeout=60) == 300
    assert list(handle.stream()) == [f"{n:010}" for n in range(300)]
    assert [line.message for line in handle.logs()] == [
        *(f"line {n}" for n in range(300)),
        "from the isolated process",
    ]
    assert not Progress.objects.exists()


def test_progress_is_shown_while_it_runs_and_gone_at_the_end(
    harness: Harness, tmp_path: Path
) -> None:
    harness.worker()
    path = tmp_path / "go"
    path.touch()
    handle = says.wobble.enqueue(str(path))
    harness.wait_until(Progress.objects.exists, "there is progress")
    first = Progress.objects.get().done
    harness.wait_until(
        lambda: Progress.objects.get().done > first, "there is more of it"
    )
    assert Progress.objects.get().message == "on the way"
    path.unlink()
    handle.result(timeout=30)
    assert not Progress.objects.exists()
    path.touch()
    cancelled = says.wobble.enqueue(str(path))
    harness.wait_until(lambda: Progress.objects.exists(), "there is progress again")
    cancelled.cancel()
    harness.wait_until(
        lambda: not Progress.objects.exists(), "it is forgotten", timeout=10
    )
    path.unlink()


@pytest.mark.parametrize(
    "spoken", [says.patient, says.apatient, says.patient_alone], ids=lambda t: t.name
)
def test_more_time_is_added_to_the_execution_timeout(
    harness: Harness, spoken: Any
) -> None:
    """Scenario C3, shortened: 1 s and 3 s more let it sleep for 2 s."""
    harness.worker()
    slow, patient = spoken.enqueue(2.5, 0.0), spoken.enqueue(2.0, 3.0)
    harness.wait_until(
        lambda: [
            lease
            for lease in Lease.objects.filter(run_id=patient.id)
            if lease.timeout_at
            and (lease.timeout_at - lease.claimed_at).total_seconds() == 4.0
        ],
        "the lease is extended",
    )
    assert patient.result(timeout=30) == "success"
    with pytest.raises(RunFailed, match="exceeded its execution timeout"):
        slow.result(timeout=30)


def test_a_task_that_cancels_itself_ends_its_run_cancelled(harness: Harness) -> None:
    """Scenario C4."""
    harness.worker()
    handle = says.quitters.enqueue()
    with pytest.raises(RunCancelled, match="cancelled itself: I give up"):
        handle.result(timeout=60)
    tasks = {t.name: t.status for t in TaskRun.objects.filter(run_id=handle.id)}
    assert tasks == {
        "quit_soon": "CANCELLED",
        "look_on": "COMPLETED",
        "never": "CANCELLED",
    }


@pytest.mark.parametrize("stubborn", [False, True])
def test_an_isolated_task_is_told_and_then_killed(
    harness: Harness, tmp_path: Path, *, stubborn: bool
) -> None:
    harness.worker()
    path = tmp_path / "told"
    handle = says.clean_up.enqueue(str(path), stubborn=stubborn)
    harness.wait_until(path.exists, "it has started")
    began = time.monotonic()
    handle.cancel()
    harness.wait_until(lambda: path.read_text() == "told", "it is told", timeout=8)
    harness.wait_until(lambda: not _isolated(harness), "its process is gone", timeout=8)
    assert time.monotonic() - began < 8
    assert path.read_text() == "told"
    assert says.recite_alone.enqueue(1).result(timeout=60) == 1


def _isolated(harness: Harness) -> list[int]:
    found = []
    for pid in harness.alive():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"orchestrator.worker.isolated" in line and pid != os.getpid():
            found.append(pid)
    return found


def test_a_key_until_the_end_lets_one_run_at_a_time(harness: Harness) -> None:
    """Scenario H12 (2), shortened."""
    harness.worker()
    began = time.monotonic()
    first = says.once.enqueue("a", 1.0)
    harness.wait_until(lambda: first.refresh().status == "RUNNING", "it runs")
    with pytest.raises(IdempotencyCollision) as caught:
        says.once.enqueue("a", 1.0)
    assert caught.value.run_id == first.id
    assert first.result(timeout=30) == "hello a"
    second = says.once.enqueue("a", 1.0)
    assert second.result(timeout=30) == "hello a"
    assert time.monotonic() - began >= 2.0
    assert Run.objects.count() == 2


def test_a_task_knows_the_labels_of_its_worker(harness: Harness) -> None:
    harness.worker("--label", "region=eu", "--label", "gpu=yes")
    found = says.surroundings.enqueue().result(timeout=60)
    assert found == {
        "labels": {"region": "eu", "gpu": "yes"},
        "worker": str(Worker.objects.get().id),
        "event": None,
        "key": None,
        "filter": {},
    }


def _told(path: Path) -> list[str]:
    return [line.split()[0] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kind", ["plain", "on_loop"])
def test_a_lifespan_is_set_up_first_and_torn_down_after_the_last_task(
    harness: Harness, tmp_path: Path, kind: str
) -> None:
    """Scenario A7."""
    path = tmp_path / "lifespan"
    path.touch()
    harness.options["LIFESPAN"] = f"tests.app.lifespans.{kind}"
    worker = harness.worker(environment={"TESTS_LIFESPAN": str(path)})
    assert says.find_lifespan.enqueue().result(timeout=60) == ["Lifespan", "bar", 3.14]
    if kind == "on_loop":
        assert says.afind_lifespan.enqueue().result(timeout=60) is True
    assert says.find_lifespan_alone.enqueue().result(timeout=60) == ["bar", 3.14]
    last = says.find_lifespan.enqueue(1.5)
    harness.wait_until(lambda: last.refresh().status == "RUNNING", "it runs")
    assert _told(path) == ["up", "up"]
    assert worker.stop() == 0
    assert last.result(timeout=5) == ["Lifespan", "bar", 3.14]
    assert _told(path) == ["up", "up", "down", "down"]


def test_a_lifespan_that_fails_is_reported_and_nothing_is_claimed(
    harness: Harness, tmp_path: Path
) -> None:
    path = tmp_path / "lifespan"
    path.touch()
    harness.options["LIFESPAN"] = "tests.app.lifespans.broken"
    handle = says.find_lifespan.enqueue()
    worker = harness.worker(environment={"TESTS_LIFESPAN": str(path)})
    harness.says(worker, "could not be set up")
    harness.says(worker, "no model to load")
    harness.wait_until(lambda: len(_told(path)) >= 2, "it is tried again")
    assert handle.refresh().status == "QUEUED"
    assert worker.stop() is not None


def test_batches_are_gathered_over_workers(harness: Harness) -> None:
    """Scenario I5."""
    harness.worker("--processes", "2")
    harness.worker()
    handles = says.batch_shout.enqueue_many(["a", "b", "c"])
    assert [handle.result(timeout=60) for handle in handles] == ["A", "B", "C"]
    assert [len(handle.logs()) for handle in handles] == [1, 0, 0]
    pair = says.batch_shout.enqueue_many(["d", "e"])
    assert [handle.result(timeout=30) for handle in pair] == ["D", "E"]
    assert pair[0].logs()[0].message == "a batch of 2"
    heavy = says.weigh.enqueue_many(["x" * 100_000] * 100)
    results = [handle.result(timeout=60) for handle in heavy]
    assert {size for _, size in results} == {100_000}
    assert len({batch for batch, _ in results}) == 3


def test_a_batch_whose_worker_is_killed_is_executed_by_another(
    harness: Harness, tmp_path: Path
) -> None:
    harness.scheduler()
    victim = harness.worker()
    path = tmp_path / "go"
    starts = path.with_suffix(".starts")
    handles = says.batch_until.enqueue_many([str(path)] * 4)
    harness.wait_until(starts.exists, "the batch has started")
    assert Lease.objects.count() == 4
    victim.kill()
    harness.worker()
    harness.wait_until(
        lambda: starts.read_text().split() == ["4", "4"], "it starts again", timeout=60
    )
    path.touch()
    assert [handle.result(timeout=60) for handle in handles] == [str(path)] * 4
