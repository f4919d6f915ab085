"""Verdict: whether a failed or lost attempt is followed by another one."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.engine import verdict
from orchestrator.engine.claim import Claim
from orchestrator.engine.shapes import Shape
from orchestrator.states import AttemptOutcome

ERROR = {"type": "shop.errors.NoStock", "message": "none left", "traceback": "…"}


def claim(*, attempt: int = 1, failures: int = 0, losses: int = 0) -> Claim:
    zero = UUID(int=0)
    counts = (attempt, failures, losses)
    return Claim(zero, zero, 1, 1, *counts, 1, 0, "", "{}", "null")


def node(**options: Any) -> Any:
    return Shape.build("w", {"tasks": [{"name": "pay", **options}]}).tasks[0]


def failed(failures: int, retries: dict[str, Any] | None, **options: Any) -> Any:
    return verdict.failed(
        claim(attempt=failures + 1, failures=failures),
        node(retries=retries),
        ERROR,
        started=1.0,
        finished=2.0,
        **options,
    )


@pytest.mark.parametrize("attempts", [0, 1, 3])
def test_there_are_as_many_retries_as_the_policy_has(attempts: int) -> None:
    policy = {"attempts": attempts}
    finals = [failed(n, policy).final for n in range(attempts + 1)]
    assert finals == [False] * attempts + [True]


def test_a_delay_follows_from_the_number_of_the_failure() -> None:
    policy = {"attempts": 9, "initial": 2, "factor": 3, "max": 20, "jitter": False}
    delays = [failed(n, policy).retry_in for n in range(4)]
    assert delays == [timedelta(seconds=s) for s in (2, 6, 18, 20)]


def test_a_delay_of_nothing_is_at_once() -> None:
    result = failed(0, {"attempts": 1, "initial": 0})
    assert not result.final
    assert not result.retry_in


def test_without_a_policy_the_first_failure_is_the_last() -> None:
    result = failed(0, None)
    assert (result.final, result.retry_in) == (True, None)
    assert result.reason == 'Task "pay" failed: NoStock: none left'
    assert json.loads(result.error) == ERROR


def test_what_cannot_be_mended_is_final_at_once() -> None:
    assert failed(0, {"attempts": 5}, retryable=False).final


def test_the_outcome_may_be_a_timeout() -> None:
    result = failed(0, None, outcome=AttemptOutcome.TIMED_OUT)
    assert result.outcome == AttemptOutcome.TIMED_OUT


def test_lost_attempts_use_a_budget_of_their_own() -> None:
    finals = []
    for losses in range(5):
        result = verdict.lost(
            claim(losses=losses, failures=99), node(), "gone", started=1, finished=2
        )
        assert result.outcome == AttemptOutcome.LOST
        assert result.retry_in is None
        finals.append(result.final)
    assert finals == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("", ""),
        ("  \n\n", ""),
        ("first\nsecond", ": first"),
        ("\n  first  \nsecond", ": first  "),
        ("x" * 1_000, ": " + "x" * 200),
    ],
)
def test_a_reason_is_one_short_line(message: str, line: str) -> None:
    result = verdict.failed(
        claim(), node(), {**ERROR, "message": message}, started=1, finished=2
    )
    assert result.reason == f'Task "pay" failed: NoStock{line}'
