"""What a child has in its hands: work in its slots, and results to be settled.

Only the engine thread touches it. What is here is what the child's leases are compared
with: a claim is in hand from the reply that brought it until the reply that settled it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from time import monotonic
from uuid import UUID

from orchestrator.conf import settings
from orchestrator.engine.settle import Result, Settled
from orchestrator.worker import batches, execute
from orchestrator.worker.appetite import Pool
from orchestrator.worker.execute import Work
from orchestrator.worker.mailbox import Mailbox
from orchestrator.worker.slots import LINGER

logger = logging.getLogger("orchestrator")

RETRY_DEFERRED = 0.003  # seconds until a run that was locked elsewhere is tried again
STALLED = 0.25  # seconds that claims may wait for a slot before they are given back
SILENT = 1.0  # seconds after which an event loop counts as blocked


class Hands:
    """The pools of a child, and everything that is in them or came out of them."""

    def __init__(
        self,
        mailbox: Mailbox,
        pools: Sequence[Pool],
        pool_of: dict[int, Pool],
        suspects: Pool,
    ) -> None:
        self.mailbox = mailbox
        self.pools = pools
        self.pool_of = pool_of  # by task id
        self.suspects = suspects  # executes what runs in a process of its own
        self.child_stall = settings.child_stall.total_seconds()
        self.running: dict[Work, Pool] = {}
        self.finished: list[Work] = []
        self.finished_at = 0.0  # when the first of them came
        self.settle_at = 0.0  # not before: what is left was locked elsewhere
        self.lost_at: float | None = None  # since when a slot is lost
        self.stalled = False  # whether slots have been silent for too long

    @property
    def empty(self) -> bool:
        """Whether nothing runs, waits or is to be settled."""
        return not self.running and not self.finished

    @property
    def abandoned(self) -> bool:
        """Whether functions still run that nobody waits for."""
        return any(pool.slots.lost for pool in self.pools)

    def pool_for(self, work: Work) -> Pool:
        """The pool that executes this work."""
        return self.suspects if work.isolated else self.pool_of[work.claim.task_id]

    def held(self) -> set[UUID]:
        """The task runs whose leases should be this child's."""
        return {
            each.claim.task_run_id
            for work in (*self.running, *self.finished)
            for each in batches.members(work)
        }

    # Into the slots.

    def submit(self, works: Iterable[Work]) -> None:
        """Hand work to the slots of its kind."""
        batches: dict[Pool, list[Work]] = {}
        now = monotonic()
        for work in works:
            pool = self.pool_for(work)
            self.running[work] = pool
            if pool.in_hand == 0:
                pool.progress_at = now
            pool.in_hand += work.node.slot_cost
            batches.setdefault(pool, []).append(work)
        for pool, batch in batches.items():
            pool.slots.submit(batch)

    def withdraw(self) -> list[Work]:
        """Take back everything that has not started."""
        return [work for pool in self.pools for work in self._withdraw(pool)]

    def withdraw_stalled(self, now: float) -> list[Work]:
        """Take back what was claimed ahead of slots that do not become free."""
        taken: list[Work] = []
        for pool in self.pools:
            silence = pool.slots.silence(now)
            pool.silent = silence > SILENT
            self.stalled = self.stalled or silence > self.child_stall
            waits = pool.in_hand > pool.size and now - pool.progress_at > STALLED
            if waits or pool.silent:
                waiting = self._withdraw(pool)
                if waiting:
                    pool.stalled()
                    taken += waiting
        return taken

    def _withdraw(self, pool: Pool) -> list[Work]:
        waiting = pool.slots.withdraw()
        for work in waiting:
            if self.running.pop(work, None) is not None:
                pool.in_hand -= work.node.slot_cost
        return [each for work in waiting for each in batches.members(work)]

    # Out of the slots.

    def collect(self, now: float) -> None:
        """Take what the slots have finished."""
        works = self.mailbox.take()
        if not works:
            return
        if not self.finished:
            self.finished_at = now
        seconds: dict[Pool, list[float]] = {}
        running, finished = self.running, self.finished
        for work in works:
            pool = running.pop(work, None)
            if pool is None:
                self._came_late(work)
                continue
            pool.in_hand -= work.node.slot_cost
            if work.members:
                finished.extend(batches.share_out(work))
            else:
                finished.append(work)
            result = work.result
            if result is not None:
                seconds.setdefault(pool, []).append(result.finished - result.started)
        for pool, durations in seconds.items():
            pool.measured(durations, now)

    def _came_late(self, work: Work) -> None:
        # Nobody waits for this result, but its slot is free after all.
        pool = self.pool_for(work)
        pool.slots.lost = max(0, pool.slots.lost - work.node.slot_cost)
        if not any(pool.slots.lost for pool in self.pools):
            self.lost_at = None

    def give_up_overdue(self, now: float) -> None:
        """Settle as timed out what has outlived its timeout and does not stop.

        A thread cannot be stopped: its slot is lost until its function ends.
        """
        for pool in self.pools:
            for work in pool.slots.overdue(now):
                if self.running.pop(work, None) is None:
                    continue
                work.timed_out = work.closed = True
                pool.slots.stop(work)
                pool.in_hand -= work.node.slot_cost
                pool.slots.lost += work.node.slot_cost
                self.lost_at = self.lost_at or now
                work.result = execute.timed_out(work)
                if not self.finished:
                    self.finished_at = now
                self.finished += batches.share_out(work) if work.members else (work,)
                logger.warning(
                    'Task "%s" of run %s outlived its execution timeout of %s s and '
                    "cannot be stopped; its slot is lost until it ends. Declare it "
                    "isolated=True to have it killed.",
                    work.node.name,
                    work.claim.run_id,
                    work.timeout,
                )

    def worn_out(self, now: float) -> bool:
        """Whether lost slots call for another child: half of them, or nothing else."""
        if self.lost_at is None or now - self.lost_at <= LINGER:
            return False
        half = any(0 < pool.slots.size <= pool.slots.lost * 2 for pool in self.pools)
        return half or not self.running

    def stop(self, gone: Collection[UUID]) -> None:
        """Ask functions to stop whose lease is gone; their reports would be refused."""
        for work, pool in list(self.running.items()):
            left = any(
                each.claim.task_run_id not in gone for each in batches.members(work)
            )
            if not left and not work.cancelled:
                work.cancelled = True
                pool.slots.stop(work)

    # To the database.

    def results(self, now: float) -> list[Result]:
        """What is to be settled now; empty while all of it waits for a lock."""
        if now < self.settle_at:
            return []
        return [work.result for work in self.finished if work.result is not None]

    def settled(self, settled: Settled) -> None:
        """Forget what was settled or refused; keep what is to be tried again."""
        if not settled.deferred and not settled.rejected:
            self.finished = []
            return
        deferred = {result.claim.task_run_id for result in settled.deferred}
        rejected = {r.claim.task_run_id: error for r, error in settled.rejected}
        again = []
        for work in self.finished:
            task_run_id = work.claim.task_run_id
            if task_run_id in rejected:
                if not self._replace_result(work, rejected[task_run_id]):
                    continue
            elif task_run_id not in deferred:
                continue
            again.append(work)
        self.finished = again
        self.finished_at = monotonic()
        self.settle_at = self.finished_at + RETRY_DEFERRED

    def _replace_result(self, work: Work, error: Exception) -> bool:
        logger.error(
            'The database refused the result of task "%s" of run %s: %s',
            work.node.name,
            work.claim.run_id,
            error,
        )
        if work.replaced:
            return False  # not even that: its lease is returned by a reconciliation
        work.replaced = True
        work.result = execute.refused_by_database(work, error)
        return True
