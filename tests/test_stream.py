"""Streams: each chunk once, in order, until the run ends."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction

from orchestrator import (
    Context,
    InvalidOutput,
    RunFailed,
    RunHandle,
    RunNotFound,
    WaitingInTransaction,
    ids,
    listening,
    task,
    workflow,
)
from orchestrator.engine import says
from orchestrator.testing import drain
from orchestrator.voices import Outbox, Voice, outbox

pytestmark = pytest.mark.usefixtures("own_definitions")


@pytest.mark.django_db
def test_every_chunk_is_read_once_and_in_order_and_the_stream_ends() -> None:
    @task(takes_context=True)
    def say(ctx: Context[Any]) -> None:
        for number in range(3_000):
            ctx.stream(f"chunk-{number:04}")
        ctx.stream({"done": [1, None, True]})
        ctx.stream(None)

    handle = say.enqueue()
    drain()
    expected: list[Any] = [f"chunk-{n:04}" for n in range(3_000)]
    expected = [*expected, {"done": [1, None, True]}, None]
    assert list(handle.stream()) == expected
    assert list(handle.stream()) == expected

    async def read() -> list[Any]:
        return [chunk async for chunk in handle.astream()]

    assert async_to_sync(read)() == expected


@pytest.mark.django_db
def test_the_chunks_of_a_failed_attempt_come_before_those_of_the_next() -> None:
    @task(takes_context=True, retries=1)
    def say(ctx: Context[Any]) -> None:
        ctx.stream(f"a{ctx.attempt}")
        ctx.stream(f"b{ctx.attempt}")
        raise ValueError

    handle = say.enqueue()
    drain()
    assert list(handle.stream()) == ["a1", "b1", "a2", "b2"]
    with pytest.raises(RunFailed):
        handle.result()


@pytest.mark.django_db
def test_a_workflow_has_one_stream() -> None:
    wf = workflow("wf")

    @wf.task
    def first(ctx: Context[None]) -> None:
        ctx.stream(1)
        ctx.stream(2)

    @wf.task(parents=[first])
    async def second(ctx: Context[None]) -> None:
        ctx.stream(3)

    handle = wf.enqueue()
    drain()
    assert list(handle.stream()) == [1, 2, 3]


@pytest.mark.django_db
@pytest.mark.parametrize("chunk", [object(), b"bytes", float("nan"), "x" * 1_048_600])
def test_a_chunk_that_cannot_be_stored_is_refused_where_it_is_said(chunk: Any) -> None:
    @task(takes_context=True)
    def say(ctx: Context[Any]) -> None:
        with pytest.raises(InvalidOutput, match="A chunk"):
            ctx.stream(chunk)
        ctx.stream("nul \0")

    handle = say.enqueue()
    drain()
    assert list(handle.stream()) == ["nul �"]
    assert handle.refresh().status == "COMPLETED"


@pytest.mark.django_db
def test_an_unfinished_run_cannot_be_read_to_its_end_inside_a_transaction() -> None:
    @task
    def quiet() -> None: ...

    handle = quiet.enqueue()
    with transaction.atomic(), pytest.raises(WaitingInTransaction, match="drain"):
        list(handle.stream())
    drain()
    assert list(handle.stream()) == []
    with pytest.raises(RunNotFound):
        next(RunHandle(ids.uuid7()).stream())


@pytest.mark.django_db(transaction=True)
def test_a_reader_that_began_before_reads_while_it_is_said() -> None:
    read: list[Any] = []
    three = threading.Event()

    @task(takes_context=True)
    def say(ctx: Context[Any], part: int) -> None:
        ctx.stream(part)

    wf = workflow("wf")
    parents: list[Any] = []
    for number in range(3):

        @wf.task(name=f"t{number}", parents=parents)
        def part(ctx: Context[None], number: int = number) -> None:
            ctx.stream(number)

        parents = [part]
    handle = wf.enqueue()

    def listen() -> None:
        try:
            for chunk in handle.stream():
                read.append(chunk)
                if len(read) == 2:
                    three.set()
        finally:
            connection.close()

    thread = threading.Thread(target=listen)
    thread.start()
    drain(limit=2)
    assert three.wait(10)
    assert read == [0, 1]
    drain()
    thread.join(10)
    assert read == [0, 1, 2]


def test_readers_poll_ever_more_seldom_while_nothing_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = listening.Stream(ids.uuid7())
    answers: list[tuple[list[Any], bool]] = [([], False)] * 8 + [
        ([1], True),
        ([2], False),
    ]
    shape: Any = None
    monkeypatch.setattr(listening, "_run", lambda _: ("RUNNING", shape))
    monkeypatch.setattr(says, "unseen", lambda *_: {ids.uuid7(): (0, 0)})
    monkeypatch.setattr(says, "chunks", lambda *_: answers.pop(0))
    monkeypatch.setattr(listening, "connections", {"default": connection})
    pauses = []
    while answers:
        stream.look()
        pauses.append(round(stream.pause, 3))
    assert pauses == [0.04, 0.08, 0.16, 0.32, 0.5, 0.5, 0.5, 0.5, 0.0, 0.02]


def test_what_cannot_be_written_is_kept_up_to_a_cap_and_then_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "MOST", 100)
    box = Outbox()
    run_id = ids.uuid7()
    voice = Voice(box, run_id, ids.task_run_id(run_id, 0), 1)
    for number in range(30):
        voice.stream(f"chunk-{number:02}")  # ten characters as JSON
    said = box.take()
    assert [chunk.number for chunk in said.chunks] == list(range(1, 11))
    box.put_back(said, delay=0.0)
    voice.stream("late")
    assert [chunk.number for chunk in box.take().chunks] == list(range(1, 11))
    assert box.count_dropped() == 21
    assert box.count_dropped() == 0
    assert not box.waiting


def test_a_batch_is_bounded_and_keeps_the_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "TAKE_SIZE", 60)
    box = Outbox()
    run_id = ids.uuid7()
    voice = Voice(box, run_id, ids.task_run_id(run_id, 0), 1)
    for number in range(20):
        voice.stream(f"chunk-{number:02}")
    numbers: list[int] = []
    batches = 0
    while box.waiting:
        numbers += [chunk.number for chunk in box.take().chunks]
        batches += 1
    assert numbers == list(range(1, 21))
    assert batches == 4


def test_a_thread_that_says_too_much_at_once_waits_for_the_writer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "FULL", 5)
    box = Outbox()
    run_id = ids.uuid7()
    voice = Voice(box, run_id, ids.task_run_id(run_id, 0), 1)
    voice.stream("chunk-1")
    thread = threading.Thread(target=lambda: voice.stream("chunk-2"))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    assert len(box.take().chunks) == 1
    thread.join(5)
    assert len(box.take().chunks) == 1
