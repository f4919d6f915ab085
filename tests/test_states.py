from __future__ import annotations

from typing import Any

import pytest

from orchestrator import states
from orchestrator.states import RunStatus, TaskRunStatus, WorkerStatus

MACHINES = [
    (RunStatus, states.RUN_TRANSITIONS),
    (TaskRunStatus, states.TASK_RUN_TRANSITIONS),
    (WorkerStatus, states.WORKER_TRANSITIONS),
]


@pytest.mark.parametrize(("enum", "transitions"), MACHINES)
def test_every_status_has_its_transitions(enum: Any, transitions: Any) -> None:
    assert list(transitions) == list(enum)
    assert all(
        after in enum for following in transitions.values() for after in following
    )


@pytest.mark.parametrize(("enum", "transitions"), MACHINES)
def test_every_status_leads_to_an_end(enum: Any, transitions: Any) -> None:
    ends = {status for status in enum if not transitions[status]}
    for status in enum:
        reached: set[Any] = {status}
        stack = [status]
        while stack:
            for after in transitions[stack.pop()] - reached:
                reached.add(after)
                stack.append(after)
        assert reached & ends, status


def test_terminal_statuses_are_those_without_a_way_on() -> None:
    assert {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED} == (
        states.TERMINAL_RUN
    )
    assert TaskRunStatus.SKIPPED in states.TERMINAL_TASK_RUN
    assert TaskRunStatus.WAITING not in states.TERMINAL_TASK_RUN


def test_an_operator_can_reopen_every_ended_run_and_nothing_else() -> None:
    assert set(states.RUN_REOPENINGS) == states.TERMINAL_RUN
    assert set(states.TASK_RUN_REOPENINGS) == states.TERMINAL_TASK_RUN


def test_statuses_are_stored_as_their_names() -> None:
    for enum in (RunStatus, TaskRunStatus, WorkerStatus, states.AttemptOutcome):
        assert enum.values == enum.names


def test_transitions_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        states.RUN_TRANSITIONS[RunStatus.FAILED] = frozenset()  # type: ignore[index]


def test_mermaid_draws_every_transition() -> None:
    text = states.mermaid(states.WORKER_TRANSITIONS)
    assert text.startswith("stateDiagram-v2\n")
    assert "    ACTIVE --> DRAINING" in text
    assert "    LOST --> [*]" in text
    arrows = sum(map(len, states.WORKER_TRANSITIONS.values()))
    assert text.count("-->") == arrows + 2
