"""A process fails at each failpoint in each way, beside healthy ones: nothing is lost.

One worker or scheduler is armed; a healthy worker and a healthy scheduler share the
work with it, and finish it. Whatever was stopped is let go on once others have taken
over, and reports too late.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator import RunHandle
from orchestrator.engine import failpoints, inspect, sessions
from orchestrator.models import Attempt, Run, TaskRun
from tests.acceptance.harness import Harness, Process
from tests.app import tasks, workflows
from tests.app.workflows import Journey, effects

pytestmark = pytest.mark.chaos

PATIENCE = 60.0  # seconds for anything, on a busy machine


@pytest.fixture(scope="module", autouse=True)
def _healthy(ground: Harness) -> Iterator[None]:
    """Who survives all tests of this module."""
    worker, scheduler = ground.worker("--slots", "4"), ground.scheduler()
    ground.ready(worker)
    ground.says(scheduler, "has started")
    yield
    assert worker.stop() == 0
    assert scheduler.stop() == 0


class Load:
    """Runs enqueued for one test, and what must have become of them."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace
        self.single: list[RunHandle[str]] = []
        self.chains: list[RunHandle[dict[str, int]]] = []
        self.flaky: list[RunHandle[int]] = []
        self.journeys: dict[str, RunHandle[list[Any]]] = {}

    def more(self) -> None:
        """A graph, some single tasks, one that is tried again, and durable ones."""
        number = len(self.chains)
        self.chains.append(tasks.chain.enqueue({"number": number}))
        calls = [
            tasks.work.bind(str(self.trace), f"t{number}-{n}", 0.05) for n in range(3)
        ]
        self.single += tasks.work.enqueue_many(calls)
        own = self.trace.with_name(f"flaky-{number}")
        own.touch()
        self.flaky.append(tasks.flaky.enqueue(str(own), 1))
        durable = str(self.trace.with_name("durable"))
        for target in (workflows.journey, workflows.ajourney):
            name = f"{target.name}-{uuid4()}"
            self.journeys[name] = target.enqueue(Journey(durable, name, 0.2))

    @property
    def run_ids(self) -> list[UUID]:
        """All runs."""
        return [run.id for run in (*self.single, *self.chains, *self.flaky)]

    def ended(self) -> bool:
        """Whether every run has ended."""
        durable = [run.id for run in self.journeys.values()]
        return not Run.objects.filter(
            id__in=self.run_ids + durable, outcome_status__isnull=True
        ).exists()

    def check(self) -> None:
        """Every task has exactly one accepted result, and the right one."""
        assert [run.result(0)["third"] for run in self.chains] == [
            2 * number + 1 for number in range(len(self.chains))
        ]
        assert {run.result(0) for run in self.single} == {
            line.split()[1] for line in self.trace.read_text().splitlines()
        }
        assert all(run.result(0) >= 2 for run in self.flaky)
        for name, run in self.journeys.items():
            self.check_journey(name, run)
        ours = TaskRun.objects.filter(run_id__in=self.run_ids)
        accepted = Attempt.objects.filter(
            outcome="COMPLETED", task_run_id__in=ours.values("id")
        )
        assert accepted.count() == ours.count() == 7 * len(self.chains)
        assert accepted.values("task_run_id").distinct().count() == ours.count()

    def check_journey(self, name: str, run: RunHandle[list[Any]]) -> None:
        """The result is right, and each step has had its effect once."""
        numbers = ["1", "2"]
        children = [name]
        if name.startswith(workflows.ajourney.name):
            numbers = ["1.1", "1.2", "2.1", "2.2"]
            children = [f"{name}.1", f"{name}.2"]
        told = run.result(0)
        assert effects(f"{name}:") == [f"{name}: {number}" for number in numbers]
        if len(children) == 1:
            assert told == [f"{name}: 1", name, f"{name}: 2"]
        else:
            assert [branch[1] for branch in told] == children
        assert Run.objects.get(pk=run.id).children().count() == len(children)


# Where a transaction is open: a process that is frozen there holds its locks for as
# long as the server lets it.
IN_TRANSACTION = {"journal.before", "spawn.created", "waits.written"}
CASES = [
    (point, action)
    for point in failpoints.POINTS
    for action in ("kill", "raise", "stop")
    if action != "stop" or point not in IN_TRANSACTION
]


def hit(process: Process, point: str, action: str) -> bool:
    """Whether the process, or a child of it, has come to its failpoint."""
    if action == "raise":
        return f"Failpoint {point}" in process.log
    if action == "kill" and point.startswith(("rescue", "promote")):
        return not process.running
    if action == "kill":
        return "died (signal SIGKILL)" in process.log
    pids = [process.pid, *process.children()]
    return any(_state(pid) == "T" for pid in pids)


def _state(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[0]


@pytest.mark.parametrize(("point", "action"), CASES)
def test_a_crash_there_loses_nothing_and_accepts_nothing_twice(
    ground: Harness, trace: Path, point: str, action: str
) -> None:
    load = Load(trace)
    often = 1 if point == "rescue.before" else 2
    armed = _start(ground, point, f"{point}={action}@{often}")
    deadline = time.monotonic() + PATIENCE
    while not hit(armed, point, action):
        assert time.monotonic() < deadline, f"{point} was never reached"
        load.more()
        if point == "rescue.before":
            _kill_busy_child(armed, trace)
        time.sleep(0.2)
    if action == "stop":
        armed.freeze()
    ground.wait_until(load.ended, "every run ends", PATIENCE)
    if armed.running:
        if action == "stop":
            armed.thaw()
        armed.stop()
    load.check()
    # Schedulers may still have to find whom they lost; no work waits for that.
    assert inspect.violations(sessions.django_session(), at_rest=True) == []


def _start(ground: Harness, point: str, armed_with: str) -> Process:
    environment = {"ORCHESTRATOR_FAILPOINTS": armed_with}
    if point.startswith("promote"):
        return ground.scheduler(environment=environment)
    armed = ground.worker("--slots", "4", environment=environment)
    ground.ready(armed)
    return armed


def _kill_busy_child(worker: Process, trace: Path) -> None:
    """A child's death has its supervisor take back what it held."""
    children = set(map(str, worker.children()))
    for line in trace.read_text().splitlines():
        word, _, pid = line.split()
        if word == "start" and pid in children:
            os.kill(int(pid), signal.SIGKILL)
            return
