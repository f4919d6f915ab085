"""Threads and the loop: nothing is lost, nothing leaks from one task to the next."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.utils import timezone, translation

from orchestrator import registry, task
from orchestrator.engine.settle import Result
from orchestrator.states import AttemptOutcome
from orchestrator.worker import execute
from orchestrator.worker.board import Board
from orchestrator.worker.execute import Work
from orchestrator.worker.mailbox import Mailbox
from orchestrator.worker.slots import Loop, Threads
from tests.worker.conftest import MakeWork

PATIENCE = 20.0

variable: contextvars.ContextVar[str] = contextvars.ContextVar(
    "variable", default="clean"
)


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    with registry.isolated():
        yield


@pytest.fixture
def threads(board: Board, mailbox: Mailbox) -> Threads:
    return Threads(4, board, 0, mailbox, execute.run_sync)


@pytest.fixture
def loop(board: Board, mailbox: Mailbox) -> Loop:
    return Loop(4, board, 4, mailbox)


def collect(mailbox: Mailbox, number: int) -> list[Work]:
    """Wait for so much finished work."""
    found: list[Work] = []
    deadline = time.monotonic() + PATIENCE
    while len(found) < number:
        assert time.monotonic() < deadline, f"{len(found)} of {number} came back"
        mailbox.sleep(0.05, 1)
        found += mailbox.take()
    return found


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_all_members_of_a_batch_are_noted_as_started(
    make_work: MakeWork, threads: Threads, loop: Loop, mailbox: Mailbox, board: Board
) -> None:
    @task
    def sync() -> None: ...

    @task
    async def on_loop() -> None: ...

    for slots, function in ((threads, sync), (loop, on_loop)):
        works = [make_work(function) for _ in range(3)]
        works[0].members = tuple(works)
        slots.submit(works[:1])
        collect(mailbox, 1)
        assert {work.claim.task_run_id for work in works} <= board.started()


def test_every_item_of_many_batches_comes_back_once(
    make_work: MakeWork, threads: Threads, loop: Loop, mailbox: Mailbox
) -> None:
    @task
    def sync() -> None: ...

    @task
    async def on_loop() -> None: ...

    sent = []
    for size in (1, 2, 3, 50, 1, 200, 7) * 5:
        batch = [make_work(sync) for _ in range(size)]
        abatch = [make_work(on_loop) for _ in range(size)]
        threads.submit(batch)
        loop.submit(abatch)
        sent += batch + abatch
    returned = collect(mailbox, len(sent))
    assert set(returned) == set(sent)
    assert len(returned) == len(sent)
    assert all(work.result is not None for work in sent)


def test_as_many_run_at_once_as_there_are_slots(
    make_work: MakeWork, threads: Threads, mailbox: Mailbox
) -> None:
    barrier = threading.Barrier(4)

    @task
    def meets() -> None:
        barrier.wait(PATIENCE)

    threads.submit([make_work(meets) for _ in range(8)])
    collect(mailbox, 8)


def test_an_idle_thread_takes_over_behind_a_long_task(
    make_work: MakeWork, threads: Threads, mailbox: Mailbox
) -> None:
    go_on = threading.Event()

    @task
    def long() -> None:
        go_on.wait(PATIENCE)

    @task
    def short() -> None: ...

    works = [make_work(long), *(make_work(short) for _ in range(20))]
    threads.submit(works)
    assert works[0] not in collect(mailbox, 20)
    go_on.set()
    assert collect(mailbox, 1) == works[:1]


def test_the_loop_runs_no_more_at_once_than_it_has_slots(
    make_work: MakeWork, loop: Loop, mailbox: Mailbox
) -> None:
    running, most = 0, 0

    @task
    async def counts() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    loop.submit([make_work(counts) for _ in range(30)])
    collect(mailbox, 30)
    assert most == 4


def test_what_has_not_started_can_be_withdrawn(
    make_work: MakeWork, threads: Threads, loop: Loop, mailbox: Mailbox
) -> None:
    go_on = threading.Event()

    @task
    def holds() -> None:
        go_on.wait(PATIENCE)

    @task
    async def aholds() -> None:
        while not go_on.is_set():
            await asyncio.sleep(0.005)

    works = [make_work(holds) for _ in range(10)]
    aworks = [make_work(aholds) for _ in range(10)]
    threads.submit(works)
    loop.submit(aworks)
    eventually(lambda: sum(bool(w.started) for w in works + aworks) == 8)
    withdrawn = threads.withdraw() + loop.withdraw()
    assert len(withdrawn) == 12
    assert not any(work.started for work in withdrawn)
    go_on.set()
    collect(mailbox, 8)


def test_the_board_shows_what_is_running(
    make_work: MakeWork, threads: Threads, loop: Loop, mailbox: Mailbox, board: Board
) -> None:
    go_on = threading.Event()

    @task
    def holds() -> None:
        go_on.wait(PATIENCE)

    @task
    async def aholds() -> None:
        while not go_on.is_set():
            await asyncio.sleep(0.005)

    works = [make_work(holds), make_work(aholds)]
    threads.submit(works[:1])
    loop.submit(works[1:])
    running = {work.claim.task_run_id for work in works}
    eventually(lambda: board.started() == running)
    go_on.set()
    collect(mailbox, 2)
    assert board.started() == running  # their results are not settled yet


def test_nothing_of_a_task_reaches_the_next_one_in_its_thread(
    make_work: MakeWork, board: Board, mailbox: Mailbox
) -> None:
    one = Threads(1, board, 0, mailbox, execute.run_sync)
    language, zone = translation.get_language(), timezone.get_current_timezone_name()

    @task
    def leaves() -> None:
        variable.set("dirty")
        translation.activate("fr")
        timezone.activate("Asia/Tokyo")

    @task
    def looks() -> list[str | None]:
        return [
            variable.get(),
            translation.get_language(),
            timezone.get_current_timezone_name(),
        ]

    work = make_work(looks)
    one.submit([make_work(leaves), work])
    collect(mailbox, 2)
    assert work.result is not None
    assert work.result.output == f'["clean","{language}","{zone}"]'


def test_nothing_of_a_task_reaches_the_next_one_on_the_loop(
    make_work: MakeWork, loop: Loop, mailbox: Mailbox
) -> None:
    @task
    async def leaves() -> None:
        variable.set("dirty")

    @task
    async def looks() -> str:
        return variable.get()

    work = make_work(looks)
    loop.submit([make_work(leaves)])
    collect(mailbox, 1)
    loop.submit([work])
    collect(mailbox, 1)
    assert work.result is not None
    assert work.result.output == '"clean"'


def test_a_thread_survives_whatever_the_execution_raises(
    make_work: MakeWork, board: Board, mailbox: Mailbox
) -> None:
    def breaks(work: Work) -> Result:
        raise SystemExit("not even our own code may end a thread")

    @task
    def never() -> None: ...

    slots = Threads(2, board, 0, mailbox, breaks)
    for _ in range(3):
        works = [make_work(never) for _ in range(4)]
        slots.submit(works)
        collect(mailbox, 4)
        for work in works:
            assert work.result is not None
            assert work.result.outcome is AttemptOutcome.FAILED


def test_a_thread_that_overruns_is_overdue(
    make_work: MakeWork, threads: Threads, mailbox: Mailbox
) -> None:
    go_on = threading.Event()

    @task(execution_timeout=timedelta(seconds=10))
    def holds() -> None:
        go_on.wait(PATIENCE)

    work = make_work(holds)
    threads.submit([work])
    eventually(lambda: work.started > 0)
    assert threads.overdue(work.started + 9.9) == []
    assert threads.overdue(work.started + 10.1) == [work]
    go_on.set()
    collect(mailbox, 1)
    assert threads.overdue(work.started + 10.1) == []


def test_an_async_task_is_stopped_from_another_thread(
    make_work: MakeWork, loop: Loop, mailbox: Mailbox
) -> None:
    @task
    async def waits() -> None:
        await asyncio.sleep(PATIENCE)

    work = make_work(waits)
    loop.submit([work])
    eventually(lambda: work.started > 0)
    work.cancelled = True
    loop.stop(work)
    assert collect(mailbox, 1) == [work]
    assert work.result is not None
    assert work.result.outcome is AttemptOutcome.CANCELLED


def test_the_mailbox_wakes_its_reader_for_the_number_that_it_wants(
    make_work: MakeWork, mailbox: Mailbox
) -> None:
    @task
    def nothing() -> None: ...

    slept = threading.Event()

    def read() -> None:
        mailbox.sleep(PATIENCE, 3)
        slept.set()

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(2):
        mailbox.put(make_work(nothing))
    assert not slept.wait(0.1)
    mailbox.put(make_work(nothing))
    assert slept.wait(PATIENCE)
    reader.join()


def test_the_mailbox_wakes_its_reader_when_the_slots_run_dry(
    make_work: MakeWork, mailbox: Mailbox
) -> None:
    @task
    def nothing() -> None: ...

    slept = threading.Event()

    def read() -> None:
        mailbox.sleep(PATIENCE, 100)
        slept.set()

    reader = threading.Thread(target=read)
    reader.start()
    eventually(lambda: mailbox.wanted == 100)
    mailbox.dry()  # nothing is here: nothing to wake it for
    assert not slept.wait(0.05)
    mailbox.put(make_work(nothing))
    mailbox.dry()
    assert slept.wait(PATIENCE)
    reader.join()


def test_a_task_that_exits_leaves_the_loop_to_the_others(
    make_work: MakeWork, loop: Loop, mailbox: Mailbox
) -> None:
    @task
    async def exits() -> None:
        async def leave() -> None:
            raise SystemExit(3)

        await asyncio.create_task(leave())

    @task
    async def fine() -> str:
        await asyncio.sleep(0.1)
        return "fine"

    loop.submit([make_work(fine), make_work(exits), make_work(fine)])
    results = [work.result for work in collect(mailbox, 3)]
    outcomes = sorted(result.outcome for result in results if result)
    assert outcomes == [
        AttemptOutcome.COMPLETED,
        AttemptOutcome.COMPLETED,
        AttemptOutcome.FAILED,
    ]
