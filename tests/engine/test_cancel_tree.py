"""Cancel follows the tree: the open runs that task runs spawned end along."""

from __future__ import annotations

from uuid import UUID

import pytest

from orchestrator import ids
from orchestrator.engine import cancel as cancel_module
from orchestrator.engine import tree
from orchestrator.engine.cancel import cancel
from orchestrator.engine.enqueue import enqueue
from orchestrator.engine.settle import settle
from tests.engine.lab import Hand, Lab
from tests.engine.races import Background, lockstep, wait_until_blocked

ROUNDS = 30


def child_of(lab: Lab, run_id: UUID, *keys: str, ordinal: int = 0) -> list[UUID]:
    """Runs that a task run of that run has spawned, by their keys."""
    return spawn(lab.main, lab, run_id, *keys, ordinal=ordinal)


def spawn(
    hand: Hand, lab: Lab, run_id: UUID, *keys: str, ordinal: int = 0
) -> list[UUID]:
    parent = ids.task_run_id(run_id, ordinal)
    shape = next(s for s in lab.shapes if s.workflow == "child")
    return enqueue(
        hand.session,
        shape,
        ["null"] * len(keys),
        run_ids=[ids.child_run_id(parent, key) for key in keys],
        parents=[parent] * len(keys),
    )


@pytest.fixture
def parent(lab: Lab) -> UUID:
    lab.shape("child", "x", "y")
    return lab.enqueue_one(lab.diamond("parent"))


def statuses(lab: Lab, run_ids: list[UUID]) -> list[str]:
    return [lab.status(run_id) for run_id in run_ids]


def test_children_and_theirs_end_with_their_parent(lab: Lab, parent: UUID) -> None:
    first = child_of(lab, parent, "a", "b")
    second = child_of(lab, parent, "c", ordinal=3)
    third = child_of(lab, first[1], "d", ordinal=1)
    family = [parent, *first, *second, *third]
    other = lab.enqueue_one(lab.shape("other"))
    assert cancel(lab.session, [parent], reason="Stop.") == [parent]
    assert statuses(lab, family) == ["CANCELLED"] * 5
    assert lab.state(parent).status_reason == "Stop."
    said = lab.state(third[0]).status_reason
    assert said == "Cancelled with the run that spawned it: Stop."
    assert lab.status(other) == "QUEUED"
    cancel(lab.session, [other], reason="")
    assert lab.violations(at_rest=True) == []


def test_children_go_on_where_that_is_asked_for(lab: Lab, parent: UUID) -> None:
    children = child_of(lab, parent, "a", "b")
    assert cancel(lab.session, [parent], reason="", children=False) == [parent]
    assert statuses(lab, children) == ["QUEUED", "QUEUED"]
    assert lab.main.drain() == 4
    assert statuses(lab, children) == ["COMPLETED", "COMPLETED"]


def test_a_run_that_has_ended_takes_no_children_along(lab: Lab) -> None:
    lab.shape("child", "x", "y")
    parent = lab.enqueue_one(lab.shape("one"))
    lab.main.drain()
    [child] = child_of(lab, parent, "a")
    assert cancel(lab.session, [parent], reason="") == []
    assert lab.status(child) == "QUEUED"


def test_what_an_ended_child_spawned_ends_too(lab: Lab, parent: UUID) -> None:
    [child] = child_of(lab, parent, "a")
    cancel(lab.session, [child], reason="first", children=False)
    [grandchild] = child_of(lab, child, "b")
    cancel(lab.session, [parent], reason="then")
    assert lab.state(child).status_reason == "first"
    assert lab.status(grandchild) == "CANCELLED"


def test_a_child_is_cancelled_alone_and_its_parent_goes_on(
    lab: Lab, parent: UUID
) -> None:
    one, other = child_of(lab, parent, "a", "b")
    assert cancel(lab.session, [one], reason="") == [one]
    assert statuses(lab, [parent, other]) == ["QUEUED", "QUEUED"]


def test_a_wide_tree_is_cancelled_in_rounds(
    lab: Lab, parent: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancel_module, "CHUNK", 7)
    monkeypatch.setattr(tree, "CHUNK", 5)
    children = child_of(lab, parent, *[f"k{n}" for n in range(40)])
    for child in children[:10]:
        child_of(lab, child, "deep")
    lab.main.claim(5)
    assert cancel(lab.session, [parent, children[0]], reason="") == sorted(
        [parent, children[0]]
    )
    open_runs = lab.value("SELECT count(*) FROM orchestrator_run WHERE status IS NULL")
    assert open_runs == 0
    assert lab.violations(at_rest=True) == []


# Against others.


def test_two_cancels_from_above_and_below_never_deadlock(lab: Lab) -> None:
    lab.shape("child", "x", "y")
    parents = lab.enqueue(lab.diamond("parent"), ROUNDS)
    families = []
    for run_id in parents:
        children = child_of(lab, run_id, "a", "b")
        families.append([*children, *child_of(lab, children[0], "c", "d", "e")])
    other = lab.hand()
    below = [sorted(family, reverse=True) for family in families]
    lockstep(
        ROUNDS,
        lambda n: cancel(lab.session, [parents[n]], reason="above"),
        lambda n: cancel(other.session, below[n], reason="below"),
    )
    every = [*parents, *(run for family in families for run in family)]
    assert set(statuses(lab, every)) == {"CANCELLED"}
    assert lab.violations(at_rest=True) == []


def test_a_child_that_settles_meanwhile_has_its_result(lab: Lab, parent: UUID) -> None:
    lab.shape("child")  # a single task
    lab.shapes.pop(0)
    [child] = child_of(lab, parent, "a")
    claims = {claim.run_id: claim for claim in lab.main.claim()}
    other = lab.hand()
    with lab.session.transaction():
        settle(lab.session, lab.main.worker_id, [lab.completed(claims[child])])
        cancelling = Background(lambda: cancel(other.session, [parent], reason=""))
        assert wait_until_blocked(lab.connect(), other.connection)
    assert cancelling.result() == [parent]
    assert lab.status(child) == "COMPLETED"
    assert lab.status(parent) == "CANCELLED"


def test_what_is_spawned_while_a_cancel_waits_ends_too(lab: Lab, parent: UUID) -> None:
    [child] = child_of(lab, parent, "a")
    spawner, canceller = lab.hand(), lab.hand()
    with spawner.session.transaction():
        spawner.connection.execute(
            "SELECT FROM orchestrator_run WHERE id = %s FOR UPDATE", [parent]
        )
        [late] = spawn(spawner, lab, parent, "late")
        cancelling = Background(lambda: cancel(canceller.session, [parent], reason=""))
        assert wait_until_blocked(lab.connect(), canceller.connection)
    assert cancelling.result() == [parent]
    assert statuses(lab, [child, late]) == ["CANCELLED", "CANCELLED"]


def test_what_is_spawned_by_what_was_executed_ends_too(lab: Lab, parent: UUID) -> None:
    # The spawning transaction holds the lease, as a step of a durable task does.
    [claim] = lab.main.claim()
    spawner, canceller = lab.hand(), lab.hand()
    with spawner.session.transaction():
        spawner.connection.execute(
            "SELECT FROM orchestrator_lease WHERE task_run_id = %s FOR SHARE",
            [claim.task_run_id],
        )
        [late] = spawn(spawner, lab, parent, "late")
        cancelling = Background(lambda: cancel(canceller.session, [parent], reason=""))
        assert wait_until_blocked(lab.connect(), canceller.connection)
    assert cancelling.result() == [parent]
    assert lab.status(late) == "CANCELLED"


def test_a_root_that_ends_while_a_cancel_waits_keeps_its_children(lab: Lab) -> None:
    lab.shape("child", "x", "y")
    parent = lab.enqueue_one(lab.shape("one"))
    claim = lab.main.claim_one()
    [child] = child_of(lab, parent, "a")
    canceller = lab.hand()
    with lab.session.transaction():
        settle(lab.session, lab.main.worker_id, [lab.completed(claim)])
        cancelling = Background(lambda: cancel(canceller.session, [parent], reason=""))
        assert wait_until_blocked(lab.connect(), canceller.connection)
    assert cancelling.result() == []
    assert lab.status(parent) == "COMPLETED"
    assert lab.status(child) == "QUEUED"
