"""Exchange: locked runs wait for the next batch, poisoned results are found."""

from __future__ import annotations

import logging
import time
from typing import Any

import psycopg
import pytest

from orchestrator.engine import sessions
from orchestrator.engine.claim import Claim
from orchestrator.engine.settle import Result
from orchestrator.states import AttemptOutcome
from tests.engine.lab import AT_ONCE, LATER, Lab, task

POISON = {
    "a NUL in the output": {"output": '"\\u0000"'},
    "an output that is no JSON": {"output": "{"},
    "an output that is two": {"output": "1, 2"},
    "an output that breaks out": {"output": "1], [2"},
    "a lone surrogate in the output": {"output": '"\\ud800"'},
    "a NUL in the error": {"error": '{"message": "\\u0000"}'},
    "an error that is no JSON": {"error": "oops"},
    "an error that is two": {"error": "{}, {}"},
    "a NUL in the reason": {"reason": "a\0b"},
    "a surrogate in the reason": {"reason": "a\ud800b"},
    "a time beyond the calendar": {"started": -1e15},
}


def poisoned(lab: Lab, claim: Claim, **how: Any) -> Result:
    return lab.completed(claim)._replace(**how)


def test_a_locked_run_is_deferred_and_settles_the_next_time(lab: Lab) -> None:
    run_ids = lab.enqueue(lab.shape("one"), 5)
    claims = lab.main.claim()
    results = {claim.run_id: lab.completed(claim) for claim in claims}
    other = lab.connect()
    with other.transaction():
        other.execute(
            "SELECT FROM orchestrator_run WHERE id = ANY (%s) FOR UPDATE",
            [[run_ids[1], run_ids[3]]],
        )
        exchanged = lab.main.exchange(list(results.values()))
        assert exchanged.accepted == 3
        assert {r.claim.run_id for r in exchanged.deferred} == {run_ids[1], run_ids[3]}
        assert exchanged.refused == []
        assert lab.count("lease") == 2
    again = lab.main.exchange(exchanged.deferred)
    assert again.accepted == 2
    assert {lab.status(run_id) for run_id in run_ids} == {"COMPLETED"}


def test_a_locked_graph_is_deferred_as_a_whole(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("two", "a", "b", task("c", "a", "b")))
    results = [lab.completed(claim) for claim in lab.main.claim()]
    other = lab.connect()
    with other.transaction():
        other.execute("SELECT FROM orchestrator_run WHERE id = %s FOR UPDATE", [run_id])
        exchanged = lab.main.exchange(results)
        assert (exchanged.accepted, exchanged.deferred) == (0, results)
    assert lab.main.exchange(results).accepted == 2
    assert lab.places(run_id) == {"c": "queued"}


def test_a_stale_report_of_a_locked_run_is_refused_in_the_end(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", retries=AT_ONCE))
    old = lab.main.claim_one()
    lab.main.fail(old)
    new = lab.main.claim_one()
    late = lab.completed(old)
    other = lab.connect()
    with other.transaction():
        other.execute("SELECT FROM orchestrator_run WHERE id = %s FOR UPDATE", [run_id])
        assert lab.main.exchange([late]).deferred == [late]
    assert lab.main.exchange([late]).refused == [late]
    lab.main.complete(new)


@pytest.mark.parametrize("graph", [False, True], ids=["plain", "graph"])
@pytest.mark.parametrize("how", POISON.values(), ids=list(POISON))
def test_one_poisoned_result_is_found_and_its_neighbours_settle(
    lab: Lab, how: dict[str, Any], graph: bool
) -> None:
    lab.enqueue(lab.diamond() if graph else lab.shape("one"), 7)
    claims = lab.main.claim()
    results = [lab.completed(claim, output=1) for claim in claims]
    results[4] = poisoned(lab, claims[4], **how)
    exchanged = lab.main.exchange(results, lab.main.demand())
    assert exchanged.accepted == 6
    [(rejected, error)] = exchanged.rejected
    assert rejected == results[4]
    assert isinstance(error, Exception)
    assert lab.places(claims[4].run_id)[lab.name(claims[4])] == "leased"
    # A reduced report then fits: nothing is retried forever.
    assert lab.main.fail(claims[4]).accepted == 1


@pytest.mark.parametrize("graph", [False, True], ids=["plain", "graph"])
@pytest.mark.parametrize("how", POISON.values(), ids=list(POISON))
def test_a_new_connection_survives_poison_in_its_first_batch(
    lab: Lab, how: dict[str, Any], graph: bool
) -> None:
    """Of a pipeline that fails, the server has not prepared what the driver has."""
    run_ids = lab.enqueue(lab.diamond() if graph else lab.shape("one"), 3)
    claims = lab.main.claim()
    hand = lab.hand(fresh=True)
    hand.key = lab.main.key
    results = [lab.completed(claim) for claim in claims]
    results[1] = poisoned(lab, claims[1], **how)
    exchanged = hand.exchange(results, hand.demand())
    assert (exchanged.accepted, len(exchanged.rejected)) == (2, 1)
    assert hand.fail(claims[1]).accepted == 1
    assert hand.drain() == (6 if graph else 0)
    assert [lab.status(run_id) for run_id in run_ids].count("COMPLETED") == 2


def test_a_batch_of_both_kinds_settles_as_one_or_not_at_all(lab: Lab) -> None:
    """What was sent before a result that cannot be sent is not committed for it."""
    run_ids = lab.enqueue(lab.shape("one"), 3)
    lab.enqueue_one(lab.shape("two", "a", "b"))
    claims = lab.main.claim()
    results = [lab.completed(claim) for claim in claims]
    bad = next(n for n, claim in enumerate(claims) if claim.run_id not in run_ids)
    results[bad] = poisoned(lab, claims[bad], reason="a\ud800b")
    exchanged = lab.main.exchange(results)
    assert (exchanged.accepted, exchanged.refused) == (4, [])
    assert [found for found, _ in exchanged.rejected] == [results[bad]]


def test_a_poisoned_result_is_found_at_each_position(lab: Lab) -> None:
    size = 9
    shape = lab.shape("one")
    for position in range(size):
        lab.enqueue(shape, size)
        claims = lab.main.claim()
        results = [lab.completed(claim) for claim in claims]
        results[position] = poisoned(lab, claims[position], output='"\\u0000"')
        exchanged = lab.main.exchange(results)
        assert exchanged.accepted == size - 1
        assert [found for found, _ in exchanged.rejected] == [results[position]]
        lab.main.fail(claims[position])
    assert lab.violations(at_rest=True) == []


def test_several_poisoned_results_are_all_found(lab: Lab) -> None:
    lab.enqueue(lab.shape("one"), 12)
    claims = lab.main.claim()
    bad = {0, 5, 6, 11}
    results = [
        poisoned(lab, claim, output="{") if n in bad else lab.completed(claim)
        for n, claim in enumerate(claims)
    ]
    exchanged = lab.main.exchange(results)
    assert exchanged.accepted == 8
    assert [found for found, _ in exchanged.rejected] == [
        results[n] for n in sorted(bad)
    ]
    lab.main.fail(*[claims[n] for n in bad])


def test_all_of_a_batch_may_be_poisoned(lab: Lab) -> None:
    lab.enqueue(lab.shape("one"), 5)
    claims = lab.main.claim()
    exchanged = lab.main.exchange([poisoned(lab, c, output="{") for c in claims])
    assert exchanged.accepted == 0
    assert len(exchanged.rejected) == 5
    lab.main.fail(*claims)


def test_a_bisected_batch_still_tells_deferred_from_refused(lab: Lab) -> None:
    run_ids = lab.enqueue(lab.shape("one", retries=LATER), 6)
    claims = {claim.run_id: claim for claim in lab.main.claim()}
    lab.main.fail(claims[run_ids[0]])  # its next report comes too late
    results = [lab.completed(claims[run_id]) for run_id in run_ids]
    results[5] = poisoned(lab, claims[run_ids[5]], output="{")
    other = lab.connect()
    with other.transaction():
        other.execute(
            "SELECT FROM orchestrator_run WHERE id = %s FOR UPDATE", [run_ids[2]]
        )
        exchanged = lab.main.exchange(results)
    assert exchanged.accepted == 3
    assert exchanged.refused == [results[0]]
    assert exchanged.deferred == [results[2]]
    assert [found for found, _ in exchanged.rejected] == [results[5]]


def test_a_poisoned_parent_frees_nobody(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    claim = lab.main.claim_one()
    lab.main.exchange([poisoned(lab, claim, output="{")])
    assert lab.places(run_id)["b"] == "pending"
    lab.main.complete(claim)


def test_trouble_that_is_not_the_datas_is_raised_and_changes_nothing(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.enqueue(lab.shape("one"), 3)
    claims = lab.main.claim()
    hand = lab.hand()
    hand.key = lab.main.key
    lab.connect().execute(
        "SELECT pg_terminate_backend(%s)", [hand.connection.info.backend_pid]
    )
    with caplog.at_level(logging.CRITICAL), pytest.raises(psycopg.OperationalError):
        hand.exchange([lab.completed(claim) for claim in claims], hand.demand())
    assert lab.count("lease") == 3
    assert lab.main.complete(*claims).accepted == 3


def test_a_statement_timeout_is_raised_and_changes_nothing(lab: Lab) -> None:
    lab.enqueue(lab.shape("one"), 3)
    claims = lab.main.claim()
    hand = lab.hand()
    hand.key = lab.main.key
    hand.connection.execute("SET statement_timeout = '50ms'")
    other = lab.connect()
    with other.transaction():
        other.execute("LOCK TABLE orchestrator_task_run IN EXCLUSIVE MODE")
        with pytest.raises(psycopg.errors.QueryCanceled):
            hand.exchange([lab.completed(claim) for claim in claims])
    hand.connection.execute("SET statement_timeout = '60s'")
    assert hand.complete(*claims).accepted == 3


def test_nothing_to_say_is_nothing_done(lab: Lab) -> None:
    exchanged = lab.main.exchange([])
    assert (exchanged.accepted, exchanged.claims) == (0, [])


def test_an_ambiguous_commit_is_harmless(lab: Lab) -> None:
    """The reply was lost: the same batch is sent again, and counts once (F17)."""
    run_ids = lab.enqueue(lab.diamond(), 3)
    claims = lab.main.claim()
    results = [lab.completed(claim) for claim in claims]
    lab.main.exchange(results)
    again = lab.main.exchange(results)
    assert (again.accepted, again.refused) == (0, results)
    for run_id in run_ids:
        assert lab.places(run_id) == {"b": "queued", "c": "queued", "d": "pending"}


def test_a_repeatable_read_default_is_overruled(lab: Lab) -> None:
    """A role whose default isolation is higher (F35): the engine's is its own."""
    name = lab.value("SELECT current_database()")
    guard = lab.connect()
    guard.execute(
        f'ALTER DATABASE "{name}" SET default_transaction_isolation ='
        " 'repeatable read'".encode()
    )
    try:
        connection = sessions.connect(application_name="orchestrator-lab")
        lab.connections.append(connection)
        hand = lab.hand()
        hand.connection, hand.session = connection, sessions.WorkerSession(connection)
        lab.enqueue(lab.shape("one"), 2)
        now = time.monotonic()
        claims = hand.claim()
        results = [Result(c, AttemptOutcome.COMPLETED, now, now) for c in claims]
        assert hand.exchange(results).accepted == 2
        with connection.transaction():
            row = connection.execute("SHOW transaction_isolation").fetchone()
        assert row == ("read committed",)
    finally:
        guard.execute(
            f'ALTER DATABASE "{name}" RESET default_transaction_isolation'.encode()
        )
