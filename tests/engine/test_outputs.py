"""Outputs and outcome: what parents returned, and where a run is."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from orchestrator.engine import outcome
from orchestrator.engine.cancel import cancel
from orchestrator.engine.outputs import ParentOutput, parent_outputs
from orchestrator.engine.retry import retry
from tests.engine.lab import AT_ONCE, LATER, Lab, task


def test_claims_without_parents_are_not_among_the_keys(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one"))
    lab.enqueue_one(lab.diamond())
    assert parent_outputs(lab.session, lab.main.claim()) == {}
    assert parent_outputs(lab.session, []) == {}


def test_direct_parents_alone_and_by_name(lab: Lab) -> None:
    shape = lab.shape("chain", "a", task("b", "a"), task("c", "b"))
    lab.enqueue_one(shape)
    for output in (1, 2):
        lab.main.complete(lab.main.claim_one(), output=output)
    claim = lab.main.claim_one()
    assert parent_outputs(lab.session, [claim]) == {
        claim.task_run_id: {"b": ParentOutput("COMPLETED", "2")}
    }


@pytest.mark.parametrize(
    "value", [False, 0, "", [], {}, {"ü": ["\\u0000", 1.5, None, True]}, "x" * 100_000]
)
def test_an_output_comes_back_as_it_was(lab: Lab, value: Any) -> None:
    lab.enqueue_one(lab.shape("chain", "a", task("b", "a")))
    claim = lab.main.claim_one()
    result = lab.completed(claim)._replace(output=json.dumps(value))
    lab.main.exchange([result])
    child = lab.main.claim_one()
    found = parent_outputs(lab.session, [child])[child.task_run_id]["a"].output
    assert found is not None
    assert json.loads(found) == value


def test_a_parent_without_an_output_has_none(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("chain", "a", task("b", "a")))
    lab.main.complete(lab.main.claim_one())
    child = lab.main.claim_one()
    found = parent_outputs(lab.session, [child])
    assert found == {child.task_run_id: {"a": ParentOutput("COMPLETED", None)}}


def test_many_claims_are_one_statement_and_do_not_mix(lab: Lab) -> None:
    shape = lab.shape("chain", "a", task("b", "a"))
    lab.enqueue(shape, [str(n) for n in range(200)])
    claims = lab.main.claim(200)
    lab.main.exchange([lab.completed(c, output=int(c.input)) for c in claims])
    children = lab.main.claim(200)
    found = parent_outputs(lab.session, children)
    assert {c.input for c in children} == {str(n) for n in range(200)}
    for child in children:
        assert found[child.task_run_id]["a"].output == child.input


def test_after_a_retry_the_new_output_is_read(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("chain", "a", task("b", "a")))
    lab.main.complete(lab.main.claim_one(), output="old")
    lab.main.fail(lab.main.claim_one())
    retry(lab.session, run_id, tasks="all")
    lab.main.complete(lab.main.claim_one(), output="new")
    child = lab.main.claim_one()
    found = parent_outputs(lab.session, [child])[child.task_run_id]["a"]
    assert found.output == '"new"'


# Outcome.


def test_a_run_that_is_not_there_is_none(lab: Lab) -> None:
    assert outcome.run_state(lab.session, uuid4()) is None


def test_the_status_follows_the_run(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", retries=AT_ONCE))
    seen = [lab.status(run_id)]
    claim = lab.main.claim_one()
    seen.append(lab.status(run_id))
    lab.main.fail(claim)
    seen.append(lab.status(run_id))
    lab.main.complete(lab.main.claim_one())
    seen.append(lab.status(run_id))
    assert seen == ["QUEUED", "RUNNING", "RUNNING", "COMPLETED"]


def test_the_tasks_are_read_at_the_end_alone(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    assert lab.state(run_id).tasks == ()
    lab.main.drain()
    assert [t.name for t in lab.state(run_id).tasks] == ["a", "b", "c", "d"]


def test_errors_are_those_of_the_last_attempts_of_failed_tasks(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("two", task("a", retries=AT_ONCE), "b"))
    claims = {lab.name(c): c for c in lab.main.claim()}
    lab.main.fail(claims["a"], message="first")
    lab.main.complete(claims["b"], output=1)
    lab.main.fail(lab.main.claim_one(), message="second")
    a, b = lab.state(run_id).tasks
    assert a.error is not None
    assert a.error["message"] == "second"
    assert (b.error, b.output) == (None, "1")


def test_an_error_that_a_retry_mended_is_not_shown(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", retries=AT_ONCE))
    lab.main.fail(lab.main.claim_one())
    lab.main.complete(lab.main.claim_one())
    assert lab.state(run_id).tasks[0].error is None


def test_a_cancelled_run_has_reasons_and_no_errors(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond(retries=LATER))
    lab.main.fail(lab.main.claim_one())
    cancel(lab.session, [run_id], reason="stop")
    for node in lab.state(run_id).tasks:
        assert (node.status, node.status_reason, node.error) == (
            "CANCELLED",
            "stop",
            None,
        )


def test_unfinished_tasks_have_no_status_yet(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("chain", "a", task("b", "a")))
    lab.main.complete(lab.main.claim_one(), output=1)
    assert lab.statuses(run_id) == {"a": "COMPLETED", "b": None}
