"""Notify: hints after the commit, at most one per queue in 20 ms, the first at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg
import pytest
from django.db import transaction
from django.test import override_settings

from orchestrator.engine import notify, sessions
from orchestrator.engine.sessions import WorkerSession
from tests.engine.lab import Lab
from tests.engine.pool import rolled_back
from tests.engine.races import Background

Heard = Callable[..., list[tuple[str, str]]]

QUEUE = notify.QUEUE_CHANNEL


@pytest.fixture
def heard(lab: Lab) -> Iterator[Heard]:
    """What has been sent on any channel since the last call; waits for `count`."""
    listener = lab.connect()
    for channel in notify.CHANNELS:
        listener.execute(f"LISTEN {channel}".encode())

    def listen(count: int = 0) -> list[tuple[str, str]]:
        found = (
            [
                (n.channel, n.payload)
                for n in listener.notifies(timeout=5, stop_after=count)
            ]
            if count
            else []
        )
        found += [(n.channel, n.payload) for n in listener.notifies(timeout=0)]
        return found

    yield listen
    listener.execute("UNLISTEN *")


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clock of the process that notifies."""
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def moment(seconds: float) -> None:
        now[0] = 1_000.0 + seconds

    return moment


def test_the_first_hint_goes_out_at_once(lab: Lab, heard: Heard) -> None:
    notify.wake(lab.session, [7])
    assert heard(1) == [(QUEUE, "7")]


def test_a_burst_is_one_hint(
    lab: Lab, heard: Heard, at: Callable[[float], None]
) -> None:
    for milliseconds in range(0, 20, 2):
        at(milliseconds / 1000)
        notify.wake(lab.session, [7])
    assert heard(1) == [(QUEUE, "7")]


def test_there_is_at_most_one_hint_in_20_ms(
    lab: Lab, heard: Heard, at: Callable[[float], None]
) -> None:
    for milliseconds in range(0, 100, 3):  # sent at 0, 21, 42, 63 and 84
        at(milliseconds / 1000)
        notify.wake(lab.session, [7])
    assert heard(5) == [(QUEUE, "7")] * 5


def test_each_queue_has_its_own_interval(
    lab: Lab, heard: Heard, at: Callable[[float], None]
) -> None:
    at(0)
    notify.wake(lab.session, [1])
    at(0.010)
    notify.wake(lab.session, [1, 2])
    at(0.015)
    notify.wake(lab.session, [1, 2, 3])
    assert [payload for _, payload in heard(3)] == ["1", "2", "3"]


def test_nothing_is_sent_for_no_queue(lab: Lab, heard: Heard) -> None:
    notify.wake(lab.session, [])
    assert heard() == []


def test_a_hint_follows_the_commit(lab: Lab, heard: Heard) -> None:
    with lab.session.transaction():
        notify.wake(lab.session, [7])
        assert heard() == []
    assert heard(1) == [(QUEUE, "7")]


def test_a_rollback_sends_nothing_and_uses_up_nothing(lab: Lab, heard: Heard) -> None:
    with rolled_back(lab.session.transaction()):
        notify.wake(lab.session, [7])
    assert heard() == []
    notify.wake(lab.session, [7])
    assert heard(1) == [(QUEUE, "7")]


def test_it_never_takes_part_in_the_transaction_that_it_follows(
    lab: Lab, heard: Heard
) -> None:
    """A commit with a NOTIFY takes a lock of the whole database (reliability F25)."""
    with lab.session.transaction():
        notify.wake(lab.session, [7])
        locks = lab.rows(
            "SELECT FROM pg_locks WHERE locktype = 'object' AND pid = pg_backend_pid()"
        )
        assert locks == []


def test_threads_share_the_interval(lab: Lab, heard: Heard) -> None:
    hands = [lab.hand() for _ in range(4)]
    began = time.monotonic()

    def burst(session: WorkerSession) -> None:
        for _ in range(50):
            notify.wake(session, [7])

    threads = [Background(lambda h=h: burst(h.session)) for h in hands]  # type: ignore[misc]
    for thread in threads:
        thread.result()
    allowed = (time.monotonic() - began) / notify.INTERVAL + 1
    assert 1 <= len(heard(1)) <= allowed


def test_without_listeners_nothing_is_sent(lab: Lab, heard: Heard) -> None:
    with override_settings(ORCHESTRATOR={"PARTITION_BY": "none", "LISTEN": False}):
        notify.wake(lab.session, [7])
        notify.control(lab.session, "cancel")
        notify.feed(lab.session, [uuid4()])
    assert heard() == []


def test_a_control_word_reaches_all_workers(lab: Lab, heard: Heard) -> None:
    with lab.session.transaction():
        notify.control(lab.session, "cancel")
        assert heard() == []
    assert heard(1) == [(notify.CONTROL_CHANNEL, "cancel")]


@pytest.mark.parametrize("count", [1, notify.FEED_IDS, notify.FEED_IDS + 1, 5_000])
def test_the_feeds_payload_always_fits(lab: Lab, heard: Heard, count: int) -> None:
    run_ids = [uuid4() for _ in range(count)]
    notify.feed(lab.session, run_ids)
    [(channel, payload)] = heard(1)
    assert channel == notify.FEED_CHANNEL
    assert len(payload) < 8_000  # PostgreSQL refuses more (reliability F27)
    named = ",".join(str(run_id) for run_id in run_ids)
    assert payload == (named if count <= notify.FEED_IDS else "*")


def test_the_largest_queue_id_fits(lab: Lab, heard: Heard) -> None:
    notify.wake(lab.session, [2**63 - 1])
    assert heard(1) == [(QUEUE, str(2**63 - 1))]


@pytest.mark.django_db(transaction=True)
def test_djangos_transaction_is_followed_too(lab: Lab, heard: Heard) -> None:
    session = sessions.django_session()
    with transaction.atomic():
        notify.wake(session, [7])
        assert heard() == []
    assert heard(1) == [(QUEUE, "7")]
    with rolled_back(transaction.atomic()):
        notify.wake(session, [8])
    assert heard() == []


def test_a_hint_that_cannot_be_sent_fails_nobody(
    lab: Lab, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    """The work is committed; polling finds it. An error would have it done twice."""
    hand = lab.hand()
    with hand.session.transaction():
        hand.session.send(b"SELECT 1", {})
        notify.wake(hand.session, [7])
        hand.session.on_commit(lambda: None)
        committed = hand.session._committed
        assert committed is not None
        committed.insert(0, hand.connection.close)
    assert "hint" in caplog.text
    with pytest.raises(psycopg.OperationalError):
        hand.connection.execute("SELECT 1")
