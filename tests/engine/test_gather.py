"""Gather: full batches for one worker each, whoever looks at the same time."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.engine import expire, gather, rescue
from orchestrator.engine.claim import Claim
from orchestrator.engine.gather import Gathered
from orchestrator.engine.shapes import Shape
from tests.engine.lab import Hand, Lab, task
from tests.engine.races import Background, lockstep


def batch_shape(lab: Lab, name: str = "batch", **options: Any) -> Shape:
    own = {k: options.pop(k) for k in ("execution_timeout",) if k in options}
    policy = {
        "max_size": 3,
        "max_interval": None,
        "group_key": None,
        "group_max_runs": None,
        "broadcast": False,
        **options,
    }
    return lab.shape(name, task(name, batch=policy, **own))


def look(hand: Hand, shape: Shape, limit: int = 10) -> Gathered:
    return gather.gather(
        hand.session, hand.key, [shape.queue_id], [shape.tasks[0]], limit
    )


def sizes(gathered: Gathered) -> list[int]:
    return [len(claims) for claims in gathered.batches]


def groups(claims: list[Claim]) -> set[str]:
    return {json.loads(claim.input)["g"] for claim in claims}


def test_a_batch_is_leased_as_a_whole(lab: Lab) -> None:
    shape = batch_shape(lab)
    run_ids = lab.enqueue(shape, 4)
    gathered = look(lab.main, shape)
    assert sizes(gathered) == [3]
    assert [claim.run_id for claim in gathered.batches[0]] == run_ids[:3]
    assert lab.places(run_ids[0]) == {"batch": "leased"}
    assert lab.places(run_ids[3]) == {"batch": "queued"}
    assert sizes(look(lab.main, shape)) == []
    lab.main.complete(*gathered.batches[0])
    assert [lab.status(run_id) for run_id in run_ids[:3]] == ["COMPLETED"] * 3


def test_it_says_when_the_next_one_is_due(lab: Lab) -> None:
    shape = batch_shape(lab, max_interval=10.0)
    assert look(lab.main, shape).next_in is None
    lab.enqueue(shape)
    next_in = look(lab.main, shape).next_in
    assert next_in is not None
    assert 9 < next_in <= 10
    lab.main.travel(seconds=10)
    assert sizes(look(lab.main, shape)) == [1]


def test_without_an_interval_a_batch_waits_until_it_is_full(lab: Lab) -> None:
    shape = batch_shape(lab)
    lab.enqueue(shape, 2)
    gathered = look(lab.main, shape)
    assert (sizes(gathered), gathered.next_in) == ([], None)


def test_a_group_has_its_own_batches(lab: Lab) -> None:
    shape = batch_shape(lab, group_key="input.g", max_size=2)
    texts = [json.dumps({"g": g}) for g in "abcab"]
    lab.enqueue(shape, texts)
    batches = look(lab.main, shape).batches
    assert sorted(groups(claims).pop() for claims in batches) == ["a", "b"]
    assert all(len(groups(claims)) == 1 for claims in batches)


def test_a_limit_leaves_the_rest_to_others(lab: Lab) -> None:
    shape = batch_shape(lab)
    lab.enqueue(shape, 3)
    assert sizes(look(lab.main, shape, limit=0)) == []
    gathered = look(lab.main, shape, limit=1)
    assert (sizes(gathered), gathered.next_in) == ([3], 0.0)


def test_only_so_many_batches_of_a_group_are_executed_at_once(lab: Lab) -> None:
    shape = batch_shape(lab, group_key="input.g", max_size=2, group_max_runs=1)
    lab.enqueue(shape, ['{"g": "a"}'] * 4 + ['{"g": "b"}'] * 2)
    first = look(lab.main, shape)
    assert sizes(first) == [2, 2]
    other = lab.hand()
    assert sizes(look(other, shape)) == []
    for claims in first.batches:
        lab.main.complete(*claims)
    assert sizes(look(other, shape)) == [2]


def test_what_another_one_is_gathering_is_left_to_it(lab: Lab) -> None:
    shape = batch_shape(lab)
    lab.enqueue(shape, 3)
    lane = shape.tasks[0].lane
    holder, other = lab.connect(), lab.hand()
    with holder.transaction():
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [lane])
        waiting = Background(lambda: look(other, shape))
        gathered = waiting.result()
        assert (sizes(gathered), gathered.next_in) == ([], gather.SOON)
    assert sizes(look(other, shape)) == [3]


def test_two_workers_never_share_a_batch_nor_take_half_of_it(lab: Lab) -> None:
    shape = batch_shape(lab, max_size=5)
    a, b = lab.hand(), lab.hand()
    taken: list[int] = []
    for _ in range(20):
        lab.enqueue(shape, 10)
        for one, two in lockstep(
            2, lambda _: look(a, shape, 1), lambda _: look(b, shape, 1)
        ):
            for hand, gathered in ((a, one), (b, two)):
                taken += sizes(gathered)
                for claims in gathered.batches:
                    assert hand.complete(*claims).accepted == 5
    while batches := look(a, shape).batches:
        taken += map(len, batches)
        for claims in batches:
            a.complete(*claims)
    assert taken == [5] * 40


def test_a_lost_worker_returns_all_members_to_their_group(lab: Lab) -> None:
    shape = batch_shape(lab, group_key="input.g")
    run_ids = lab.enqueue(shape, ['{"g": "a"}'] * 3)
    hand = lab.hand()
    [claims] = look(hand, shape).batches
    leader = claims[0].task_run_id
    rescue.rescue(lab.session, hand.worker_id, started=[leader])
    assert [lab.attempts(run_id) for run_id in run_ids] == [[(1, "LOST")], [], []]
    [again] = look(lab.main, shape).batches
    assert {claim.run_id for claim in again} == set(run_ids)
    lab.main.complete(*again)
    assert {lab.status(run_id) for run_id in run_ids} == {"COMPLETED"}


def test_the_scheduler_ends_all_members_of_a_batch_that_overran(lab: Lab) -> None:
    shape = batch_shape(lab, execution_timeout=1.0)
    run_ids = lab.enqueue(shape, 3)
    look(lab.main, shape)
    lab.main.travel(minutes=1)
    assert expire.time_out(lab.session) == 3
    assert {lab.status(run_id) for run_id in run_ids} == {"FAILED"}


def test_a_look_reads_no_more_than_a_batch_of_each_lane(lab: Lab) -> None:
    shape = batch_shape(lab, max_interval=60.0)
    other = lab.shape("other")
    lab.enqueue(other, 2_000)
    lab.enqueue(shape, 2_000)
    assert sizes(look(lab.main, shape, limit=2)) == [3]
