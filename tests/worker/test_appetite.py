"""How much is claimed, of what, and when."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from orchestrator import ids
from orchestrator.engine.claim import Claim
from orchestrator.ids import lane_of
from orchestrator.worker.appetite import MOST_AHEAD, Appetite, Pool, Source
from orchestrator.worker.execute import Work

SYNC, ASYNC, COSTLY = (ids.definition_id("task", name) for name in ("a", "b", "c"))


class NoSlots:
    """Slots that only count."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.lost = 0

    def submit(self, works: Sequence[Work]) -> None: ...

    def withdraw(self) -> list[Work]:
        return []

    def overdue(self, now: float) -> list[Work]:
        return []

    def stop(self, work: Work) -> None: ...

    def silence(self, now: float) -> float:
        return 0.0


def pool(size: int = 10, *, seconds: float | None = None, in_hand: int = 0) -> Pool:
    made = Pool(NoSlots(size))
    made.seconds = seconds
    made.in_hand = in_hand
    return made


def source(pool: Pool, *tasks: int, cost: int = 1) -> Source:
    return Source(pool, cost, {lane_of(task): None for task in tasks})


def claims(task_id: int, number: int) -> list[Claim]:
    run_id = ids.uuid7()
    return [Claim(run_id, run_id, task_id, 1, 1, 0, 0, 1, 0, "", "{}", "null")] * number


def appetite(*sources: Source, strict: bool = False, queues: int = 1) -> Appetite:
    return Appetite(sources, range(1, queues + 1), strict=strict, longest=0.5)


@pytest.mark.parametrize(
    ("seconds", "ahead"),
    [(None, 0), (1e-6, MOST_AHEAD), (0.001, MOST_AHEAD), (0.01, 50), (0.1, 5), (5, 0)],
)
def test_work_claimed_ahead_lasts_50_ms_at_most(
    seconds: float | None, ahead: int
) -> None:
    assert pool(10, seconds=seconds).ahead() == ahead


def test_long_tasks_are_claimed_for_free_slots_alone() -> None:
    slots = pool(10, seconds=60, in_hand=7)
    assert source(slots, SYNC).want() == 3
    slots.in_hand = 10
    assert source(slots, SYNC).want() == 0


def test_more_is_claimed_when_half_of_what_is_ahead_is_used_up() -> None:
    slots = pool(10, seconds=0.01)  # 50 ahead
    for in_hand, want in ((0, 60), (10, 50), (35, 25), (36, 0), (60, 0)):
        slots.in_hand = in_hand
        assert source(slots, SYNC).want() == want


def test_lost_slots_are_not_filled() -> None:
    slots = pool(10)
    slots.slots.lost = 4
    assert source(slots, SYNC).want() == 6


def test_a_costly_task_is_claimed_only_into_enough_free_slots() -> None:
    slots = pool(9, seconds=0.001)
    costly = source(slots, COSTLY, cost=5)
    assert costly.want() == 1
    slots.in_hand = 5
    assert costly.want() == 0


def test_an_empty_queue_is_looked_at_ever_more_rarely() -> None:
    hungry = appetite(source(pool(), SYNC))
    now, looks = 100.0, []
    for _ in range(12):
        assert hungry.demand(now, along=False) is not None
        hungry.answered([], now)
        pause = hungry.next_look() - now
        looks.append(pause)
        assert hungry.demand(now + pause - 0.001, along=False) is None
        now += pause
    assert 0.016 <= looks[0] <= 0.020
    assert looks == sorted(looks) or min(looks[-4:]) >= 0.4
    assert max(looks) <= 0.5


def test_a_woken_child_looks_at_once_and_again_before_it_sleeps() -> None:
    hungry = appetite(source(pool(), SYNC))
    hungry.answered([], 0)
    hungry.wake(100)
    assert hungry.demand(100, along=False) is not None
    hungry.answered([], 100)
    assert 0.015 <= hungry.next_look() - 100 <= 0.025


def test_a_full_answer_is_followed_by_the_next_demand_at_once() -> None:
    slots = pool(10)
    hungry = appetite(source(slots, SYNC))
    hungry.demand(100, along=False)
    hungry.answered(claims(SYNC, 10), 100)
    slots.in_hand = 5
    assert hungry.demand(100, along=False) is not None


def test_idle_kinds_are_asked_for_together_within_the_smaller_want() -> None:
    hungry = appetite(source(pool(10), SYNC), source(pool(100), ASYNC))
    demand = hungry.demand(100, along=False)
    assert demand is not None
    assert set(demand.lanes) == {lane_of(SYNC), lane_of(ASYNC)}
    assert demand.limit == 10


def test_a_flowing_kind_is_asked_for_alone_with_all_it_wants() -> None:
    busy, idle = source(pool(100), ASYNC), source(pool(10), SYNC)
    hungry = appetite(busy, idle)
    hungry.demand(100, along=False)
    hungry.answered(claims(ASYNC, 10), 100)
    demand = hungry.demand(100, along=False)
    assert demand is not None
    assert (set(demand.lanes), demand.limit) == ({lane_of(ASYNC)}, 100)


def test_a_flowing_kind_does_not_starve_the_other_one() -> None:
    busy, idle = source(pool(100), ASYNC), source(pool(10), SYNC)
    hungry = appetite(busy, idle)
    now, asked = 100.0, 0
    for _ in range(200):
        demand = hungry.demand(now, along=False)
        assert demand is not None
        if lane_of(SYNC) in demand.lanes:
            asked += 1
        flowing = claims(ASYNC, demand.limit) if lane_of(ASYNC) in demand.lanes else []
        hungry.answered(flowing, now)
        now += 0.01
    assert asked >= 4


def test_queues_take_turns_unless_an_order_was_asked_for() -> None:
    fair = appetite(source(pool(), SYNC), queues=3)
    turns = [fair.demand(n, along=True) for n in range(4)]
    assert [demand and demand.queues for demand in turns] == [
        (1, 2, 3),
        (2, 3, 1),
        (3, 1, 2),
        (1, 2, 3),
    ]
    strict = appetite(source(pool(), SYNC), queues=3, strict=True)
    orders = {strict.demand(n, along=True).queues for n in range(4)}  # type: ignore[union-attr]
    assert orders == {(1, 2, 3)}


def test_a_stall_stops_claiming_ahead() -> None:
    slots = pool(10, seconds=0.0001)
    slots.stalled()
    assert slots.ahead() == 0
