"""The lock order: any two verbs over the same runs, each from its own end.

Every pair runs with a tiny `deadlock_timeout`; a deadlock would fail one of them
(reliability F36). Where the verbs wait for locks, a third session holds the run in the
middle, so that both have taken some before they go on.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
import pytest

from orchestrator.engine.cancel import cancel
from orchestrator.engine.expire import expire, time_out
from orchestrator.engine.give_back import give_back
from orchestrator.engine.promote import promote
from orchestrator.engine.reprioritise import reprioritise
from orchestrator.engine.rescue import rescue
from orchestrator.engine.retry import retry
from orchestrator.exceptions import IllegalTransition
from tests.engine.lab import AT_ONCE, LATER, Hand, Lab, task
from tests.engine.races import Background, wait_until_blocked

SIZE = 6  # runs of each kind


class Scene:
    """Runs in every state, and a worker that holds some of their tasks."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        later = datetime.now(UTC) + timedelta(seconds=30)
        graph = lab.shape(
            "graph",
            task("a", retries=AT_ONCE, execution_timeout=1),
            task("b", retries=LATER, schedule_timeout=5),
            task("c", "a", "b"),
        )
        one = lab.shape("one", retries=AT_ONCE, schedule_timeout=5)
        self.worker = lab.hand()
        self.ended = lab.enqueue(one, SIZE)
        cancel(lab.session, self.ended, reason="")
        self.runs = [
            *lab.enqueue(graph, SIZE, priority=5),
            *lab.enqueue(one, SIZE, priority=5),
            *lab.enqueue(one, SIZE, run_after=later),
        ]
        # Of the graphs and singles, some tasks are executed, the rest is queued.
        self.claims = self.worker.claim(SIZE * 2)
        lab.enqueue(one, SIZE, priority=-5)

    def hand(self) -> Hand:
        """Another connection of that worker, at the time when all is due."""
        hand = self.lab.hand()
        hand.key = self.worker.key
        hand.travel(seconds=60)
        hand.connection.execute("SET deadlock_timeout = '10ms'")
        return hand


Verb = Callable[[Scene, Hand, int], Any]


def ordered(items: list[Any], direction: int) -> list[Any]:
    return items[::direction]


def verb_retry(scene: Scene, hand: Hand, direction: int) -> None:
    """In the order of their ids, as a caller should who retries several."""
    for run_id in sorted(scene.ended):
        with suppress(IllegalTransition):
            retry(hand.session, run_id)


def settled(scene: Scene, hand: Hand, direction: int, *, fail: bool) -> None:
    make = scene.lab.failed if fail else scene.lab.completed
    results = [make(claim) for claim in ordered(scene.claims, direction)]
    for _ in range(20):
        results = hand.exchange(results, hand.demand(5)).deferred


VERBS: dict[str, Verb] = {
    "complete": lambda s, h, d: settled(s, h, d, fail=False),
    "fail": lambda s, h, d: settled(s, h, d, fail=True),
    "claim": lambda s, h, d: [h.claim(3) for _ in range(5)],
    "give back": lambda s, h, d: give_back(
        h.session,
        h.worker_id,
        [(c.run_id, c.task_run_id, c.attempt) for c in ordered(s.claims, d)],
    ),
    "rescue": lambda s, h, d: rescue(h.session, h.worker_id),
    "time out": lambda s, h, d: time_out(h.session),
    "promote": lambda s, h, d: promote(h.session),
    "expire": lambda s, h, d: expire(h.session),
    "cancel": lambda s, h, d: cancel(
        h.session, ordered(s.runs + s.ended, d), reason=""
    ),
    "reprioritise": lambda s, h, d: reprioritise(
        h.session, ordered(s.runs + s.ended, d), 7 * d
    ),
    "retry": verb_retry,
}
PAIRS = list(itertools.combinations_with_replacement(VERBS, 2))


@contextmanager
def no_deadlock(connection: psycopg.Connection[Any]) -> Iterator[None]:
    before = deadlocks(connection)
    yield
    assert deadlocks(connection) == before


def deadlocks(connection: psycopg.Connection[Any]) -> int:
    connection.execute("SELECT pg_stat_force_next_flush()")
    connection.execute("SELECT pg_stat_clear_snapshot()")
    row = connection.execute(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("pair", PAIRS, ids=[" + ".join(pair) for pair in PAIRS])
def test_two_verbs_never_deadlock(lab: Lab, pair: tuple[str, str]) -> None:
    scene = Scene(lab)
    first, second = scene.hand(), scene.hand()
    gate, probe = lab.connect(), lab.connect()
    middle = sorted(scene.runs + scene.ended)[len(scene.runs + scene.ended) // 2]
    with no_deadlock(probe):
        with gate.transaction():
            gate.execute(
                "SELECT FROM orchestrator_run WHERE id = %s FOR UPDATE", [middle]
            )
            running = [
                Background(lambda: VERBS[pair[0]](scene, first, 1)),
                Background(lambda: VERBS[pair[1]](scene, second, -1)),
            ]
            for hand, thread in zip((first, second), running, strict=True):
                wait_until_blocked(probe, hand.connection, unless=thread)
        for thread in running:
            thread.result()


def test_all_verbs_at_once_never_deadlock(lab: Lab) -> None:
    with no_deadlock(lab.main.connection):
        for _ in range(3):
            scene = Scene(lab)
            hands = {name: scene.hand() for name in VERBS}
            running = [
                Background(partial(VERBS[name], scene, hand, direction))
                for direction, (name, hand) in zip(
                    itertools.cycle((1, -1)), hands.items(), strict=False
                )
            ]
            for thread in running:
                thread.result()
            assert lab.violations() == []
            for hand in hands.values():
                lab.connections.remove(hand.connection)
                lab.pool.give_back([hand.connection])
            lab.forget()


def test_the_lock_order_is_the_one_that_is_written_down(lab: Lab) -> None:
    """A verb that took runs in the order of its arguments would deadlock here."""
    run_ids = sorted(lab.enqueue(lab.shape("one"), 2))

    def backwards(hand: Hand, ids: list[UUID]) -> None:
        with hand.session.transaction():
            for run_id in ids:
                hand.session.fetch(
                    b"SELECT FROM orchestrator_run WHERE id = %(id)s FOR UPDATE",
                    {"id": run_id},
                )
                time.sleep(0.05)

    hands = [lab.hand(), lab.hand()]
    for hand in hands:
        hand.connection.execute("SET deadlock_timeout = '10ms'")
    threads = [
        Background(lambda: backwards(hands[0], run_ids)),
        Background(lambda: backwards(hands[1], run_ids[::-1])),
    ]
    errors = []
    for thread in threads:
        try:
            thread.result()
        except psycopg.errors.DeadlockDetected as error:
            errors.append(error)
    assert len(errors) == 1
