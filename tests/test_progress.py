"""Progress: the latest word, while the task run is executed."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import Context, InvalidOutput, ids, task
from orchestrator.engine import says
from orchestrator.engine.sessions import django_session
from orchestrator.models import Lease, Progress
from orchestrator.scheduler.duties import DUTIES
from orchestrator.testing import drain
from orchestrator.voices import Outbox, Voice

pytestmark = [pytest.mark.usefixtures("own_definitions"), pytest.mark.django_db]


def leased(handle: Any) -> Any:
    """A lease of the run's only task, as a claim would make it."""
    task_run_id = ids.task_run_id(handle.id, 0)
    Lease.objects.create(
        task_run_id=task_run_id,
        run_id=handle.id,
        task_id=1,
        queue_id=1,
        lane=1,
        position=1,
        attempt=1,
        failures=0,
        losses=0,
        worker_id=ids.uuid7(),
        child_id=1,
        claimed_at="2026-01-01T00:00Z",
    )
    return task_run_id


def enqueued() -> Any:
    @task
    def nothing() -> None: ...

    return nothing.enqueue()


def test_the_latest_word_alone_is_there_while_it_runs() -> None:
    handle = enqueued()
    task_run_id = leased(handle)
    box = Outbox()
    voice = Voice(box, handle.id, task_run_id, 1)
    for done in range(5):
        voice.progress(done, 10, f"page {done}")
    says.write(django_session(), box.take())
    row = Progress.objects.get()
    assert (row.task_run_id, row.run_id) == (task_run_id, handle.id)
    assert (row.done, row.total, row.message) == (4, 10, "page 4")
    voice.progress(5.5, None, "x" * 600)
    says.write(django_session(), box.take())
    row = Progress.objects.get()
    assert (row.done, row.total, len(row.message)) == (5.5, None, 500)
    box.forget([task_run_id])
    says.write(django_session(), box.take())
    assert not Progress.objects.exists()
    assert not box.waiting


def test_a_word_of_an_attempt_that_is_over_leaves_nothing_behind() -> None:
    handle = enqueued()
    box = Outbox()
    Voice(box, handle.id, ids.task_run_id(handle.id, 0), 1).progress(1, 2, "")
    says.write(django_session(), box.take())
    assert not Progress.objects.exists()


@pytest.mark.parametrize("done", [10**400, float("nan"), float("inf"), True, "1"])
def test_what_is_no_finite_number_is_refused(done: Any) -> None:
    with pytest.raises(InvalidOutput, match="give a finite number"):
        Voice(Outbox(), ids.uuid7(), ids.uuid7(), 1).progress(done, None, "")


def test_a_word_that_was_said_meanwhile_is_the_later_one() -> None:
    handle = enqueued()
    task_run_id = ids.task_run_id(handle.id, 0)
    box = Outbox()
    voice = Voice(box, handle.id, task_run_id, 1)
    voice.progress(1, 2, "")
    said = box.take()
    voice.progress(2, 2, "")
    box.put_back(said, delay=0.0)
    assert [word.done for word in box.take().words] == [2]


def test_it_is_gone_with_the_end_and_a_duty_sweeps_what_was_cancelled() -> None:
    seen: list[int] = []

    @task(takes_context=True, retries=1)
    def count(ctx: Context[Any]) -> None:
        seen.append(Progress.objects.count())
        ctx.progress(ctx.attempt, 2)
        if ctx.attempt == 1:
            raise ValueError

    count.enqueue()
    drain()
    assert not Progress.objects.exists()
    assert seen[0] == 0
    handle = enqueued()
    left = Progress(
        task_run_id=ids.task_run_id(handle.id, 0),
        run_id=handle.id,
        done=1,
        updated_at="2026-01-01T00:00Z",
    )
    left.save(force_insert=True)
    [duty] = [duty for duty in DUTIES if duty.name == "progress"]
    duty.do(django_session())
    assert Progress.objects.count() == 1
    handle.cancel()
    duty.do(django_session())
    assert not Progress.objects.exists()


@pytest.mark.parametrize("value", ["3", None, True, float("nan"), float("inf")])
def test_progress_is_a_number(value: Any) -> None:
    @task(takes_context=True)
    def count(ctx: Context[Any]) -> None:
        with pytest.raises(InvalidOutput, match="finite number"):
            ctx.progress(value)

    handle = count.enqueue()
    drain()
    assert handle.refresh().status == "COMPLETED"
