"""Mutants: take a promise out of a statement, and a test that is named here fails.

This is how we know that the tests test (reliability 4.2, mutation gate). Above all:
without the fence of the settling statements, the suite fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import psycopg
import pytest

from orchestrator.engine.sessions import statements
from tests.engine import (
    test_cancel,
    test_claim,
    test_exchange,
    test_expire,
    test_fence,
    test_give_back,
    test_graph,
    test_outputs,
    test_promote,
    test_races,
    test_rescue,
    test_retry,
    test_settle,
    test_workers,
)
from tests.engine.lab import Lab
from tests.engine.mutants import CONDITIONS, LOCK, Killer, Mutant


def both(test: Callable[..., None]) -> tuple[Killer, ...]:
    """The test with the statement for a single task, and with that for a graph."""
    return (
        partial(test, make=test_fence.plain),
        partial(test, make=test_fence.graph),
    )


ATTEMPT = r"\n +AND lease\.attempt = report\.attempt"
WORKER = r"\n +AND lease\.worker_id IS NOT DISTINCT FROM %\(worker_id\)s::uuid"
LOCKED = r"\n +AND \w+\.run_id IN \(SELECT locked\.id FROM locked\)"

MUTANTS = {
    "settle without the attempt": Mutant(
        "settle",
        ATTEMPT,
        "",
        (
            *both(test_fence.test_an_attempt_that_is_over_is_refused),
            *both(test_fence.test_an_attempt_that_has_not_begun_is_refused),
            test_graph.test_an_old_attempts_report_is_refused_though_the_new_one_is_not,
        ),
    ),
    "settle without the worker": Mutant(
        "settle",
        WORKER,
        "",
        (*both(test_fence.test_another_workers_report_is_refused),),
    ),
    "settle without a fence": Mutant(
        "settle",
        f"({ATTEMPT})({WORKER})",
        "",
        (
            *both(test_fence.test_another_workers_report_is_refused),
            *both(test_fence.test_an_attempt_that_is_over_is_refused),
            *both(test_fence.test_a_rescued_attempts_report_is_refused),
        ),
    ),
    "settle without the runs that are locked": Mutant(
        "settle",
        LOCKED,
        "",
        (
            test_exchange.test_a_locked_run_is_deferred_and_settles_the_next_time,
            test_exchange.test_a_locked_graph_is_deferred_as_a_whole,
        ),
    ),
    "settle without locking the runs": Mutant(
        "settle",
        LOCK,
        "",
        (
            partial(
                test_races.test_a_sibling_that_meets_the_others_lock_is_deferred,
                b="complete",
                c="complete",
                expected={},
                first="b",
            ),
        ),
    ),
    "settle counts reports, not parents": Mutant(
        "settle",
        r"count\(DISTINCT edge\.parent\)",
        "count(*)",
        (
            partial(
                test_graph.test_the_same_report_twice_in_a_batch_counts_once, copies=2
            ),
            test_graph.test_an_old_attempts_report_beside_the_new_ones_counts_for_nothing,
        ),
    ),
    "settle sweeps nothing": Mutant(
        "settle",
        r"AND remaining = 0\n      AND NOT judged\n\)",
        "AND remaining < 0\n)",
        (test_graph.test_both_parents_in_one_batch_free_their_child_once,),
    ),
    "settle closes a run too early": Mutant(
        "settle",
        r"FROM counted WHERE remaining = 0",
        "FROM counted",
        (test_graph.test_a_failure_cancels_all_that_depends_on_it,),
    ),
    "settle retries without a new number": Mutant(
        "settle",
        r"attempt \+ 1, failures",
        "attempt, failures",
        (
            test_settle.test_a_retry_without_a_delay_is_queued_at_once,
            test_settle.test_a_backoff_holds_the_task_until_it_is_due,
        ),
    ),
    "claim waits": Mutant(
        "claim",
        "FOR UPDATE SKIP LOCKED",
        "FOR UPDATE",
        (test_claim.test_what_another_session_has_locked_is_passed_over,),
    ),
    "claim without an order": Mutant(
        "claim",
        r"ORDER BY item\.position\n",
        "ORDER BY item.position DESC\n",
        (
            test_claim.test_priorities_hold_across_the_lanes_of_a_queue,
            test_claim.test_equals_in_several_lanes_are_first_in_first_out,
        ),
    ),
    "claim from any queue": Mutant(
        "claim",
        r"ORDER BY candidate\.turn, ahead\.position",
        "ORDER BY ahead.position",
        (test_claim.test_a_batch_takes_from_the_first_queue_before_the_second,),
    ),
    "give back without the attempt": Mutant(
        "give_back",
        r"\n +AND lease\.attempt = held\.attempt",
        "",
        (test_give_back.test_another_attempts_lease_stays_where_it_is,),
    ),
    "give back without the worker": Mutant(
        "give_back",
        WORKER,
        "",
        (test_give_back.test_another_workers_lease_stays_where_it_is,),
    ),
    "promote without locking the runs": Mutant(
        "promote",
        LOCK,
        "",
        (test_promote.test_a_locked_run_is_passed_over_until_the_next_time,),
    ),
    "promote before its time": Mutant(
        "promote",
        r"due_at <= orchestrator_now\(\)",
        "true",
        (test_promote.test_nothing_moves_before_its_time,),
    ),
    "expire forgets what is claimed anew": Mutant(
        "give_back",
        r"ON CONFLICT \(task_run_id\) DO UPDATE SET expires_at = excluded\.expires_at",
        "ON CONFLICT DO NOTHING",
        (test_expire.test_what_was_given_back_has_a_deadline_of_its_own,),
    ),
    "cancel loses count": Mutant(
        "cancel",
        r"SET attempts = gone\.attempt - 1",
        "SET attempts = task_run.attempts",
        (
            test_cancel.test_a_backoff_ends_and_its_attempts_stay_counted,
            test_cancel.test_what_is_queued_again_ends_and_its_attempts_stay_counted,
        ),
    ),
    "retry counts from one": Mutant(
        "retry",
        r"attempts \+ 1",
        "1",
        (test_retry.test_a_retry_of_a_retry_goes_on_counting,),
    ),
    "retry forgets what stays failed": Mutant(
        "retry",
        r"%\(failed\)s::int",
        "0",
        (test_retry.test_a_branch_that_is_not_retried_still_counts,),
    ),
    "outputs of what has not ended": Mutant(
        "outputs",
        "status IS NOT NULL",
        "status IS NULL",
        (test_outputs.test_direct_parents_alone_and_by_name,),
    ),
    "a duty for everybody": Mutant(
        "duties",
        r"WHERE duty\.expires_at <= orchestrator_now\(\)",
        "WHERE true",
        (test_workers.test_a_duty_is_taken_once_in_its_time,),
    ),
    "a heartbeat of the dead": Mutant(
        "workers",
        r" AND status IN \('ACTIVE', 'DRAINING', 'PAUSED'\)",
        "",
        (test_workers.test_a_worker_that_is_gone_hears_so_at_its_heartbeat,),
    ),
    "lost too soon": Mutant(
        "rescue",
        r"< orchestrator_now\(\) - %\(lost_after\)s",
        "< orchestrator_now() + %(lost_after)s",
        (test_rescue.test_a_worker_without_a_heartbeat_is_lost,),
    ),
    **CONDITIONS,
}
PAIRS = [(mutant, killer) for mutant in MUTANTS.values() for killer in mutant.killers]


def named(value: Any) -> str | None:
    if isinstance(value, Mutant):
        return next(name for name, mutant in MUTANTS.items() if mutant is value)
    function = value.func if isinstance(value, partial) else value
    return cast(str, function.__name__)


@pytest.mark.parametrize(("mutant", "killer"), PAIRS, ids=named)
def test_the_suite_notices(
    lab: Lab, mutant: Mutant, killer: Killer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cast(dict[str, bytes], statements(mutant.verb))
    changed = 0
    for step, text in list(found.items()):
        mutated, count = re.subn(mutant.old, mutant.new, text.decode())
        changed += count
        monkeypatch.setitem(found, step, mutated.encode())
    assert changed > 0, "The mutant is out of date: its text is not in the file."
    usual = lab.connect

    def impatient(**options: bool) -> psycopg.Connection[Any]:
        connection = usual(**options)
        connection.execute("SET lock_timeout = '100ms'")
        return connection

    monkeypatch.setattr(lab, "connect", impatient)
    lab.renew()
    with pytest.raises((AssertionError, ValueError, psycopg.Error)):
        killer(lab)
    lab.renew()  # an error at the commit of a pipeline breaks its connection
    lab.forget()
