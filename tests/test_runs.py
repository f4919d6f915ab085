from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction

from orchestrator import (
    UNCHANGED,
    Context,
    IllegalTransition,
    InvalidInput,
    RunCancelled,
    RunFailed,
    RunHandle,
    RunNotFound,
    WaitingInTransaction,
    task,
    workflow,
)
from orchestrator.models import AuditEntry, Run
from orchestrator.testing import drain

pytestmark = pytest.mark.usefixtures("own_definitions")


@dataclass(frozen=True)
class Number:
    n: int


def arithmetic() -> Any:
    wf = workflow("arithmetic", input=Number)

    @wf.task
    def plus_one(ctx: Context[Number]) -> Number:
        return Number(ctx.input.n + 1)

    @wf.task(parents=[plus_one])
    async def invert(ctx: Context[Number]) -> float:
        return 1 / ctx.output(plus_one).n

    return wf


@pytest.mark.django_db
def test_the_result_of_a_workflow_is_the_output_of_each_task() -> None:
    handle = arithmetic().enqueue(Number(1))
    drain()
    assert handle.result() == {"plus_one": Number(2), "invert": 0.5}
    assert handle.status == "COMPLETED"


@pytest.mark.django_db
def test_the_result_of_a_standalone_task_is_what_it_returned() -> Any:
    @task
    def double(x: int) -> Number:
        return Number(2 * x)

    @task
    def nothing() -> None: ...

    handles = [double.enqueue(2), nothing.enqueue()]
    drain()
    assert [handle.result() for handle in handles] == [Number(4), None]


@pytest.mark.django_db
def test_a_failed_run_raises_the_errors_of_its_tasks() -> None:
    handle = arithmetic().enqueue(Number(-1))
    drain()
    with pytest.raises(RunFailed, match="invert") as raised:
        handle.result()
    error = raised.value.errors["invert"]
    assert (error.task, error.error_type) == ("invert", "ZeroDivisionError")
    assert error.message == "division by zero"
    assert "return 1 / ctx.output" in error.traceback
    assert handle.status == "FAILED"
    assert "ZeroDivisionError" in handle.status_reason


@pytest.mark.django_db
def test_a_cancelled_run_raises() -> None:
    handle = arithmetic().enqueue(Number(1))
    assert handle.cancel("not needed") is True
    assert (handle.status, handle.status_reason) == (
        "CANCELLED",
        "Cancelled: not needed",
    )
    with pytest.raises(RunCancelled, match="not needed"):
        handle.result()
    assert handle.cancel() is False
    assert drain() == 0
    assert AuditEntry.objects.get().reason == "not needed"


@pytest.mark.django_db
def test_retry_executes_what_failed_again() -> Any:
    wf = workflow("wobbly")
    broken = [True]

    @wf.task
    def first(ctx: Context[None]) -> int:
        return ctx.attempt

    @wf.task(parents=[first])
    def second(ctx: Context[None]) -> int:
        if broken[0]:
            raise ValueError("broken")
        return ctx.attempt

    handle = wf.enqueue()
    with pytest.raises(IllegalTransition):
        handle.retry()
    drain()
    broken[0] = False
    assert handle.refresh().status == "FAILED"
    handle.retry()
    assert handle.status in ("QUEUED", "RUNNING")
    drain()
    assert handle.result() == {"first": 1, "second": 2}
    with pytest.raises(IllegalTransition, match="all"):
        handle.retry()
    handle.retry(tasks="all")
    drain()
    assert handle.result() == {"first": 2, "second": 3}
    handle.retry(tasks=["second"])
    drain()
    assert handle.result() == {"first": 2, "second": 4}
    with pytest.raises(IllegalTransition, match="third"):
        handle.retry(tasks=["third"])


@pytest.mark.django_db
def test_rerun_makes_a_new_run_of_the_same_input_and_options() -> None:
    wf = arithmetic()
    old = wf.using(
        priority=7, tenant="acme", metadata={"a": 1}, queue_name="else"
    ).enqueue(Number(1))
    drain()
    new = old.rerun()
    assert new != old
    run = Run.objects.select_related("queue").get(pk=new.id)
    assert run.input == {"n": 1}
    assert (run.priority, run.tenant, run.metadata) == (7, "acme", {"a": 1})
    assert run.queue.name == "else"
    drain()
    assert new.result() == old.result()
    assert AuditEntry.objects.get().data["new_run"] == str(new.id)


@pytest.mark.django_db
def test_rerun_takes_another_input() -> Any:
    wf = arithmetic()
    old = wf.enqueue(Number(1))
    drain()
    new = old.rerun(input=Number(3))
    drain()
    assert new.result()["plus_one"] == Number(4)
    with pytest.raises(InvalidInput, match=r"\$\.n"):
        old.rerun(input=Number("3"))  # type: ignore[arg-type]
    assert repr(UNCHANGED) == "UNCHANGED"

    @task
    def double(x: int) -> int:
        return 2 * x

    handle = double.enqueue(1)
    drain()
    again = handle.rerun(input=double.bind(4))
    drain()
    assert again.result() == 8


@pytest.mark.django_db
def test_get_finds_a_run_by_its_id() -> None:
    wf = arithmetic()
    handle = wf.enqueue(Number(1))
    drain()
    found = RunHandle.get(str(handle.id))
    assert found == handle
    assert {found, handle} == {handle}
    assert found.status == "COMPLETED"
    assert found.result() == {"plus_one": Number(2), "invert": 0.5}


@pytest.mark.django_db
@pytest.mark.parametrize("id", [uuid.UUID(int=7), "nonsense"])
def test_a_run_that_is_not_there_is_not_found(id: Any) -> None:
    with pytest.raises(RunNotFound, match=r"no run|no UUID"):
        RunHandle.get(id)


@pytest.mark.django_db
def test_a_run_that_was_rolled_back_is_not_found() -> None:
    wf = arithmetic()
    with transaction.atomic():
        handle = wf.enqueue(Number(1))
        transaction.set_rollback(True)
    for call in (handle.refresh, handle.result, handle.cancel, handle.retry):
        with pytest.raises(RunNotFound):
            call()
    with pytest.raises(RunNotFound):
        handle.rerun()


@pytest.mark.django_db
def test_waiting_inside_a_transaction_is_refused_unless_the_run_has_ended() -> None:
    handle = arithmetic().enqueue(Number(1))
    with pytest.raises(WaitingInTransaction, match="drain"):
        handle.result(timeout=60)
    drain()
    assert handle.result(timeout=60)


@pytest.mark.django_db(transaction=True)
def test_result_gives_up_after_its_timeout() -> None:
    handle = arithmetic().enqueue(Number(1))
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"0\.2 s and is QUEUED"):
        handle.result(timeout=0.2)
    with pytest.raises(TimeoutError):
        handle.result(timeout=timedelta(0))
    with pytest.raises(TimeoutError):
        async_to_sync(handle.aresult)(timeout=0.05)
    assert 0.2 <= time.monotonic() - started < 5


@pytest.mark.django_db(transaction=True)
def test_result_waits_for_the_end() -> Any:
    handle = arithmetic().enqueue(Number(1))
    looked = threading.Event()

    def work() -> None:
        looked.wait(10)
        drain()
        connection.close()

    class Watched(RunHandle[Any]):
        def _look(self) -> Any:
            looked.set()
            return super()._look()

    worker = threading.Thread(target=work)
    worker.start()
    assert Watched(handle.id).result(timeout=30) == {
        "plus_one": Number(2),
        "invert": 0.5,
    }
    worker.join()


@pytest.mark.django_db(transaction=True)
def test_cancel_joins_the_callers_transaction(
    second_connection: Callable[[], psycopg.Connection[Any]],
) -> None:
    other = second_connection()
    handle = arithmetic().enqueue(Number(1))
    statement = "SELECT status FROM orchestrator_run WHERE id = %s"
    with transaction.atomic():
        handle.cancel()
        assert other.execute(statement, [handle.id]).fetchone() == (None,)
        transaction.set_rollback(True)
    handle.refresh()
    assert handle.status == "QUEUED"


@pytest.mark.django_db
def test_async_twins_do_the_same() -> None:
    wf = arithmetic()

    async def story() -> None:
        handle = await wf.aenqueue(Number(1))
        assert await handle.arefresh() is handle
        assert handle.status == "QUEUED"
        assert await handle.acancel("why") is True
        with pytest.raises(RunCancelled):
            await handle.aresult()
        await handle.aretry()
        assert (await RunHandle.aget(handle.id)).status in ("QUEUED", "RUNNING")
        new = await handle.arerun()
        assert new != handle

    async_to_sync(story)()
    assert Run.objects.count() == 2
