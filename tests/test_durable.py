"""Durable tasks under `drain()` and `travel()`: what users test with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command

from orchestrator import (
    DurableContext,
    EventCondition,
    IllegalTransition,
    NonDeterminism,
    RunCancelled,
    RunFailed,
    RunHandle,
    SleepCondition,
    durable_task,
    events,
    task,
    workflow,
)
from orchestrator.engine import inspect, sessions
from orchestrator.models import (
    Attempt,
    JournalEntry,
    Lease,
    Run,
    TaskRun,
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


# Steps.


def test_a_step_is_done_once_however_often_the_function_is_executed() -> None:
    calls: list[int] = []

    def charge(number: int) -> dict[str, int]:
        calls.append(number)
        Group.objects.create(name=f"charge {number}")
        return {"number": number}

    @durable_task(input=Order, retries=2)
    def pay(ctx: DurableContext[Order]) -> int:
        charged = ctx.step(charge, ctx.input.number)
        if ctx.attempt < 3:
            raise ValueError("after the step")
        return charged["number"]

    handle = pay.enqueue(Order(7))
    assert drain() == 3
    assert handle.result() == 7
    assert calls == [7]
    assert Group.objects.filter(name="charge 7").count() == 1
    assert outcomes() == ["FAILED", "FAILED", "COMPLETED"]
    [entry] = JournalEntry.objects.all()
    assert (entry.kind, entry.position, entry.attempt) == ("STEP", 1, 1)
    assert entry.output == {"number": 7}


def test_a_sleep_of_two_weeks_holds_no_slot() -> None:
    @durable_task
    def nap(ctx: DurableContext[None]) -> list[int]:
        ctx.sleep(14 * DAY)
        return [ctx.attempt]

    handle = nap.enqueue()
    assert drain() == 1
    assert not Lease.objects.exists()
    assert Wait.objects.get().suspended
    task_run = TaskRun.objects.get()
    assert task_run.status == "WAITING"
    assert handle.refresh().status == "RUNNING"
    with travel(13 * DAY):
        assert drain() == 0
    with travel(14 * DAY):
        assert drain() == 1
    assert handle.result() == [1]
    assert outcomes() == ["SUSPENDED", "COMPLETED"]
    assert not WaitCondition.objects.exists()


def test_e13_now_is_the_same_time_at_each_replay() -> None:
    seen: list[Any] = []

    @durable_task
    def remember(ctx: DurableContext[None]) -> None:
        seen.append(ctx.now())
        ctx.sleep_until(ctx.now() + DAY)
        seen.append(ctx.now())

    remember.enqueue()
    drain()
    with travel(2 * DAY):
        drain()
    first, again, later = seen
    assert first == again
    assert later - first > DAY


def test_steps_take_and_give_what_json_can_hold() -> None:
    def build(order: Order, *, twice: bool) -> Order:
        return Order(order.number * (2 if twice else 1))

    @durable_task(input=Order)
    def make(ctx: DurableContext[Order]) -> Order:
        return ctx.step(build, ctx.input, twice=True)

    handle = make.enqueue(Order(2))
    drain()
    assert handle.result() == Order(4)


def test_a_step_that_fails_leaves_nothing_and_is_done_again() -> None:
    calls: list[int] = []

    def shaky() -> str:
        calls.append(1)
        Group.objects.create(name=f"group {len(calls)}")
        if len(calls) == 1:
            raise OSError("the first time")
        return "fine"

    @durable_task(retries=1)
    def labour(ctx: DurableContext[None]) -> str:
        return ctx.step(shaky)

    handle = labour.enqueue()
    drain()
    assert handle.result() == "fine"
    assert list(Group.objects.values_list("name", flat=True)) == ["group 2"]


def test_a_durable_call_inside_a_step_is_refused() -> None:
    @durable_task
    def labour(ctx: DurableContext[None]) -> None:
        ctx.step(lambda: ctx.sleep(DAY), name="nap")

    handle = labour.enqueue()
    drain()
    with pytest.raises(RunFailed, match="failed") as caught:
        handle.result()
    assert "inside a step" in str(caught.value.exceptions[0])


# Waits.


@pytest.mark.parametrize("how", ["event", "time"])
def test_whichever_comes_first_ends_a_wait(how: str) -> None:
    @durable_task
    def wait(ctx: DurableContext[None]) -> list[Any]:
        result = ctx.wait_for(EventCondition("paid") | SleepCondition(DAY, name="late"))
        return [result.first, dict(result)]

    handle = wait.enqueue()
    assert drain() == 1
    if how == "event":
        events.push("paid", {"amount": 3})
        assert drain() == 1
        assert handle.result() == ["paid", {"paid": {"amount": 3}}]
    else:
        with travel(2 * DAY):
            assert drain() == 1
        assert handle.result() == ["late", {"late": None}]
    assert not WaitCondition.objects.exists()


def test_all_of_several_conditions_are_waited_for_in_any_order() -> None:
    @durable_task
    def wait(ctx: DurableContext[None]) -> list[str]:
        return list(ctx.wait_for(EventCondition("a") & EventCondition("b")))

    handle = wait.enqueue()
    drain()
    events.push("b")
    assert drain() == 0
    events.push("a")
    assert drain() == 1
    assert handle.result() == ["b", "a"]


def test_an_event_is_waited_for_by_scope_and_expression() -> None:
    @durable_task(input=Order)
    def wait(ctx: DurableContext[Order]) -> Any:
        return ctx.wait_for_event("paid", "payload.n == input.number", scope="shop")

    handle = wait.enqueue(Order(2))
    drain()
    events.push("paid", {"n": 2})
    events.push("paid", {"n": 1}, scope="shop")
    assert drain() == 0
    events.push("paid", {"n": 2, "by": "me"}, scope="shop")
    assert drain() == 1
    assert handle.result() == {"n": 2, "by": "me"}


def test_e14_an_event_that_came_before_is_found_by_looking_back() -> None:
    @durable_task
    def wait(ctx: DurableContext[None]) -> Any:
        return ctx.wait_for_event(
            "user:create",
            "payload.user_id == 1234",
            scope="user:1234",
            lookback=timedelta(minutes=1),
        )

    payload = {"order": "first", "user_id": 1234}
    events.push("user:create", payload, scope="user:1234")
    drain()
    handle = wait.enqueue()
    assert drain() == 2
    assert handle.result()["order"] == "first"


@pytest.mark.parametrize("welcomed", [True, False])
def test_e23_an_event_right_after_the_start_counts(welcomed: bool) -> None:
    @durable_task(input=Order)
    def welcome(ctx: DurableContext[Order]) -> dict[str, bool]:
        result = ctx.wait_for(
            SleepCondition(timedelta(seconds=5))
            | EventCondition("open", scope="7", lookback=timedelta(seconds=5))
        )
        return {"welcome_sent": "open" in result, "follow_up": "open" not in result}

    handle = welcome.enqueue(Order(7))
    if welcomed:
        events.push("open", scope="7")
    drain()
    with travel(timedelta(seconds=6)):
        drain()
    assert handle.result() == {"welcome_sent": welcomed, "follow_up": not welcomed}


# Children.


@task(name="durable-double")
def double(number: int) -> int:
    """A child."""
    if number == 13:
        raise ValueError("unlucky")
    return 2 * number


def test_e4_outputs_of_children_come_in_the_order_of_the_calls() -> None:
    @durable_task
    def fan(ctx: DurableContext[None]) -> list[int]:
        return ctx.run_many(double.bind(n) for n in range(10))

    handle = fan.enqueue()
    assert drain() == 12
    assert handle.result() == [2 * n for n in range(10)]
    assert Run.objects.get(pk=handle.id).children().count() == 10
    assert TaskRun.objects.get(run_id=handle.id).children().count() == 10
    assert outcomes().count("SUSPENDED") == 1


def test_a_child_that_fails_raises_the_same_at_each_replay_and_can_be_caught() -> None:
    seen: list[str] = []

    @durable_task
    def parent(ctx: DurableContext[None]) -> str:
        try:
            ctx.run(double, 13)
        except RunFailed as error:
            seen.append(str(error.errors["durable-double"]))
        ctx.sleep(DAY)
        return "went on"

    handle = parent.enqueue()
    drain()
    with travel(2 * DAY):
        drain()
    assert handle.result() == "went on"
    assert len(seen) == 2
    assert len(set(seen)) == 1
    assert "unlucky" in seen[0]


def test_a_child_that_fails_fails_its_parent_with_its_message() -> None:
    @durable_task
    def parent(ctx: DurableContext[None]) -> int:
        return ctx.run(double, 13)

    handle = parent.enqueue()
    drain()
    with pytest.raises(RunFailed) as caught:
        handle.result()
    assert "unlucky" in caught.value.errors["parent"].message


def test_a_cancelled_child_raises_in_its_parent() -> None:
    @durable_task
    def parent(ctx: DurableContext[None]) -> str:
        try:
            ctx.run(double.using(run_after=ctx.now() + DAY), 1)
        except RunCancelled:
            return "cancelled"
        return "done"

    handle = parent.enqueue()
    drain()
    RunHandle.get(Run.objects.get(pk=handle.id).children().get().pk).cancel("test")
    drain()
    assert handle.result() == "cancelled"


pair = workflow("durable-pair", input=Order)


@pair.task
def left(ctx: Any) -> int:
    """One of two."""
    return int(ctx.input.number)


@pair.task
def right(ctx: Any) -> int:
    """The other one."""
    return -int(ctx.input.number)


def test_e18_children_of_several_tasks_give_the_outputs_of_all() -> None:
    @durable_task
    def fan(ctx: DurableContext[None]) -> list[Any]:
        return ctx.run_many([pair.bind(Order(n)) for n in range(20)])

    handle = fan.enqueue()
    drain()
    expected = [{"left": n, "right": -n} for n in range(20)]
    assert handle.result() == expected
    handle.retry(tasks="all")
    drain()
    assert handle.result() == expected
    assert Run.objects.filter(parent_task_run_id__isnull=False).count() == 20


def test_children_with_keys_are_the_same_run() -> None:
    @durable_task
    def parent(ctx: DurableContext[None]) -> list[int]:
        return [ctx.run(double, 1, key="a"), ctx.run(double, 2, key="a")]

    handle = parent.enqueue()
    drain()
    assert handle.result() == [2, 2]
    assert Run.objects.filter(parent_task_run_id__isnull=False).count() == 1


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
