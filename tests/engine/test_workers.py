"""Workers and duties: who is alive, and who does what only one may do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from orchestrator.engine import duties, rescue, workers
from orchestrator.states import WORKER_TRANSITIONS, WorkerStatus
from tests.engine.lab import Hand, Lab
from tests.engine.pool import rolled_back
from tests.engine.races import Background, together, wait_until_blocked

MINUTE = timedelta(minutes=1)


def row(lab: Lab, hand: Hand) -> tuple[Any, ...]:
    [found] = lab.rows(
        "SELECT status, heartbeat_at, stopped_at FROM orchestrator_worker"
        " WHERE id = %s",
        hand.worker_id,
    )
    return found


def test_a_worker_is_written_with_what_it_says_of_itself(lab: Lab) -> None:
    worker_id = uuid4()
    big = 2**62 + 1
    workers.register_worker(
        lab.session,
        worker_id,
        name="w",
        hostname="h",
        pid=42,
        queues=["b", "a"],
        labels={"zone": "eu"},
        tasks=[big],
        slots=8,
        processes=2,
    )
    assert lab.rows(
        "SELECT name, hostname, pid, status, queues, labels, tasks, slots, processes,"
        " stopped_at FROM orchestrator_worker WHERE id = %s",
        worker_id,
    ) == [("w", "h", 42, "ACTIVE", ["b", "a"], {"zone": "eu"}, [str(big)], 8, 2, None)]


def test_two_workers_of_one_host_and_pid_are_two(lab: Lab) -> None:
    """Identity is the boot, not the name (reliability F09)."""
    first, second = lab.hand().sign_up(), lab.hand().sign_up()
    workers.stop(lab.session, first.worker_id)
    assert row(lab, second)[0] == "ACTIVE"


def test_signing_up_twice_changes_nothing(lab: Lab) -> None:
    hand = lab.hand().sign_up()
    workers.set_status(lab.session, hand.worker_id, WorkerStatus.PAUSED)
    hand.sign_up()
    assert row(lab, hand)[0] == "PAUSED"


def test_a_heartbeat_moves_the_time(lab: Lab) -> None:
    hand = lab.hand().sign_up()
    _, before, _ = row(lab, hand)
    lab.main.travel(seconds=5)
    assert workers.heartbeat(lab.session, hand.worker_id)
    _, after, _ = row(lab, hand)
    assert after - before > timedelta(seconds=4)


def test_a_worker_that_is_gone_hears_so_at_its_heartbeat(lab: Lab) -> None:
    hand = lab.hand().sign_up()
    lab.main.travel(seconds=31)
    rescue.find_lost(lab.session)
    assert not workers.heartbeat(hand.session, hand.worker_id)
    assert not workers.set_status(hand.session, hand.worker_id, WorkerStatus.DRAINING)
    workers.stop(hand.session, hand.worker_id)
    assert row(lab, hand)[0] == "LOST"
    assert not workers.heartbeat(hand.session, uuid4())


def test_a_stopped_worker_has_an_end(lab: Lab) -> None:
    hand = lab.hand().sign_up()
    workers.stop(lab.session, hand.worker_id)
    status, _, stopped = row(lab, hand)
    assert status == "STOPPED"
    assert stopped is not None
    assert not workers.heartbeat(hand.session, hand.worker_id)


LIVING = [WorkerStatus.ACTIVE, WorkerStatus.PAUSED, WorkerStatus.DRAINING]


@pytest.mark.parametrize("after", LIVING)
@pytest.mark.parametrize("before", LIVING)
def test_a_status_moves_along_the_states_only(
    lab: Lab, before: WorkerStatus, after: WorkerStatus
) -> None:
    hand = lab.hand().sign_up()
    workers.set_status(lab.session, hand.worker_id, before)
    moved = workers.set_status(lab.session, hand.worker_id, after)
    legal = before == after or after in WORKER_TRANSITIONS[before]
    assert moved == legal
    assert row(lab, hand)[0] == (after if legal else before)


# A heartbeat and the one who declares it lost.


def test_a_heartbeat_that_comes_first_saves_the_worker(lab: Lab) -> None:
    hand = lab.hand().sign_up()
    hand.travel(seconds=31)
    lab.main.travel(seconds=31)
    with hand.session.transaction():
        assert workers.heartbeat(hand.session, hand.worker_id)
        rescue.find_lost(lab.session)  # passes over what is locked
    rescue.find_lost(lab.session)
    assert row(lab, hand)[0] == "ACTIVE"


def test_a_heartbeat_that_comes_second_is_told(lab: Lab) -> None:
    hand = lab.hand().sign_up()
    hand.travel(seconds=31)
    lab.main.travel(seconds=31)
    with lab.session.transaction():
        lab.main.connection.execute(
            "UPDATE orchestrator_worker SET status = 'LOST', stopped_at = now()"
        )
        beating = Background(lambda: workers.heartbeat(hand.session, hand.worker_id))
        wait_until_blocked(lab.connect(), hand.connection)
    assert beating.result() is False


def test_a_heartbeat_and_a_declaration_at_once_agree(lab: Lab) -> None:
    hand = lab.hand()
    for _ in range(60):
        hand.key = type(hand.key)(uuid4(), 1)
        hand.sign_up()
        hand.travel(seconds=40)
        lab.main.travel(seconds=40)
        beat, _ = together(
            lambda: workers.heartbeat(hand.session, hand.worker_id),
            lambda: rescue.find_lost(lab.session),
        )
        assert row(lab, hand)[0] == ("ACTIVE" if beat else "LOST")


# Duties.


def take(lab: Lab, holder: str = "me", **options: Any) -> bool:
    session = options.pop("session", lab.session)
    return duties.take(session, "vacuum", holder, options.get("every", MINUTE))


def test_a_duty_is_taken_once_in_its_time(lab: Lab) -> None:
    assert take(lab)
    assert not take(lab)
    assert not take(lab, "you")
    lab.main.travel(seconds=61)
    assert take(lab, "you")
    assert not take(lab, "me")
    holder, expires, last = lab.rows(
        "SELECT holder, expires_at, last_run_at FROM orchestrator_duty"
    )[0]
    assert holder == "you"
    assert expires - last == MINUTE


def test_duties_of_several_names_are_apart(lab: Lab) -> None:
    assert duties.take(lab.session, "one", "me", MINUTE)
    assert duties.take(lab.session, "two", "me", MINUTE)


def test_of_two_schedulers_one_takes_a_new_duty(lab: Lab) -> None:
    other = lab.hand()
    for number in range(40):
        taken = together(
            lambda n=number: duties.take(lab.session, f"d{n}", "a", MINUTE),  # type: ignore[misc]
            lambda n=number: duties.take(other.session, f"d{n}", "b", MINUTE),  # type: ignore[misc]
        )
        assert sorted(taken) == [False, True]


def test_of_two_schedulers_one_takes_a_duty_that_is_due_again(lab: Lab) -> None:
    other = lab.hand()
    assert take(lab)
    for _ in range(40):
        lab.main.travel(seconds=120)
        other.connection.execute(
            "SELECT set_config('orchestrator.now', %s, false)",
            [lab.value("SELECT current_setting('orchestrator.now')")],
        )
        taken = together(
            lambda: take(lab, "a"), lambda: take(lab, "b", session=other.session)
        )
        assert sorted(taken) == [False, True]


def test_a_duty_whose_taking_rolls_back_is_free(lab: Lab) -> None:
    other = lab.hand()
    with rolled_back(lab.session.transaction()):
        assert take(lab)
        waiting = Background(lambda: take(lab, "b", session=other.session))
        wait_until_blocked(lab.connect(), other.connection)
    assert waiting.result() is True
