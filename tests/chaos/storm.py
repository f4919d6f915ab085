"""One soak from its start to its verdict."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from django.core.management import call_command
from django.db import Error as DatabaseError
from django.db import connection

from sample_project.embedded.base import server as handle_of
from tests.chaos import checks, figures
from tests.chaos.journal import Journal
from tests.chaos.monkey import PAUSE, Monkey
from tests.chaos.rig import Rig, Role
from tests.chaos.tasks import TABLES
from tests.chaos.workload import UNFINISHED, Actor, Operator, Producer

DRAIN = 90.0  # seconds within which everything must end once the chaos is over
LONGEST = 6.0  # seconds that the chaos waits for a worker that is at work
SETTLE = 30.0  # seconds within which dead workers and old deadlines must be gone

UNSETTLED = """
    SELECT count(*) FROM orchestrator_worker WHERE status NOT IN ('STOPPED', 'LOST')
    UNION ALL SELECT count(*) FROM orchestrator_deadline
"""


class Storm:
    """A rig, its load, its monkey, and what came of them."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.seed = seed
        self.journal = Journal()
        self.rig = Rig(directory, Random(f"{seed} rig"))
        self.monkey = Monkey(self.rig, Random(f"{seed} monkey"))
        self.figures: dict[str, Any] = {}
        workers = (
            ("--processes", "2", "--slots", "4"),
            ("--processes", "1", "--slots", "6", "--queues", "effects,default,bulk"),
        )
        for number, arguments in enumerate(workers, 1):
            self.rig.roles.append(
                Role(
                    f"worker-{number}",
                    ("runworker", *arguments, "--name", f"soak-{number}"),
                    self.monkey.arm_worker,
                )
            )
        self.rig.roles += [
            Role(f"scheduler-{number}", ("runscheduler",), self.monkey.arm_scheduler)
            for number in (1, 2)
        ]

    def run(self, seconds: float) -> list[str]:
        """Everything, for `seconds` of chaos; what was found to be wrong."""
        began = time.monotonic()
        try:
            self._prepare()
            self._rage(seconds)
            self._drain()
            self.rig.stop("worker")
            self._settle()
            self.rig.stop("scheduler")
            self.rig.close()
            found = checks.everything(self.journal, self.rig)
            self.figures |= figures.measured(self.rig)
        finally:
            self.rig.close()
            self._write_down()
            connection.close()
            handle_of(self.directory / "server", fast=False).release()
        self.figures["seconds"] = time.monotonic() - began
        return self.rig.troubles + found

    def summary(self, troubles: list[str]) -> str:
        """What happened, in a few lines."""
        return figures.summary(self, troubles)

    # The acts.

    def _prepare(self) -> None:
        call_command("migrate", verbosity=0)
        with connection.cursor() as cursor:
            cursor.execute(TABLES)
        self.rig.keep()

    def _rage(self, seconds: float) -> None:
        producing, operating = (
            Random(f"{self.seed} load"),
            Random(f"{self.seed} operator"),
        )
        producer = Producer(self.journal, producing)
        operator = Operator(self.journal, operating)
        actors = [
            Actor("producer", producer.act, producing, 0.15),
            Actor("operator", operator.act, operating, 0.25),
        ]
        for actor in actors:
            actor.start()
        self._disturb(time.monotonic() + seconds)
        self.rig.calm()
        for actor in actors:
            actor.stop()

    def _disturb(self, deadline: float) -> None:
        random = self.monkey.random
        next_at = time.monotonic() + 5.0  # for the first processes to start
        while (now := time.monotonic()) < deadline:
            # On a busy machine workers need time to come back, or nothing is done.
            if now >= next_at + LONGEST or (now >= next_at and self.monkey.is_bored()):
                next_at = now + random.expovariate(1 / PAUSE)
                try:
                    self.monkey.act()
                except DatabaseError:
                    connection.close()
            self.rig.keep()
            time.sleep(0.05)

    def _drain(self) -> None:
        """Wait until nothing is left; the processes go on being looked after."""
        began = time.monotonic()
        while self._count(UNFINISHED):
            self.rig.keep()
            if time.monotonic() - began > DRAIN:
                self.rig.trouble(
                    f"{self._count(UNFINISHED)} runs have not ended {DRAIN:g} s after "
                    "the chaos."
                )
                break
            time.sleep(0.1)
        self.figures["drain"] = time.monotonic() - began

    def _settle(self) -> None:
        """Wait until schedulers have noticed whom they lost, and what is over."""
        deadline = time.monotonic() + SETTLE
        while self._count(UNSETTLED) and time.monotonic() < deadline:
            self.rig.keep()
            time.sleep(0.1)

    def _count(self, statement: str) -> int:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return sum(row[0] for row in cursor.fetchall())

    def _write_down(self) -> None:
        """Keep what was done, for whoever looks for the cause."""
        written = {
            "events": [asdict(event) for event in self.rig.events],
            "entries": [asdict(entry) for entry in self.journal.entries],
            "asked": {
                str(run_id): [asdict(asked) for asked in each]
                for run_id, each in self.journal.asked.items()
            },
        }
        text = json.dumps(written, default=str, indent=1)
        (self.directory / "journal.json").write_text(text)
