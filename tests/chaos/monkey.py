"""The chaos monkey: disturbs a process or the database, at random but by a seed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from django.db import connection

from orchestrator.engine import failpoints
from tests.chaos.rig import LOST_AFTER, Rig, Role

PAUSE = 0.5  # seconds between two disturbances, on average
STARTING = 0.15  # how often a worker may be disturbed that is not at work yet
SLOTS = 4  # threads that a child has at least, once it is at work
LIFE = 3.0  # seconds that most children have, and a third of them load the project
TICKS = os.sysconf("SC_CLK_TCK")
RESTART_EVERY = 18.0  # seconds between two restarts of the database, on average

BACKENDS = """
    SELECT pid FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
      AND datname = current_database() AND application_name = ANY (%s)
"""
ENGINE_NAMES = ["orchestrator"]
TASK_NAMES = [""]


def at_work(role: Role) -> bool:
    """Whether it is a scheduler, or a worker with a child that has done something."""
    if role.process is None or not role.name.startswith("worker"):
        return True
    return any(_has_worked(child) for child in role.process.children())


def _has_worked(child: int) -> bool:
    """Whether its slots are there, and it is old enough."""
    try:
        threads = len(list(Path(f"/proc/{child}/task").iterdir()))
        stat = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        up = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return False
    return threads > SLOTS and up - int(stat[19]) / TICKS > LIFE


class Monkey:
    """What is done to a rig, once for each call of `act`."""

    def __init__(self, rig: Rig, random: Random) -> None:
        self.rig = rig
        self.random = random
        self.done: Counter[str] = Counter()
        self.restart_at = time.monotonic() + random.uniform(6, 12)
        self.tricks: list[tuple[int, Callable[[], bool]]] = [
            (18, self.kill_child),
            (5, self.kill_worker),
            (5, self.kill_scheduler),
            (6, self.freeze_worker),
            (4, self.freeze_supervisor),
            (5, self.freeze_child),
            (3, self.freeze_scheduler),
            (4, self.terminate_worker),
            (3, self.terminate_scheduler),
            (18, self.cut_engine),
            (6, self.cut_tasks),
        ]

    def act(self) -> None:
        """Do one thing, and count it."""
        if time.monotonic() >= self.restart_at:
            self.restart_database()
            return
        weights = [weight for weight, _ in self.tricks]
        trick = self.random.choices([trick for _, trick in self.tricks], weights)[0]
        with self.rig.lock:
            if trick():
                self.done[trick.__name__] += 1

    def is_bored(self) -> bool:
        """Whether some worker is at work, undisturbed."""
        return any(
            role.name.startswith("worker") and role.idle and at_work(role)
            for role in self.rig.roles
        )

    def arm_worker(self) -> str:
        """A failpoint for a worker that starts; for a third of them none."""
        if self.random.random() < 0.35:
            return ""
        point = self.random.choice(failpoints.POINTS)
        action = self.random.choices(("kill", "raise", "stop"), (6, 3, 1))[0]
        # Late, for children that die young come back ever more slowly.
        often = 2 if point.startswith("rescue") else self.random.randint(40, 400)
        return f"{point}={action}@{often}"

    def arm_scheduler(self) -> str:
        """A failpoint for a scheduler that starts; mostly none."""
        if self.random.random() < 0.75:
            return ""
        point = self.random.choice(("promote.before", "rescue.before"))
        action = self.random.choice(("kill", "raise"))
        return f"{point}={action}@{self.random.randint(2, 20)}"

    # Processes.

    def kill_child(self) -> bool:
        """SIGKILL to one child of a worker."""
        return self._signal_child(signal.SIGKILL)

    def freeze_child(self) -> bool:
        """SIGSTOP to one child; its supervisor lives on."""
        return self._signal_child(signal.SIGSTOP)

    def kill_worker(self) -> bool:
        """SIGKILL to a supervisor, whatever else is being done to it."""
        role = self._one("worker", lambda role: role.running)
        return role is not None and self._do(self.rig.kill, role)

    def kill_scheduler(self) -> bool:
        """SIGKILL to a scheduler."""
        role = self._one("scheduler", lambda role: role.running)
        return role is not None and self._do(self.rig.kill, role)

    def freeze_worker(self) -> bool:
        """SIGSTOP to a supervisor and its children, beyond their leases."""
        return self._freeze("worker")

    def freeze_scheduler(self) -> bool:
        """SIGSTOP to a scheduler."""
        return self._freeze("scheduler")

    def freeze_supervisor(self) -> bool:
        """SIGSTOP to a supervisor alone: its children go on without a lease."""
        role = self._one("worker", lambda role: role.idle)
        if role is None or role.process is None:
            return False
        role.process.signal(signal.SIGSTOP)
        seconds = self._beyond_lease()
        role.frozen_until = time.monotonic() + seconds
        self.rig.note("freeze supervisor", role.process.pid, f"{seconds:.1f} s")
        return True

    def terminate_worker(self) -> bool:
        """SIGTERM to a worker."""
        role = self._one("worker", lambda role: role.idle)
        return role is not None and self._do(self.rig.terminate, role)

    def terminate_scheduler(self) -> bool:
        """SIGTERM to a scheduler."""
        role = self._one("scheduler", lambda role: role.idle)
        return role is not None and self._do(self.rig.terminate, role)

    def _freeze(self, what: str) -> bool:
        role = self._one(what, lambda role: role.idle)
        if role is None:
            return False
        self.rig.freeze(role, self._beyond_lease())
        return True

    def _beyond_lease(self) -> float:
        return LOST_AFTER + self.random.uniform(-1.5, 3.0)

    def _signal_child(self, number: signal.Signals) -> bool:
        role = self._one("worker", lambda role: role.running)
        if role is None or role.process is None or not role.process.children():
            return False
        child = self.random.choice(role.process.children())
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)
        self.rig.note(
            f"{number.name} to a child of {role.name}", role.process.pid, f"{child}"
        )
        return True

    def _one(self, what: str, fit: Callable[[Role], bool]) -> Role | None:
        """One that fits; seldom a worker that still starts, or nothing gets done."""
        starting = self.random.random() < STARTING
        found = [
            role
            for role in self.rig.roles
            if role.name.startswith(what) and fit(role) and (starting or at_work(role))
        ]
        return self.random.choice(found) if found else None

    @staticmethod
    def _do(deed: Callable[[Role], None], role: Role) -> bool:
        deed(role)
        return True

    # The database.

    def cut_engine(self) -> bool:
        """Terminate some connections of supervisors, children and schedulers."""
        return self._cut(ENGINE_NAMES, self.random.randint(1, 3))

    def cut_tasks(self) -> bool:
        """Terminate some connections of tasks, and of the producer."""
        return self._cut(TASK_NAMES, self.random.randint(1, 2))

    def _cut(self, names: list[str], most: int) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(BACKENDS, [names])
            pids = sorted(row[0] for row in cursor.fetchall())
            chosen = self.random.sample(pids, min(most, len(pids)))
            for pid in chosen:
                cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
        self.rig.note("terminate backends", 0, f"{names} {len(chosen)}")
        self.done["backends"] += len(chosen)
        return bool(chosen)

    def restart_database(self) -> None:
        """Stop it, by a crash or in good order, and start it again."""
        mode = self.random.choice(("immediate", "fast"))
        connection.close()
        self.rig.note("stop the database", 0, mode)
        with self.rig.server.outage(mode):
            time.sleep(self.random.uniform(0.0, 1.5))
        self.rig.note("the database is back")
        self.done[f"restart_{mode}"] += 1
        self.restart_at = time.monotonic() + RESTART_EVERY * self.random.uniform(
            0.6, 1.4
        )
