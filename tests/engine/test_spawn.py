"""Spawn: two attempts that make the same children at once."""

from __future__ import annotations

from uuid import uuid4

from orchestrator import ids
from orchestrator.engine import spawn
from tests.engine.lab import Hand, Lab
from tests.engine.races import Background, lockstep, wait_until_blocked


def test_the_second_of_two_attempts_takes_what_the_first_one_makes(lab: Lab) -> None:
    shape = lab.shape("child")
    parent = ids.task_run_id(ids.uuid7(), 0)
    children = [
        spawn.Child(ids.child_run_id(parent, n), parent, shape.version_id, "null")
        for n in range(3)
    ]
    other = lab.hand()
    with lab.session.transaction():
        assert len(spawn.spawn(lab.session, children[:2])) == 2
        second = Background(lambda: spawn.spawn(other.session, children))
        wait_until_blocked(lab.connect(), other.connection)
    assert second.result() == {children[2].run_id}
    assert lab.count("run") == 3
    assert len(lab.main.claim()) == 3


def test_whoever_is_first_each_child_is_made_once(lab: Lab) -> None:
    shape = lab.diamond("child")
    other = lab.hand()
    parents = [uuid4() for _ in range(20)]

    def make(hand: Hand, number: int) -> int:
        parent = parents[number]
        children = [
            spawn.Child(ids.child_run_id(parent, n), parent, shape.version_id, "1")
            for n in range(5)
        ]
        return len(spawn.spawn(hand.session, children))

    made = lockstep(20, lambda n: make(lab.main, n), lambda n: make(other, n))
    assert {a + b for a, b in made} == {5}
    assert lab.count("run") == 100
