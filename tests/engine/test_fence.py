"""The fence: what is not the lease's own report changes nothing, anywhere.

Covers reliability F03 and F69. `test_mutants.py` takes the fence away and expects each
of these tests to fail.
"""

from __future__ import annotations

from uuid import UUID

import pytest

from orchestrator import ids
from orchestrator.engine.cancel import cancel
from orchestrator.engine.claim import Claim
from orchestrator.engine.exchange import Exchanged
from orchestrator.engine.rescue import rescue
from orchestrator.engine.shapes import Shape
from tests.engine.lab import AT_ONCE, LATER, Lab, task
from tests.engine.pool import ROWS


def everything(lab: Lab) -> dict[str, list[tuple[str]]]:
    """Every row of every table, as text."""
    return {
        name: lab.rows(f"SELECT t::text FROM orchestrator_{name} t ORDER BY 1")
        for name in ROWS
    }


def changes_nothing(lab: Lab, result: object, hand: object = None) -> Exchanged:
    """Report `result`; it must be refused, and no row may change."""
    before = everything(lab)
    reporter = hand or lab.main
    exchanged: Exchanged = reporter.exchange([result])  # type: ignore[attr-defined]
    assert exchanged.refused == [result]
    assert (exchanged.accepted, exchanged.deferred, exchanged.queues) == (0, [], set())
    assert everything(lab) == before
    return exchanged


def plain(lab: Lab) -> Shape:
    return lab.shape("one", retries=AT_ONCE)


def graph(lab: Lab) -> Shape:
    return lab.shape("chain", task("a", retries=AT_ONCE), task("b", "a"))


SHAPES = [pytest.param(plain, id="plain"), pytest.param(graph, id="graph")]


@pytest.mark.parametrize("make", SHAPES)
def test_another_workers_report_is_refused(lab: Lab, make: object) -> None:
    lab.enqueue_one(make(lab))  # type: ignore[operator]
    claim = lab.main.claim_one()
    stranger = lab.hand()
    changes_nothing(lab, lab.completed(claim), stranger)
    changes_nothing(lab, lab.failed(claim), stranger)
    changes_nothing(lab, lab.failed(claim, retryable=False), stranger)
    assert lab.main.complete(claim).accepted == 1


@pytest.mark.parametrize("make", SHAPES)
def test_an_attempt_that_is_over_is_refused(lab: Lab, make: object) -> None:
    lab.enqueue_one(make(lab))  # type: ignore[operator]
    first = lab.main.claim_one()
    lab.main.fail(first)
    second = lab.main.claim_one()
    assert second.attempt == 2
    changes_nothing(lab, lab.completed(first, output="late"))
    changes_nothing(lab, lab.failed(first))
    changes_nothing(lab, lab.failed(first, retryable=False))
    assert lab.main.complete(second).accepted == 1


@pytest.mark.parametrize("make", SHAPES)
def test_an_attempt_that_has_not_begun_is_refused(lab: Lab, make: object) -> None:
    lab.enqueue_one(make(lab))  # type: ignore[operator]
    claim = lab.main.claim_one()
    future = claim._replace(attempt=2)
    changes_nothing(lab, lab.completed(future))
    changes_nothing(lab, lab.failed(future, retryable=False))
    assert lab.main.complete(claim).accepted == 1


@pytest.mark.parametrize("make", SHAPES)
def test_the_second_of_two_equal_reports_is_refused(lab: Lab, make: object) -> None:
    lab.enqueue_one(make(lab))  # type: ignore[operator]
    claim = lab.main.claim_one()
    lab.main.complete(claim, output=1)
    changes_nothing(lab, lab.completed(claim, output=2))
    changes_nothing(lab, lab.failed(claim))


def test_a_failure_that_is_reported_twice_is_retried_once(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one", retries=LATER))
    claim = lab.main.claim_one()
    lab.main.fail(claim)
    changes_nothing(lab, lab.failed(claim))
    assert lab.count("delayed_item") == 1


@pytest.mark.parametrize("make", SHAPES)
def test_a_rescued_attempts_report_is_refused(lab: Lab, make: object) -> None:
    """A worker frozen beyond its time wakes up and reports, to a task claimed anew."""
    run_id = lab.enqueue_one(make(lab))  # type: ignore[operator]
    frozen = lab.hand()
    [old] = frozen.claim()
    assert rescue(lab.session, frozen.worker_id) == 1
    changes_nothing(lab, lab.completed(old, output="late"), frozen)
    new = lab.main.claim_one()
    changes_nothing(lab, lab.completed(old, output="late"), frozen)
    changes_nothing(lab, lab.failed(old, retryable=False), frozen)
    lab.main.complete(new, output="right")
    changes_nothing(lab, lab.completed(old, output="late"), frozen)
    assert lab.task_run(run_id)["output"] == "right"


@pytest.mark.parametrize("make", SHAPES)
def test_a_cancelled_attempts_report_is_refused(lab: Lab, make: object) -> None:
    run_id = lab.enqueue_one(make(lab))  # type: ignore[operator]
    claim = lab.main.claim_one()
    assert cancel(lab.session, [run_id], reason="enough") == [run_id]
    changes_nothing(lab, lab.completed(claim, output=1))
    changes_nothing(lab, lab.failed(claim))
    changes_nothing(lab, lab.failed(claim, retryable=False))


def test_one_stale_report_does_not_touch_its_neighbours(lab: Lab) -> None:
    shape = lab.shape("one", retries=AT_ONCE)
    lab.enqueue(shape, 20)
    claims = lab.main.claim(20)
    lab.main.fail(claims[7])
    results = [lab.completed(claim) for claim in claims]
    exchanged = lab.main.exchange(results)
    assert exchanged.accepted == 19
    assert exchanged.refused == [results[7]]


def test_a_report_of_a_task_that_never_was_is_refused(lab: Lab) -> None:
    [run_id] = lab.enqueue(plain(lab))
    claim = lab.main.claim_one()
    ghost: Claim = claim._replace(task_run_id=ids.task_run_id(run_id, 99))
    changes_nothing(lab, lab.completed(ghost))
    changes_nothing(lab, lab.failed(ghost))
    lab.main.complete(claim)


def test_a_report_for_a_run_that_is_gone_waits_and_changes_nothing(lab: Lab) -> None:
    lab.enqueue_one(plain(lab))
    claim = lab.main.claim_one()
    ghost = lab.completed(claim._replace(run_id=UUID(int=claim.run_id.int ^ 1)))
    before = everything(lab)
    exchanged = lab.main.exchange([ghost])
    assert exchanged.accepted == 0
    assert everything(lab) == before
    lab.main.complete(claim)
