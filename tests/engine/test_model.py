"""Whatever happens, in whatever order: the engine agrees with a reference in Python.

A seed makes up workflows and what happens to their runs; after each step every status,
attempt and budget is compared, and the inspection finds nothing. MODEL_SEED runs one
seed alone, MODEL_STEPS makes the walks longer.
"""

from __future__ import annotations

import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from django.test import override_settings

from orchestrator.engine.cancel import cancel
from orchestrator.engine.claim import Claim
from orchestrator.engine.expire import expire
from orchestrator.engine.give_back import give_back
from orchestrator.engine.promote import promote
from orchestrator.engine.reprioritise import reprioritise
from orchestrator.engine.rescue import rescue
from orchestrator.engine.retry import retry
from orchestrator.engine.settle import Result
from orchestrator.exceptions import IllegalTransition
from orchestrator.states import AttemptOutcome, RunStatus, TaskRunStatus
from tests.engine.lab import Hand, Lab, task
from tests.engine.model import ModelRun, ModelTask

LOST_BUDGET = 1
SEEDS = [int(os.environ["MODEL_SEED"])] if "MODEL_SEED" in os.environ else range(12)
STEPS = int(os.environ.get("MODEL_STEPS", "120"))


class Walk:
    """The real engine and the reference, side by side, on one random walk."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self.lab = lab
        self.random = Random(seed)
        self.runs: list[ModelRun] = []
        self.hands = [lab.hand(), lab.hand()]
        self.held: list[tuple[Hand, Claim]] = []
        self.past: list[tuple[Hand, Claim]] = []
        self.base = datetime.now(UTC)
        self.now = 0.0
        self.trace: list[str] = []
        self.set_clocks()

    # Helpers.

    def some(self, items: list[Any], most: int) -> list[Any]:
        return self.random.sample(items, min(len(items), self.random.randint(0, most)))

    def moment(self, seconds: float) -> datetime:
        return self.base + timedelta(seconds=seconds)

    def set_clocks(self) -> None:
        for hand in (self.lab.main, *self.hands):
            hand.connection.execute(
                "SELECT set_config('orchestrator.now', %s, false)",
                [self.moment(self.now).isoformat()],
            )

    def find(self, claim: Claim) -> tuple[ModelRun, int, ModelTask]:
        [run] = [run for run in self.runs if run.id == claim.run_id]
        node = run.shape.task(claim.task_id)
        assert node is not None
        return run, node.ordinal, run.tasks[node.ordinal]

    def release(self, hand: Hand, claim: Claim) -> None:
        self.held.remove((hand, claim))
        self.past.append((hand, claim))

    # What may happen.

    def do_enqueue(self) -> None:
        names = [f"t{n}" for n in range(self.random.randint(1, 5))]
        nodes = [
            task(
                name,
                *sorted(self.some(names[:n], 2)),
                retries={
                    "attempts": self.random.randint(0, 2),
                    "initial": self.random.choice([0, 60]),
                    "factor": 2,
                    "max": 600,
                    "jitter": False,
                },
                schedule_timeout=self.random.choice([None, None, 45]),
            )
            for n, name in enumerate(names)
        ]
        shape = self.lab.shape(f"w{len(self.lab.shapes)}", *nodes)
        delay = self.random.choice([None, None, -5, 50])
        due = None if delay is None else self.now + delay
        priority = self.random.randint(-1, 1)
        run_ids = self.lab.enqueue(
            shape,
            self.random.randint(1, 2),
            priority=priority,
            run_after=None if due is None else self.moment(due),
        )
        for run_id in run_ids:
            self.runs.append(
                ModelRun.new(run_id, shape, priority, self.now, due, LOST_BUDGET)
            )

    def do_claim(self) -> None:
        hand = self.random.choice(self.hands)
        ready = sorted(
            -run.priority
            for run in self.runs
            for t in run.tasks
            if t.state == TaskRunStatus.QUEUED
        )
        limit = self.random.randint(1, 5)
        order = {run.id: n for n, run in enumerate(self.runs)}
        claims = sorted(
            hand.claim(limit), key=lambda c: (order[c.run_id], self.find(c)[1])
        )
        # As many as there are, and the best of them.
        assert sorted(-c.priority for c in claims) == ready[:limit]
        for claim in claims:
            found = self.find(claim)[2]
            assert found.state == TaskRunStatus.QUEUED
            assert (claim.attempt, claim.failures, claim.losses) == (
                found.attempt,
                found.failures,
                found.losses,
            )
            found.state = TaskRunStatus.RUNNING
            self.held.append((hand, claim))

    def do_settle(self) -> None:
        """A batch of one worker: some of what it holds, some that it should not report.

        That is what it held long ago, what another one holds, and the same once more.
        """
        hand = self.random.choice(self.hands)
        mine = [claim for owner, claim in self.held if owner is hand]
        wrong = [claim for owner, claim in self.past if owner is hand][-6:]
        wrong += [claim for owner, claim in self.held if owner is not hand]
        good = self.some(mine, 4)
        hows = {
            claim.task_run_id: self.random.choice(["done", "done", "fail", "for good"])
            for claim in [*good, *wrong]
        }
        batch = [*good, *self.some(wrong, 2), *self.some(good, 1)]
        self.random.shuffle(batch)
        results = [self.result(claim, hows[claim.task_run_id]) for claim in batch]
        exchanged = hand.exchange(results)
        assert exchanged.accepted == len(good)
        assert [r.claim for r in exchanged.refused if r.claim in good] == []
        # First the failures: what they doom, no success of the same batch sets free.
        for claim in sorted(good, key=lambda c: hows[c.task_run_id] == "done"):
            run, ordinal, _ = self.find(claim)
            if hows[claim.task_run_id] == "done":
                run.complete(ordinal, self.now)
            else:
                retryable = hows[claim.task_run_id] == "fail"
                run.fail(ordinal, self.now, retryable=retryable)
            self.release(hand, claim)

    def result(self, claim: Claim, how: str) -> Result:
        if how == "done":
            return self.lab.completed(claim, output=claim.attempt)
        return self.lab.failed(claim, retryable=how == "fail")

    def do_give_back(self) -> None:
        for hand, claim in self.some(self.held, 2):
            held = [(claim.run_id, claim.task_run_id, claim.attempt)]
            other = next(h for h in self.hands if h is not hand)
            assert not give_back(other.session, other.worker_id, held)
            assert len(give_back(hand.session, hand.worker_id, held)) == 1
            run, ordinal, _ = self.find(claim)
            run.give_back(ordinal, self.now)
            self.held.remove((hand, claim))  # the same attempt may be claimed again

    def do_lose_worker(self) -> None:
        hand = self.random.choice(self.hands)
        mine = [claim for owner, claim in self.held if owner is hand]
        started = self.some(mine, len(mine))
        keys = [claim.task_run_id for claim in started]
        assert rescue(self.lab.session, hand.worker_id, started=keys) == len(mine)
        for claim in mine:
            run, ordinal, _ = self.find(claim)
            if claim in started:
                run.lose(ordinal, self.now)
                self.release(hand, claim)
            else:
                run.give_back(ordinal, self.now)
                self.held.remove((hand, claim))

    def do_cancel(self) -> None:
        chosen = self.some(self.runs, 2)
        ended = cancel(self.lab.session, [run.id for run in chosen], reason="stop")
        assert set(ended) == {run.id for run in chosen if run.cancel()}
        for hand, claim in list(self.held):
            if self.find(claim)[2].state != TaskRunStatus.RUNNING:
                self.release(hand, claim)

    def do_retry(self) -> None:
        ended = [run for run in self.runs if run.ended]
        for run in self.some(ended, 2) + self.some(self.runs, 1):
            names = [t.shape.name for t in run.tasks]
            which = self.random.choice(["failed", "failed", "all", self.some(names, 2)])
            expected = run.retry(which, self.now)
            try:
                found = retry(self.lab.session, run.id, tasks=which)
            except IllegalTransition:
                found = None
            assert found == expected

    def do_reprioritise(self) -> None:
        for run in self.some(self.runs, 2):
            priority = self.random.randint(-1, 1)
            moved = reprioritise(self.lab.session, [run.id], priority)
            assert moved == (0 if run.ended else 1)
            if not run.ended:
                run.priority = priority

    def do_wait(self) -> None:
        self.now += self.random.choice([10, 31, 60, 130])
        self.set_clocks()

    def do_promote(self) -> None:
        promote(self.lab.session)
        for run in self.runs:
            run.promote(self.now)

    def do_expire(self) -> None:
        expire(self.lab.session)
        for run in self.runs:
            run.expire(self.now)

    WEIGHTS = {
        "enqueue": 3,
        "claim": 8,
        "settle": 8,
        "give_back": 1,
        "lose_worker": 1,
        "cancel": 1,
        "retry": 2,
        "reprioritise": 1,
        "wait": 2,
        "promote": 2,
        "expire": 1,
    }

    def step(self) -> None:
        [name] = self.random.choices(list(self.WEIGHTS), list(self.WEIGHTS.values()))
        self.trace.append(name)
        getattr(self, f"do_{name}")()

    # What must hold after each of these.

    def check(self) -> None:
        for run in self.runs:
            assert self.lab.run(run.id)["generation"] == run.generation
            assert self.lab.status(run.id) == run.status
            assert self.lab.task_statuses(run.id) == {
                t.shape.name: t.state.value for t in run.tasks
            }
        made = Counter(
            (run.id, outcome.value)
            for run in self.runs
            for t in run.tasks
            for outcome in t.outcomes
        )
        recorded = self.lab.rows(
            "SELECT task_run.run_id, outcome FROM orchestrator_attempt"
            " JOIN orchestrator_task_run AS task_run ON task_run.id = task_run_id"
        )
        assert Counter(recorded) == made
        assert self.lab.violations() == []


def finish(walk: Walk) -> None:
    """Let everything come to its end: nothing is stuck."""
    walk.WEIGHTS = {"claim": 5, "settle": 5, "wait": 1, "promote": 1}
    for _ in range(3_000):
        if all(run.ended for run in walk.runs):
            return
        walk.step()
    raise AssertionError("The runs do not end.")


@pytest.mark.parametrize("seed", SEEDS)
def test_the_engine_agrees_with_the_reference(lab: Lab, seed: int) -> None:
    options = {"PARTITION_BY": "none", "LOST_BUDGET": LOST_BUDGET}
    walk = Walk(lab, seed)
    try:
        with override_settings(ORCHESTRATOR=options):
            for _ in range(STEPS):
                walk.step()
                walk.check()
            finish(walk)
            walk.check()
    except BaseException:
        print(f"MODEL_SEED={seed}, after {len(walk.trace)} steps: {walk.trace[-12:]}")
        raise
    assert lab.violations(at_rest=True) == []
    ends = Counter(run.status for run in walk.runs)
    assert set(ends) <= {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}
    outcomes = {o for run in walk.runs for t in run.tasks for o in t.outcomes}
    assert outcomes >= {AttemptOutcome.COMPLETED, AttemptOutcome.FAILED}
