"""The engine thread against a real database that gives the wrong answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection

from orchestrator import ids, registry
from orchestrator.definitions import TaskDefinition
from orchestrator.engine import failpoints, register, sessions, workers
from orchestrator.models import Attempt, Lease, QueueItem, Run, TaskRun
from orchestrator.worker.board import Board
from orchestrator.worker.child import Config, build
from orchestrator.worker.engine import REPLACE_ME, Engine
from orchestrator.worker.mailbox import Mailbox
from orchestrator.worker.orders import Orders
from tests.app import tasks

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 30.0


class Child:
    """An engine with two slots of each kind, in a thread of this process."""

    def __init__(self) -> None:
        self.orders, self.mailbox = Orders(), Mailbox()
        self.board, self._file = Board.create(4)
        self.board.beat_supervisor()
        session = sessions.django_session()
        register.register(session, registry.shapes())
        worker_id = ids.uuid7()
        workers.register_worker(
            session,
            worker_id,
            name="test",
            hostname="test",
            pid=1,
            queues=[],
            labels={},
            tasks=[],
            slots=2,
            processes=1,
        )
        config = Config(
            worker_id=str(worker_id),
            child_id=1,
            parent=0,
            orders=0,
            answers=0,
            board=0,
            slots=2,
            async_slots=2,
            durable_slots=2,
            durable_async_slots=2,
            queues=(),
            longest_pause=0.1,
        )
        self.engine: Engine = build(config, self.board, self.mailbox, self.orders)
        self.code: int | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()
        threading.Thread(target=self._beat, daemon=True).start()

    def drain(self) -> int | None:
        """Have it end when it is empty; its exit code."""
        self.orders.draining = True
        self.mailbox.ring()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.code

    def close(self) -> None:
        self.orders.stop_now = self.orders.draining = True
        self.mailbox.ring()
        if self._thread.is_alive():
            self._thread.join(PATIENCE)
        self._stopped.set()
        self.engine.link.drop()
        self._file.close()

    def _run(self) -> None:
        self.code = self.engine.run()

    def _beat(self) -> None:
        while not self._stopped.wait(0.5):
            self.board.beat_supervisor()


@pytest.fixture
def child(transactional_db: None) -> Iterator[Child]:
    made = Child()
    yield made
    made.close()


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Arm failpoints of this process."""

    def arm(text: str) -> None:
        failpoints._hits.clear()
        monkeypatch.setattr(failpoints, "_armed", failpoints._parse(text))

    return arm


def eventually(condition: Callable[[], Any], what: str = "it happens") -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"Never: {what}"
        time.sleep(0.01)
    return value


def completed() -> int:
    return Run.objects.with_status("COMPLETED").count()


def test_a_drained_child_leaves_what_it_has_not_started(child: Child) -> None:
    handles = [tasks.noop.enqueue() for _ in range(5)]
    child.start()
    eventually(lambda: completed() == 5)
    assert child.drain() == 0
    tasks.noop.enqueue()
    assert (QueueItem.objects.count(), Lease.objects.count()) == (1, 0)
    assert len(handles) == 5


def test_a_result_whose_run_is_locked_waits_and_its_neighbours_do_not(
    child: Child, second_connection: Callable[[], psycopg.Connection[Any]]
) -> None:
    locked, free = tasks.noop.enqueue(), tasks.noop.enqueue()
    other = second_connection()
    with other.transaction():
        other.execute(
            b"SELECT 1 FROM orchestrator_run WHERE id = %s FOR UPDATE", [locked.id]
        )
        child.start()
        eventually(lambda: completed() == 1, "the free one completes")
        time.sleep(0.1)
        assert Lease.objects.get().task_run_id == ids.task_run_id(locked.id, 0)
    eventually(lambda: completed() == 2, "so does the other one")
    assert free.result() is None
    assert Attempt.objects.count() == 2


def test_a_result_that_the_database_refuses_fails_alone(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = TaskDefinition.encode_output

    def poison(self: Any, value: Any) -> str | None:
        return '"\\u0000"' if value == "poison" else encode(self, value)

    monkeypatch.setattr(TaskDefinition, "encode_output", poison)
    path = "/dev/null"
    good = [tasks.work.enqueue(path, f"good-{n}") for n in range(6)]
    bad = tasks.work.enqueue(path, "poison")
    good += [tasks.work.enqueue(path, f"more-{n}") for n in range(6)]
    child.start()
    eventually(lambda: Run.objects.unfinished().count() == 0)
    assert completed() == len(good)
    bad.refresh()
    assert bad.status == "FAILED"
    assert "refused" in bad.status_reason


def test_a_claim_whose_answer_is_lost_is_returned_uncharged(
    child: Child, arm: Callable[[str], None]
) -> None:
    arm("claim.committed=raise@1")
    handles = [tasks.noop.enqueue() for _ in range(5)]
    child.start()
    eventually(lambda: completed() == len(handles))
    assert set(Attempt.objects.values_list("number", "outcome")) == {(1, "COMPLETED")}


@pytest.mark.parametrize("point", ["settle.before", "settle.after", "settle.replied"])
def test_a_settling_whose_answer_is_lost_counts_once(
    child: Child, arm: Callable[[str], None], point: str
) -> None:
    arm(f"{point}=raise@2")
    handles = tasks.chain.enqueue_many([{"number": n} for n in range(10)])
    child.start()
    eventually(lambda: completed() == len(handles))
    assert child.drain() == 0
    assert Attempt.objects.filter(outcome="COMPLETED").count() == 30
    assert Attempt.objects.count() == 30
    assert TaskRun.objects.filter(attempts=1).count() == 30
    assert not Lease.objects.exists()


def test_its_connection_is_opened_again(child: Child) -> None:
    child.start()
    for _ in range(3):
        tasks.noop.enqueue()
        eventually(lambda: Run.objects.unfinished().count() == 0)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE application_name = 'orchestrator' "
                "AND datname = current_database()"
            )
    assert completed() == 3


def test_a_child_that_keeps_failing_asks_to_be_replaced(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("orchestrator.worker.engine.exchange", fail)
    child.engine.trouble.first = child.engine.trouble.most = 0.001
    child.start()
    eventually(lambda: child.code is not None)
    assert child.code == REPLACE_ME
