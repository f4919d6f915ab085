"""Conditions as values: how they are declared, composed, stored and evaluated."""

from __future__ import annotations

from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from orchestrator import (
    Context,
    EventCondition,
    InvalidDefinition,
    ParentCondition,
    SleepCondition,
    registry,
    task,
    workflow,
)
from orchestrator.conditions import Condition, WaitResult, evaluate, from_dict, held
from orchestrator.engine.shapes import Shape

HOUR = timedelta(hours=1)
A, B, C = EventCondition("a"), EventCondition("b"), EventCondition("c")


# Three-valued evaluation.

VALUES: tuple[bool | None, ...] = (True, False, None)


@pytest.mark.parametrize(("a", "b"), list(product(VALUES, VALUES)))
def test_or_and_and_follow_kleene(a: bool | None, b: bool | None) -> None:
    values = {0: a, 1: b}
    either = True if True in (a, b) else None if None in (a, b) else False
    both = False if False in (a, b) else None if None in (a, b) else True
    assert evaluate(A | B, values) is either
    assert evaluate(A & B, values) is both


@pytest.mark.parametrize(
    ("tree", "true", "expected"),
    [
        ((A | B) & C, {0}, None),
        ((A | B) & C, {0, 2}, True),
        (A | B & C, {1}, None),
        (A | B & C, {1, 2}, True),
        (A | B & C, {0}, True),
        (A, set(), None),
    ],
)
def test_leaves_are_numbered_from_left_to_right(
    tree: Condition, true: set[int], expected: bool | None
) -> None:
    assert evaluate(tree, dict.fromkeys(true, True)) is expected


def test_the_leaves_that_hold_are_told() -> None:
    tree = (A | B) & C
    assert held(tree, {0: True, 1: None, 2: True}) == {0: A, 2: C}


# Composition.


def test_equal_operators_become_one_level() -> None:
    assert (A | B | C).parts == (A, B, C)
    assert (A & B & C).parts == (A, B, C)
    assert (A | (B & C)).parts == (A, B & C)


@pytest.mark.parametrize(
    "compose",
    [
        lambda: A | EventCondition("a"),
        lambda: SleepCondition(HOUR) & SleepCondition(timedelta(minutes=60)),
        lambda: (A & B) | (C & EventCondition("x", name="b")),
    ],
)
def test_two_of_one_name_must_be_named(compose: Any) -> None:
    with pytest.raises(InvalidDefinition, match=r"are named .* another name="):
        compose()


def test_what_is_named_may_be_alike() -> None:
    tree = SleepCondition(HOUR, name="first") | SleepCondition(HOUR, name="second")
    assert [leaf.label for leaf in tree.leaves()] == ["first", "second"]


def test_two_conditions_on_one_parent_need_no_name() -> None:
    wf_parent = "start"
    tree = ParentCondition(wf_parent, "output > 1") & ParentCondition(
        wf_parent, "output < 9"
    )
    assert len(list(tree.leaves())) == 2


@pytest.mark.parametrize(
    "misuse", [lambda: A or B, lambda: A and B, lambda: 1 if A else 2, lambda: not A]
)
def test_python_words_instead_of_operators_are_refused(misuse: Any) -> None:
    with pytest.raises(InvalidDefinition, match="not with `or` and `and`"):
        misuse()


def test_something_else_cannot_be_composed() -> None:
    with pytest.raises(InvalidDefinition, match="is no condition"):
        A | True


def test_a_hundred_conditions_are_enough() -> None:
    tree: Condition = EventCondition("0")
    for number in range(1, 100):
        tree = tree | EventCondition(str(number))
    with pytest.raises(InvalidDefinition, match="at most 100"):
        tree | EventCondition("one more")


# Names.


@pytest.mark.parametrize(
    ("condition", "label"),
    [
        (SleepCondition(timedelta(days=2)), "sleep:2d"),
        (SleepCondition(timedelta(minutes=90)), "sleep:1h30m"),
        (SleepCondition(timedelta(seconds=1.5)), "sleep:1.5s"),
        (SleepCondition(timedelta(0)), "sleep:0s"),
        (SleepCondition(HOUR, name="nap"), "nap"),
        (A, "a"),
        (EventCondition("a", name="first"), "first"),
        (ParentCondition("start"), "parent:start"),
    ],
)
def test_the_name_has_a_default(condition: Any, label: str) -> None:
    assert condition.label == label


# Storage.


@pytest.mark.parametrize(
    "condition",
    [
        A,
        EventCondition("a", "payload.x > 1", scope="s", lookback=HOUR, name="n"),
        SleepCondition(timedelta(seconds=1.25), name="n"),
        ParentCondition("start", "output.n > 1"),
        (A | B) & SleepCondition(HOUR) & ParentCondition("start"),
    ],
)
def test_data_gives_the_same_condition_again(condition: Condition) -> None:
    assert from_dict(condition.to_dict()) == condition


# Refusals.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SleepCondition(5), "takes a timedelta"),  # type: ignore[arg-type]
        (lambda: SleepCondition(-HOUR), "out of range"),
        (lambda: SleepCondition(HOUR * 10**6), "out of range"),
        (lambda: SleepCondition(HOUR, name=""), "name of a condition"),
        (lambda: EventCondition(""), "key of an EventCondition"),
        (lambda: EventCondition("a\n"), "printable"),
        (lambda: EventCondition(" a"), "take the blanks off its ends"),
        (lambda: EventCondition("a", scope="b "), "take the blanks off its ends"),
        (lambda: EventCondition("a" * 201), "at most 200"),
        (lambda: EventCondition("a", scope=""), "scope of an EventCondition"),
        (lambda: EventCondition("a", lookback=-HOUR), "positive timedelta"),
        (lambda: EventCondition("a", "payload.x =="), "line 1, column 11"),
        (lambda: EventCondition("a", "output > 1"), "'output' is unknown here"),
        (lambda: ParentCondition(None), "takes the parent task itself"),
        (lambda: ParentCondition("p", "payload == 1"), "'payload' is unknown here"),
        (lambda: ParentCondition("p", ""), "is no CEL expression"),
    ],
)
def test_what_cannot_work_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InvalidDefinition, match=message):
        make()


@pytest.mark.usefixtures("own_definitions")
class TestDeclaring:
    def test_conditions_are_part_of_the_shape(self) -> None:
        wf = workflow("w")
        start = wf.task(name="start")(lambda ctx: 1)
        wf.task(
            name="b",
            parents=[start],
            wait_for=A | SleepCondition(HOUR),
            skip_if=ParentCondition(start, "output > 1"),
            cancel_if=B,
        )(lambda ctx: 2)
        wf.task(name="c", parents=[wf.tasks["b"]])(lambda ctx: 3)
        first, second, third = wf.shape.tasks
        assert second.wait_for == (A | SleepCondition(HOUR)).to_dict()
        assert second.skip_if == ParentCondition("start", "output > 1").to_dict()
        assert second.cancel_if == B.to_dict()
        assert [node.judged for node in (first, second, third)] == [False, True, True]
        assert Shape.build("w", wf.shape.data).digest == wf.shape.digest

    def test_the_digest_follows_the_conditions(self) -> None:
        digests = set()
        for condition in (None, A, B, A | B, A & B, EventCondition("a", scope="s")):
            with registry.isolated():
                wf = workflow("w")
                wf.task(name="a", wait_for=condition)(lambda ctx: 1)
                digests.add(wf.shape.digest)
        assert len(digests) == 6

    def test_a_parent_condition_is_about_a_parent(self) -> None:
        wf = workflow("w")
        start = wf.task(name="start")(lambda ctx: 1)
        with pytest.raises(InvalidDefinition, match="not among its parents="):
            wf.task(name="b", skip_if=ParentCondition(start))(lambda ctx: 2)
        with pytest.raises(InvalidDefinition, match="as the decorated function itself"):
            wf.task(name="b", parents=[start], skip_if=A | ParentCondition("start"))(
                lambda ctx: 2
            )

    @pytest.mark.parametrize("option", ["wait_for", "skip_if", "cancel_if"])
    def test_an_option_takes_one_condition(self, option: str) -> None:
        wf = workflow("w")
        for wrong in ([A, B], "a", True):
            with pytest.raises(InvalidDefinition, match=f"{option}=.* is no condition"):
                wf.task(**{option: wrong})(lambda ctx: 1)  # type: ignore[call-overload]

    def test_a_standalone_task_may_wait(self) -> None:
        @task(wait_for=A | SleepCondition(HOUR))
        def later(x: int) -> int:
            return x

        assert later.definition.shape.tasks[0].judged
        with pytest.raises(InvalidDefinition, match="not among its parents="):
            task(name="other", skip_if=ParentCondition("later"))(lambda: 1)

    def test_a_handler_is_the_parent_of_no_task(self) -> None:
        for option in ("on_failure", "on_success"):
            with registry.isolated():
                wf = workflow("w")
                wf.task(name="a")(lambda ctx: 1)
                handler = getattr(wf, option)(lambda ctx: 2)
                with pytest.raises(InvalidDefinition, match=f"which is its {option}"):
                    wf.task(name="b", parents=[handler])(lambda ctx: 3)

    def test_a_workflow_has_one_handler_of_each_kind(self) -> None:
        wf = workflow("w")
        wf.task(name="a")(lambda ctx: 1)
        wf.on_failure(name="f")(lambda ctx: 1)
        wf.on_success(name="s")(lambda ctx: 1)
        with pytest.raises(InvalidDefinition, match="has an on_failure already"):
            wf.on_failure(name="g")(lambda ctx: 1)
        with pytest.raises(InvalidDefinition, match="has an on_success already"):
            wf.on_success(name="t")(lambda ctx: 1)

    def test_handlers_alone_are_no_workflow(self) -> None:
        wf = workflow("w")
        wf.on_failure(name="f")(lambda ctx: 1)
        with pytest.raises(InvalidDefinition, match="no task besides its handlers"):
            wf.verify()

    def test_on_success_waits_for_all_leaves_also_for_later_ones(self) -> None:
        wf = workflow("w")
        a = wf.task(name="a")(lambda ctx: 1)

        @wf.on_success(retries=2)
        def done(ctx: Context[None]) -> int:
            return 9

        assert [parent.name for parent in done.parents] == ["a"]
        wf.task(name="b", parents=[a])(lambda ctx: 1)
        wf.task(name="c", parents=[a])(lambda ctx: 1)
        wf.on_failure(name="f")(lambda ctx: 1)
        assert [parent.name for parent in done.parents] == ["b", "c"]
        shape = wf.shape
        assert shape.tasks[1].parents == (2, 3)
        assert shape.tasks[1].retries.attempts == 2
        assert shape.handler == 4


def test_a_wait_result_is_a_mapping_in_the_order_of_events() -> None:
    result = WaitResult({"b": {"x": 1}, "a": None})
    assert (result.first, dict(result)) == ("b", {"b": {"x": 1}, "a": None})
    assert ("a" in result, "c" in result, len(result)) == (True, False, 2)
    assert repr(result) == "WaitResult({'b': {'x': 1}, 'a': None})"
