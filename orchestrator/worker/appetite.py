"""Appetite: how much a child claims, of which lanes, and when it looks again.

Each source is a set of lanes that need the same slots. A child claims what its free
slots can start, and ahead of them only what measured durations say will be started
within 50 ms: nothing for tasks that are long or unknown, so that no worker hoards.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from orchestrator.engine.claim import Claim, Demand
from orchestrator.ids import lane_of
from orchestrator.worker.slots import Slots

AHEAD = 0.05  # seconds that claimed work may wait in memory
MOST_AHEAD = 200  # claims
FIRST_LOOK = 0.02  # seconds until an empty queue is looked at again; doubles
WOKEN_LOOK = 0.025  # the second look of a woken child, before it sleeps


class Pool:
    """Slots of one kind, and the account of what was given to them."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.in_hand = 0  # slot units of what was submitted and has not come back
        self.seconds: float | None = None  # how long a task takes, lately
        self.progress_at = 0.0
        self.silent = False  # whether its event loop is blocked

    @property
    def size(self) -> int:
        """The slot units that can still be used."""
        return self.slots.size - self.slots.lost

    def ahead(self) -> int:
        """How many claims may wait for a slot."""
        if self.seconds is None or self.size <= 0:
            return 0
        return min(MOST_AHEAD, int(self.size * AHEAD / max(self.seconds, 1e-5)))

    def measured(self, durations: Sequence[float], now: float) -> None:
        """Learn from a batch that came back."""
        mean = sum(durations) / len(durations)
        known = self.seconds
        self.seconds = mean if known is None else known + (mean - known) * 0.3
        self.progress_at = now

    def stalled(self) -> None:
        """What was claimed ahead did not start in time: claim none ahead now."""
        self.seconds = max(self.seconds or 0.0, 1.0)


class Source:
    """Lanes of one pool whose tasks take the same number of slots."""

    def __init__(self, pool: Pool, cost: int, lanes: dict[int, int | None]) -> None:
        self.pool = pool
        self.cost = cost
        self.lanes = lanes
        self.look_at = 0.0
        self.pause = FIRST_LOOK
        self.flowing = False

    def want(self) -> int:
        """How many claims it could use now."""
        pool = self.pool
        if pool.silent:
            return 0
        free = pool.size - pool.in_hand
        if self.cost > 1:
            return max(0, free // self.cost)
        ahead = pool.ahead()
        if free <= 0 and -free > ahead // 2:
            return 0  # enough is in memory
        return max(0, free + ahead)

    def answered(self, got: int, *, full: bool, now: float, longest: float) -> None:
        """Note what a claim brought, and when to look again."""
        if got:
            self.flowing = full
            self.pause = FIRST_LOOK
            self.look_at = now if full else now + FIRST_LOOK
        else:
            self.flowing = False
            self.look_at = now + self.pause * random.uniform(0.8, 1.0)  # noqa: S311
            self.pause = min(self.pause * 2, longest)


class Appetite:
    """All sources of one child, and whose turn it is.

    `queues` are the ids of those it serves; with `strict`, in that order, else they
    take turns.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        queues: Sequence[int],
        *,
        strict: bool,
        longest: float,
    ) -> None:
        self.sources = sources
        self.queues = tuple(queues)
        self.strict = strict
        self.longest = longest
        self._asked: list[Source] = []
        self._limit = 0
        self._all_lanes: dict[int, int | None] = {}
        for source in sources:
            self._all_lanes |= source.lanes

    def serve(self, queues: Sequence[int]) -> None:
        """Serve these from now on, taking turns; whose turn it is stays."""
        if set(queues) != set(self.queues):
            self.queues = tuple(queues)

    def wake(self, now: float) -> None:
        """Something may be there: look now, and once more soon."""
        for source in self.sources:
            source.look_at = now
            source.pause = WOKEN_LOOK

    def next_look(self) -> float:
        """When a hungry source looks again (monotonic seconds); infinite for none."""
        return min(
            (source.look_at for source in self.sources if source.want() > 0),
            default=float("inf"),
        )

    def demand(self, now: float, *, along: bool) -> Demand | None:
        """What to ask for now; with `along`, a statement goes out in any case."""
        self._asked = []
        hungry = [s for s in self.sources if s.want() > 0]
        due = hungry if along else [s for s in hungry if s.look_at <= now]
        if not due:
            return None
        if any(source.flowing for source in due):
            due = [min(due, key=lambda source: source.look_at)]
        else:  # one statement looks for all that are idle, due or not
            due = [source for source in hungry if not source.flowing]
        self._asked = due
        self._limit = min(source.want() for source in due)
        return Demand(self._turned(), self._lanes(due), self._limit)

    def answered(self, claims: Iterable[Claim], now: float) -> None:
        """Note the claims that the last demand brought."""
        got = dict.fromkeys(self._asked, 0)
        total = 0
        for claim in claims:
            total += 1
            for source in self._asked if len(self._asked) > 1 else ():
                if lane_in(source, claim):
                    got[source] += 1
                    break
        if len(self._asked) == 1:
            got[self._asked[0]] = total
        for source, count in got.items():
            source.answered(
                count, full=total >= self._limit, now=now, longest=self.longest
            )

    def _turned(self) -> tuple[int, ...]:
        queues = self.queues
        if not self.strict and len(queues) > 1:
            self.queues = queues[1:] + queues[:1]
        return queues

    def _lanes(self, sources: Sequence[Source]) -> dict[int, int | None]:
        if len(sources) == 1:
            return sources[0].lanes
        if len(sources) == len(self.sources):
            return self._all_lanes
        lanes: dict[int, int | None] = {}
        for source in sources:
            lanes |= source.lanes
        return lanes


def lane_in(source: Source, claim: Claim) -> bool:
    """Whether the claim's task is one of the source's."""
    return lane_of(claim.task_id) in source.lanes
