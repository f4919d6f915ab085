"""Durable functions that are executed again: retried, branched off, replayed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from orchestrator import (
    DurableContext,
    IllegalTransition,
    NonDeterminism,
    RunFailed,
    RunHandle,
    durable_task,
    task,
)
from orchestrator.engine import inspect, sessions
from orchestrator.models import (
    Attempt,
    JournalEntry,
    Run,
    Wait,
    WaitCondition,
)
from orchestrator.testing import drain, travel

pytestmark = [
    pytest.mark.usefixtures("own_definitions"),
    pytest.mark.django_db,
]

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Order:
    """What most of these tasks take."""

    number: int


@pytest.fixture(autouse=True)
def _nothing_is_broken(db: None) -> Iterator[None]:
    yield
    assert inspect.violations(sessions.django_session()) == []


def outcomes() -> list[str]:
    return list(Attempt.objects.order_by("number").values_list("outcome", flat=True))


@task(name="replays-double")
def double(number: int) -> int:
    """A child."""
    if number == 13:
        raise ValueError("unlucky")
    return 2 * number


# Replays.


def test_e9_what_changes_between_two_executions_is_found_out() -> None:
    @durable_task
    def shifty(ctx: DurableContext[None]) -> list[Any]:
        try:
            ctx.sleep(timedelta(seconds=2 * ctx.attempt))
        except NonDeterminism as error:
            return [error.position, ctx.attempt, error.recorded, error.asked]
        return []

    handle = shifty.enqueue()
    drain()
    with travel(timedelta(seconds=3)):
        drain()
        assert handle.result() == []
        handle.retry(tasks="all")
        drain()
    assert handle.result() == [1, 2, "sleep 2s", "sleep 4s"]


def test_non_determinism_ends_the_attempt_without_retries() -> None:
    @durable_task(retries=5)
    def shifty(ctx: DurableContext[None]) -> None:
        ctx.step(len, "x" * ctx.attempt)
        raise ValueError("once")

    handle = shifty.enqueue()
    assert drain() == 2
    with pytest.raises(RunFailed, match="NonDeterminism"):
        handle.result()


def test_e12_a_completed_run_that_is_retried_gives_what_is_on_record() -> None:
    calls: list[int] = []

    @durable_task
    def memo(ctx: DurableContext[None]) -> int:
        ctx.step(calls.append, 1)
        ctx.sleep(DAY)
        return ctx.attempt

    handle = memo.enqueue()
    drain()
    with travel(2 * DAY):
        drain()
    assert handle.result() == 1
    handle.retry(tasks="all")
    assert drain() == 1
    assert handle.result() == 2
    assert calls == [1]


def test_e2_a_run_that_was_cancelled_in_its_wait_goes_on_when_it_is_retried() -> None:
    @durable_task
    def nap(ctx: DurableContext[None]) -> str:
        ctx.sleep(DAY)
        return "rested"

    handle = nap.enqueue()
    drain()
    assert handle.cancel("stop")
    assert handle.status == "CANCELLED"
    assert not Wait.objects.exists()
    assert not WaitCondition.objects.exists()
    handle.retry()
    assert drain() == 1
    with travel(2 * DAY):
        assert drain() == 1
    assert handle.result() == "rested"


# Branches.


def test_a_branch_keeps_what_is_before_its_position() -> None:
    calls: list[str] = []

    def note(text: str) -> str:
        calls.append(text)
        return f"{text} {len(calls)}"

    @durable_task
    def story(ctx: DurableContext[None]) -> list[Any]:
        return [
            ctx.step(note, "a"),
            ctx.step(note, "b"),
            ctx.run(double, 4),
            ctx.step(note, "c"),
        ]

    handle = story.enqueue()
    drain()
    assert handle.result() == ["a 1", "b 2", 8, "c 3"]
    handle.branch("story", 2)
    drain()
    assert handle.result() == ["a 1", "b 4", 8, "c 5"]
    assert Run.objects.filter(parent_task_run_id__isnull=False).count() == 2
    handle.branch("story", 4)
    drain()
    assert handle.result() == ["a 1", "b 4", 8, "c 6"]
    assert calls == ["a", "b", "c", "b", "c", "c"]
    assert set(JournalEntry.objects.values_list("branch", flat=True)) == {1, 2, 3}
    for task_name, position in (("story", 0), ("story", 6), ("other", 1)):
        with pytest.raises(IllegalTransition):
            handle.branch(task_name, position)


def test_without_its_journal_a_retry_begins_anew() -> None:
    calls: list[int] = []

    @durable_task
    def anew(ctx: DurableContext[None]) -> int:
        ctx.step(calls.append, 1)
        ctx.sleep(DAY)
        return ctx.attempt

    handle = anew.enqueue()
    drain()
    with travel(2 * DAY):
        drain()
        handle.retry(tasks="all", keep_journal=False)
        drain()
        assert handle.refresh().status == "RUNNING"
    with travel(4 * DAY):
        drain()
    assert handle.result() == 2
    assert calls == [1, 1]


# Replaying without effects.


def replayed(handle: RunHandle[Any]) -> str:
    out = StringIO()
    call_command("orchestrator", "replay", str(handle.id), stdout=out)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_journal_is_replayed_without_effects(kind: str) -> None:
    calls: list[str] = []
    change = {"asked": "a"}

    def note(text: str) -> None:
        calls.append(text)

    if kind == "sync":

        @durable_task(name="tale")
        def tale(ctx: DurableContext[None]) -> None:
            ctx.step(note, change["asked"])
            ctx.spawn(double, 3)
            ctx.run(double, 4)
            ctx.sleep(DAY)
            ctx.step(note, "b")

    else:

        @durable_task(name="tale")
        async def tale(ctx: DurableContext[None]) -> None:
            await ctx.astep(note, change["asked"])
            await ctx.aspawn(double, 3)
            await asyncio.gather(ctx.arun(double, 4))
            await ctx.asleep(DAY)
            await ctx.astep(note, "b")

    handle = tale.enqueue()
    drain()
    before = JournalEntry.objects.count()
    text = "tale: 3 of 3 calls as on record. It would go on at position 3: sleep 1d\n"
    assert replayed(handle) == text
    with travel(2 * DAY):
        drain()
    assert handle.refresh().status == "COMPLETED"
    assert replayed(handle) == "tale: 4 of 4 calls as on record. It ends.\n"
    assert calls == ["a", "b"]
    assert JournalEntry.objects.count() == before + 1
    assert Run.objects.count() == 3
    change["asked"] = "z"
    with pytest.raises(CommandError, match="tale would fail"):
        replayed(handle)


def test_what_was_said_before_a_wait_is_not_said_again() -> None:
    @durable_task(name="durable-talk", input=int)
    def talk(ctx: DurableContext[int]) -> None:
        ctx.log("first")
        logging.getLogger("shop").warning("second")
        ctx.stream("chunk 1")
        ctx.sleep(timedelta(hours=1))
        ctx.log("third")
        ctx.stream("chunk 2")
        ctx.sleep(timedelta(hours=1))
        ctx.log("fourth")

    handle = talk.enqueue(1)
    for hours in range(3):
        with travel(timedelta(hours=2 * hours)):
            drain()
    said = [line.message for line in handle.logs()]
    assert said == ["first", "second", "third", "fourth"]
    assert list(handle.stream()) == ["chunk 1", "chunk 2"]


def test_an_attempt_after_a_failure_says_what_comes_after_its_last_record() -> None:
    fails = [True]

    @durable_task(name="durable-talk", input=int, retries=1)
    def talk(ctx: DurableContext[int]) -> None:
        ctx.log("before")
        ctx.step(fails.count, True)
        ctx.log("after")
        if fails.pop():
            fails.append(False)
            raise ValueError("once")

    handle = talk.enqueue(1)
    drain()
    said = [line.message for line in handle.logs()]
    assert said == ["before", "after", "after"]
