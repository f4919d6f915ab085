"""Batch tasks: many runs, one execution, and to each its own result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest

from orchestrator import InvalidDefinition, InvalidInput, RunFailed, batch_task, task
from orchestrator.models import Attempt, QueueItem, Run, TaskRun
from orchestrator.testing import drain, travel

pytestmark = [pytest.mark.usefixtures("own_definitions"), pytest.mark.django_db]

SECOND = timedelta(seconds=1)


def upper(calls: list[int], **options: Any) -> Any:
    options.setdefault("max_size", 3)

    @batch_task(**options)  # type: ignore[untyped-decorator]
    def shout(inputs: dict[str, str]) -> dict[str, str]:
        calls.append(len(inputs))
        return {key: text.upper() for key, text in inputs.items()}

    return shout


def test_a_full_batch_is_executed_at_once_and_each_run_gets_its_part() -> None:
    """Scenario I5, first part."""
    calls: list[int] = []
    shout = upper(calls)
    handles = shout.enqueue_many(["a", "b", "c"])
    assert drain() == 3
    assert [handle.result() for handle in handles] == ["A", "B", "C"]
    assert calls == [3]
    assert Attempt.objects.count() == 3
    assert Run.objects.with_status("COMPLETED").count() == 3


def test_what_is_gathered_is_queued_until_there_are_enough() -> None:
    calls: list[int] = []
    shout = upper(calls)
    handles = [shout.enqueue("a"), shout.enqueue("b")]
    assert drain() == 0
    assert [h.refresh().status for h in handles] == ["QUEUED", "QUEUED"]
    assert TaskRun.objects.with_status("QUEUED").count() == 2
    with travel(timedelta(days=1)):
        assert drain() == 0
    handles.append(shout.enqueue("c"))
    drain()
    assert [handle.result() for handle in handles] == ["A", "B", "C"]


def test_the_oldest_waits_for_the_interval_at_most() -> None:
    calls: list[int] = []
    shout = upper(calls, max_interval=SECOND)
    first = shout.enqueue("a")
    with travel(0.5 * SECOND):
        second = shout.enqueue("b")
        assert drain() == 0
    with travel(SECOND):
        assert drain() == 2
    assert [first.result(), second.result()] == ["A", "B"]
    assert calls == [2]


def test_more_than_a_batch_makes_several() -> None:
    calls: list[int] = []
    shout = upper(calls, max_interval=SECOND)
    shout.enqueue_many([str(n) for n in range(8)])
    drain()
    assert calls == [3, 3]
    with travel(SECOND):
        drain()
    assert calls == [3, 3, 2]


def test_a_batch_holds_four_megabytes_at_most() -> None:
    calls: list[int] = []
    shout = upper(calls, max_size=100, max_interval=10 * SECOND)
    handles = shout.enqueue_many(["x" * 100_000] * 100)
    drain()
    assert calls == [39, 39]  # with its quotes each input is a little larger
    with travel(10 * SECOND):
        drain()
    assert calls == [39, 39, 22]
    assert all(handle.result() == "X" * 100_000 for handle in handles)


def keyed(calls: list[Any], **options: Any) -> Any:
    @batch_task(max_size=2, group_key="input.group", **options)  # type: ignore[untyped-decorator]
    def greet(inputs: dict[UUID, dict[str, Any]]) -> dict[UUID, Any]:
        calls.append(sorted({value["group"] for value in inputs.values()}))
        return {key: [value["group"], len(inputs)] for key, value in inputs.items()}

    return greet


def test_runs_are_gathered_with_those_of_their_group() -> None:
    calls: list[Any] = []
    greet = keyed(calls, max_interval=SECOND)
    groups = ["a", "b", "a", "c", "b"]
    handles = greet.enqueue_many([{"group": group} for group in groups])
    drain()
    assert sorted(calls) == [["a"], ["b"]]
    with travel(SECOND):
        drain()
    assert [handle.result() for handle in handles] == [
        ["a", 2],
        ["b", 2],
        ["a", 2],
        ["c", 1],
        ["b", 2],
    ]


@pytest.mark.parametrize("bad", [{"group": 123}, {}])
def test_a_run_whose_group_key_is_no_string_fails_alone_and_at_once(bad: Any) -> None:
    calls: list[Any] = []
    greet = keyed(calls)
    failing, first, second = greet.enqueue_many([bad, {"group": "a"}, {"group": "a"}])
    drain()
    with pytest.raises(
        RunFailed, match="failed to parse batch group key expression"
    ) as caught:
        failing.result()
    assert len(caught.value.exceptions) == 1
    assert first.result() == second.result() == ["a", 2]
    assert calls == [["a"]]


def test_broadcast_gives_one_value_to_all() -> None:
    @batch_task(max_size=10, broadcast=True)
    async def total(inputs: dict[str, str]) -> int:
        return sum(len(text) for text in inputs.values())

    handles = total.enqueue_many(["hello"] * 10)
    drain()
    assert [handle.result() for handle in handles] == [50] * 10


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda inputs: [*inputs], "returned list and not a dict"),
        (lambda inputs: dict.fromkeys([*inputs][:1], ""), "1 of its 2 are missing"),
        (lambda inputs: dict.fromkeys([*inputs, "x"], ""), "1 are not its own"),
        (lambda inputs: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_fails_the_execution_fails_all_members(
    function: Callable[[Any], Any], message: str
) -> None:
    @batch_task(max_size=2)
    def fail(inputs: dict[str, str]) -> dict[str, str]:
        answer: dict[str, str] = function(inputs)
        return answer

    handles = fail.enqueue_many(["a", "b"])
    drain()
    for handle in handles:
        with pytest.raises(RunFailed, match=message):
            handle.result()
    assert Attempt.objects.filter(outcome="FAILED").count() == 2


@pytest.mark.parametrize("which", [0, 1, 2])
def test_an_output_that_is_no_json_fails_its_run_alone(which: int) -> None:
    @batch_task(max_size=3)
    def mixed(inputs: dict[str, int]) -> dict[str, Any]:
        return {k: object() if n == which else n for k, n in inputs.items()}

    handles = mixed.enqueue_many([0, 1, 2])
    drain()
    for number, handle in enumerate(handles):
        if number == which:
            with pytest.raises(RunFailed, match="object"):
                handle.result()
        else:
            assert handle.result() == number


def test_a_cancelled_member_leaves_the_batch_before_and_harms_it_not() -> None:
    calls: list[int] = []
    shout = upper(calls)
    handles = shout.enqueue_many(["a", "b"])
    assert handles[0].cancel("not this one")
    handles += shout.enqueue_many(["c", "d"])
    drain()
    assert [handle.result() for handle in handles[1:]] == ["B", "C", "D"]
    assert calls == [3]


def test_a_schedule_timeout_holds_while_it_is_gathered() -> None:
    shout = upper([], schedule_timeout=SECOND)
    handle = shout.enqueue("a")
    drain()
    with travel(SECOND):
        drain()
    assert handle.refresh().status == "CANCELLED"
    assert not QueueItem.objects.exists()


def test_a_retry_of_an_operator_joins_the_next_batch() -> None:
    first = True

    @batch_task(max_size=2, max_interval=SECOND)
    def stumble(inputs: dict[str, str]) -> dict[str, str]:
        nonlocal first
        if first:
            first = False
            raise ValueError("once")
        return dict(inputs)

    handles = stumble.enqueue_many(["a", "b"])
    drain()
    for handle in handles:
        handle.retry()
    drain()
    assert [handle.result() for handle in handles] == ["a", "b"]


def test_inputs_are_checked_where_they_are_given() -> None:
    shout = upper([])
    with pytest.raises(InvalidInput):
        shout.enqueue(7)
    with pytest.raises(InvalidInput, match="Item 1"):
        shout.enqueue_many(["a", 7])
    assert not Run.objects.exists()
    assert shout.call({"k": "a"}) == {"k": "A"}


def test_what_is_returned_may_be_any_mapping() -> None:
    @batch_task(max_size=2)
    def double(inputs: dict[str, int]) -> Mapping[str, int]:
        return MappingProxyType({key: 2 * number for key, number in inputs.items()})

    handles = double.enqueue_many([1, 2])
    drain()
    assert [handle.result() for handle in handles] == [2, 4]


def test_other_tasks_do_not_wait_for_batches() -> None:
    @task
    def quick() -> int:
        return 1

    shout = upper([])
    shout.enqueue("a")
    handle = quick.enqueue()
    assert drain() == 1
    assert handle.result() == 1


@pytest.mark.parametrize(
    "options",
    [
        {"max_size": 0},
        {"max_size": "3"},
        {"max_size": 3, "max_interval": 5},
        {"max_size": 3, "group_key": "output.x"},
        {"max_size": 3, "group_key": "input.x +"},
        {"max_size": 3, "group_max_runs": 1},
        {"max_size": 3, "group_key": "input.x", "group_max_runs": 0},
        {"max_size": 3, "broadcast": "yes"},
        {"max_size": 3, "retries": 3},
        {"max_size": 3, "isolated": True},
    ],
)
def test_a_wrong_declaration_is_refused(options: Any) -> None:
    with pytest.raises(InvalidDefinition):
        upper([], **options)
