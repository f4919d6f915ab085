"""Keys: one holder at a time, whoever comes first, and free again when it is over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from orchestrator.engine import cancel, keys, retry
from orchestrator.engine.keys import Key
from orchestrator.engine.shapes import Shape
from tests.engine.lab import Hand, Lab
from tests.engine.races import Background, together, wait_until_blocked

MINUTE = timedelta(minutes=1)


def key(
    name: str = "k",
    run_id: UUID | None = None,
    *,
    finished: bool = False,
    **options: Any,
) -> Key:
    return Key(
        options.get("scope", "wf"),
        name,
        run_id or uuid4(),
        options.get("ttl", MINUTE),
        finished,
    )


def hold(hand: Hand, *wanted: Key) -> dict[UUID, UUID]:
    with hand.session.joined():
        return keys.claim(hand.session, wanted)


def started(lab: Lab, shape: Shape) -> UUID:
    return lab.enqueue_one(shape)


def test_the_first_holds_a_key_and_the_second_learns_by_whom(lab: Lab) -> None:
    first, second = key(), key()
    assert hold(lab.main, first) == {}
    assert hold(lab.main, second) == {second.run_id: first.run_id}


def test_a_key_is_another_one_in_another_scope(lab: Lab) -> None:
    assert hold(lab.main, key(), key(scope="other")) == {}
    assert lab.count("idempotency_key") == 2


def test_a_key_is_free_at_the_moment_when_its_time_is_over(lab: Lab) -> None:
    first, second = key(), key()
    hold(lab.main, first)
    lab.main.travel(seconds=59)
    assert hold(lab.main, second)
    lab.main.travel(seconds=1)
    assert hold(lab.main, second) == {}
    third = key()
    assert hold(lab.main, third) == {third.run_id: second.run_id}


def test_duplicates_of_one_call_collide_with_the_first_or_with_its_holder(
    lab: Lab,
) -> None:
    a, b = key(), key()
    assert hold(lab.main, a, b) == {b.run_id: a.run_id}
    c, d = key(), key()
    assert hold(lab.main, c, d) == {c.run_id: a.run_id, d.run_id: a.run_id}


def test_a_key_until_the_end_is_free_once_its_run_has_ended(lab: Lab) -> None:
    shape = lab.shape("wf")
    run_id = started(lab, shape)
    hold(lab.main, key(run_id=run_id, finished=True))
    other = key(finished=True)
    assert hold(lab.main, other) == {other.run_id: run_id}
    claim = lab.main.claim_one()
    assert hold(lab.main, other) == {other.run_id: run_id}
    lab.main.complete(claim)
    assert hold(lab.main, other) == {}


def test_a_key_until_the_end_is_free_after_its_time_in_any_case(lab: Lab) -> None:
    run_id = started(lab, lab.shape("wf"))
    hold(lab.main, key(run_id=run_id, finished=True))
    lab.main.travel(minutes=1)
    assert hold(lab.main, key(finished=True)) == {}


def test_a_key_for_a_time_is_held_although_its_run_has_ended(lab: Lab) -> None:
    run_id = started(lab, lab.shape("wf"))
    hold(lab.main, key(run_id=run_id))
    lab.main.complete(lab.main.claim_one())
    assert hold(lab.main, key()) != {}


def test_a_cancel_frees_a_key_and_a_retry_holds_it_again(lab: Lab) -> None:
    run_id = started(lab, lab.shape("wf"))
    hold(lab.main, key(run_id=run_id, finished=True))
    cancel.cancel(lab.session, [run_id], reason="enough")
    retry.retry(lab.session, run_id)
    other = key(finished=True)
    assert hold(lab.main, other) == {other.run_id: run_id}


def test_a_retry_does_not_take_a_key_back(lab: Lab) -> None:
    run_id = started(lab, lab.shape("wf"))
    hold(lab.main, key(run_id=run_id, finished=True))
    cancel.cancel(lab.session, [run_id], reason="enough")
    other, third = key(finished=True), key(finished=True)
    assert hold(lab.main, other) == {}
    retry.retry(lab.session, run_id)
    assert hold(lab.main, third) == {third.run_id: other.run_id}


def test_a_rollback_lets_go_of_the_key(lab: Lab) -> None:
    hand = lab.hand()
    with hand.connection.transaction(force_rollback=True):
        keys.claim(hand.session, [key()])
    assert lab.count("idempotency_key") == 0


def test_a_claim_waits_for_the_transaction_that_holds_the_key(lab: Lab) -> None:
    a, b = lab.hand(), lab.hand()
    first, second = key(), key()
    with a.connection.transaction():
        keys.claim(a.session, [first])
        waiting = Background(lambda: hold(b, second))
        assert wait_until_blocked(lab.main.connection, b.connection)
    assert waiting.result() == {second.run_id: first.run_id}


def test_a_claim_gets_the_key_of_a_transaction_that_was_rolled_back(lab: Lab) -> None:
    a, b = lab.hand(), lab.hand()
    with a.connection.transaction(force_rollback=True):
        keys.claim(a.session, [key()])
        waiting = Background(lambda: hold(b, key()))
        assert wait_until_blocked(lab.main.connection, b.connection)
    assert waiting.result() == {}


def test_many_keys_in_opposite_orders_do_not_deadlock(lab: Lab) -> None:
    a, b = lab.hand(), lab.hand()
    names = [f"{letter}{n}" for n in range(600) for letter in ("a", "B", "é", "_")]
    one = [key(name) for name in names]
    two = [key(name) for name in reversed(names)]
    lost, won = together(lambda: hold(a, *one), lambda: hold(b, *two))
    assert len(lost) + len(won) == len(names)
    assert lab.count("idempotency_key") == len(names)


def test_a_purge_deletes_what_has_expired_alone(lab: Lab) -> None:
    hold(lab.main, *(key(str(n)) for n in range(2_500)))
    hold(lab.main, key("long", ttl=timedelta(days=1)))
    assert keys.purge(lab.session) == 0
    lab.main.travel(minutes=1)
    assert keys.purge(lab.session) == 2_500
    assert lab.value("SELECT key FROM orchestrator_idempotency_key") == "long"
