"""Decide: the table of what follows from parents and conditions, and why."""

from __future__ import annotations

import pytest

from orchestrator.conditions import Condition, EventCondition, ParentCondition
from orchestrator.engine.decide import Action, Situation, decide, handle
from orchestrator.engine.outputs import ParentOutput
from tests.engine.signals import GO, MINUTE, NAP

YES = ParentCondition("p", "output == 1")
NO = ParentCondition("p", "output == 2")
STOP = EventCondition("stop")

DONE = {"p": ParentOutput("COMPLETED", "1")}
SKIPPED = ParentOutput("SKIPPED", None)


def decided(
    trees: dict[str, Condition],
    *true: tuple[str, int],
    parents: dict[str, ParentOutput] = DONE,
    peeked: bool = False,
) -> tuple[Action, str]:
    now = Situation(parents, dict.fromkeys(true, True), {}, peeked)
    return decide("t", trees, now)


# The table.

RUN, SKIP, CANCEL, HOLD = Action.RUN, Action.SKIP, Action.CANCEL, Action.HOLD


@pytest.mark.parametrize(
    ("trees", "true", "expected"),
    [
        ({}, [], RUN),
        # Conditions of parents are known at once.
        ({"wait_for": YES}, [], RUN),
        ({"wait_for": NO}, [], SKIP),
        ({"skip_if": YES}, [], SKIP),
        ({"skip_if": NO}, [], RUN),
        ({"cancel_if": YES}, [], CANCEL),
        ({"cancel_if": NO}, [], RUN),
        # Events and sleeps are waited for by `wait_for` alone.
        ({"wait_for": GO}, [], HOLD),
        ({"wait_for": GO}, [("wait_for", 0)], RUN),
        ({"wait_for": NAP}, [], HOLD),
        ({"skip_if": GO}, [], RUN),
        ({"cancel_if": NAP}, [], RUN),
        ({"skip_if": GO, "cancel_if": NAP}, [], RUN),
        ({"wait_for": NAP, "skip_if": GO}, [], HOLD),
        ({"wait_for": NAP, "skip_if": GO}, [("skip_if", 0)], SKIP),
        ({"wait_for": NAP, "cancel_if": GO}, [("cancel_if", 0)], CANCEL),
        # `|` is a true OR, `&` waits for both.
        ({"wait_for": YES | NAP | GO}, [], RUN),
        ({"wait_for": NO | NAP}, [], HOLD),
        ({"wait_for": NO | NAP}, [("wait_for", 1)], RUN),
        ({"wait_for": YES & GO}, [], HOLD),
        ({"wait_for": YES & GO}, [("wait_for", 1)], RUN),
        ({"wait_for": NO & GO}, [], SKIP),
        ({"wait_for": (NO & GO) | NAP}, [], HOLD),
        ({"skip_if": YES & GO}, [], RUN),
        ({"skip_if": YES | GO}, [], SKIP),
        ({"wait_for": NAP, "skip_if": NO & GO}, [("skip_if", 1)], HOLD),
        # Skip, cancel, run: in this order.
        ({"skip_if": YES, "cancel_if": YES, "wait_for": YES}, [], SKIP),
        ({"cancel_if": YES, "wait_for": NO}, [], CANCEL),
        (
            {"skip_if": GO, "cancel_if": STOP, "wait_for": NAP},
            [("skip_if", 0), ("cancel_if", 0), ("wait_for", 0)],
            SKIP,
        ),
        (
            {"cancel_if": STOP, "wait_for": NAP},
            [("cancel_if", 0), ("wait_for", 0)],
            CANCEL,
        ),
    ],
)
def test_the_table_of_what_follows(
    trees: dict[str, Condition], true: list[tuple[str, int]], expected: Action
) -> None:
    action, reason = decided(trees, *true)
    assert action is expected
    assert bool(reason) is (expected in (SKIP, CANCEL))


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["SKIPPED"], SKIP),
        (["SKIPPED", "SKIPPED"], SKIP),
        (["SKIPPED", "COMPLETED"], RUN),
        (["COMPLETED"], RUN),
        ([], RUN),
    ],
)
@pytest.mark.parametrize("cancel_if", [None, STOP])
def test_all_parents_skipped(
    statuses: list[str], expected: Action, cancel_if: Condition | None
) -> None:
    parents = {f"p{n}": ParentOutput(s, None) for n, s in enumerate(statuses)}
    trees = {} if cancel_if is None else {"cancel_if": cancel_if}
    assert decided(trees, parents=parents)[0] is expected


@pytest.mark.parametrize(
    ("expression", "holds"),
    [("true", True), ("output == null", True), ("output > 1", False)],
)
def test_the_output_of_a_skipped_parent_is_null(expression: str, holds: bool) -> None:
    parents = {"p": SKIPPED, "q": ParentOutput("COMPLETED", "1")}
    action, _ = decided({"skip_if": ParentCondition("p", expression)}, parents=parents)
    assert action is (SKIP if holds else RUN)


@pytest.mark.parametrize(
    ("trees", "true", "reason"),
    [
        (
            {"skip_if": EventCondition("e", scope="s", name="n")},
            [("skip_if", 0)],
            'Task "t" was skipped by skip_if: the event "e" of scope "s" ("n").',
        ),
        (
            {"cancel_if": NAP & GO},
            [("cancel_if", 0), ("cancel_if", 1)],
            'Task "t" was cancelled by cancel_if: a sleep of 1m and the event "go".',
        ),
        (
            {"wait_for": NO & GO},
            [],
            'Task "t" was skipped because its wait_for can no longer hold: '
            'output == 2 of parent "p".',
        ),
    ],
)
def test_the_reason_names_the_conditions(
    trees: dict[str, Condition], true: list[tuple[str, int]], reason: str
) -> None:
    assert decided(trees, *true)[1] == reason


@pytest.mark.parametrize(
    ("failed", "remaining", "expected"), [(1, 3, RUN), (0, 1, SKIP), (0, 2, HOLD)]
)
def test_a_handler_waits_for_a_failure_or_for_the_end(
    failed: int, remaining: int, expected: Action
) -> None:
    assert handle("t", failed, remaining).action is expected


def test_a_look_back_comes_before_the_start() -> None:
    back = EventCondition("e", lookback=MINUTE)
    assert decided({"skip_if": back})[0] is Action.PEEK
    assert decided({"skip_if": back}, peeked=True)[0] is RUN
    assert decided({"cancel_if": back | NAP})[0] is Action.PEEK
    assert decided({"skip_if": back & NO})[0] is RUN
    assert decided({"wait_for": GO, "skip_if": back})[0] is HOLD
