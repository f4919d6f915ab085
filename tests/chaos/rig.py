"""The rig of a soak: a private server and the processes that are kept running on it.

A `Role` is a worker or a scheduler that should always be there. Whoever disturbs one
says so to its role; `keep` starts again what has ended, lets go on what was frozen for
long enough, and notes what ended or hangs although nobody had asked for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from sample_project import embedded
from tests.acceptance.harness import MARK, Harness, Process, wait_until

LOST_AFTER = 3.0  # seconds

# Short, so that a minute holds many lives; long enough for a busy machine.
OPTIONS: dict[str, float | str] = {
    "HEARTBEAT": 0.5,
    "LOST_AFTER": LOST_AFTER,
    "GRACE": 8.0,
    "CHILD_STALL": 6.0,
    "PARTITION_BY": "day",
}
EXIT_WITHIN = 30.0  # seconds from SIGTERM to the end, on a busy machine
# Seconds after which a child that is frozen by itself is let go on: mostly before its
# supervisor has had enough of it.
HALTED = (2.0, 4.0, 20.0)


def url(server: embedded.EmbeddedServer) -> str:
    """The server for processes that must not start it."""
    return f"postgres://postgres@{str(server.sockets).replace('/', '%2F')}/postgres"


@dataclass
class Event:
    """One disturbance: what was done to which process, by the wall clock."""

    at: float
    what: str
    pid: int = 0
    detail: str = ""


@dataclass
class Role:
    """A process that should be there, and what is being done to it."""

    name: str
    arguments: tuple[str, ...]
    arm: Callable[[], str] = lambda: ""
    process: Process | None = None
    armed: str = ""
    start_at: float = 0.0
    frozen_until: float | None = None
    thawing: bool = False  # its children go on already
    ends_by: float | None = None  # it was told to end, by then
    excused: bool = False  # it was killed
    wanted: bool = True  # it is started again when it has ended

    @property
    def running(self) -> bool:
        """Whether its process is there, frozen or not."""
        return self.process is not None and self.process.running

    @property
    def idle(self) -> bool:
        """Whether nothing is being done to it."""
        return self.running and self.frozen_until is None and self.ends_by is None


@dataclass
class Rig:
    """Server, processes and their log files below one directory."""

    directory: Path
    random: Random
    roles: list[Role] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        logs = self.directory / "logs"
        logs.mkdir(parents=True)
        self.server = embedded.EmbeddedServer(self.directory / "server")
        self.harness = Harness(logs)
        self.harness.options |= OPTIONS
        self._halted: dict[int, float] = {}

    def environment(self) -> dict[str, str]:
        """What makes a process one of this rig.

        It does not use the server's own backend, which locks a file while it connects:
        whoever is frozen just then would hold it.
        """
        return {
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "DATABASE_URL": url(self.server),
            "ORCHESTRATOR_TEST_SERVER": "",
            "ORCHESTRATOR_TEST_OPTIONS": json.dumps(self.harness.options),
        }

    # What happens to processes.

    def note(self, what: str, pid: int = 0, detail: str = "") -> None:
        """Remember a disturbance."""
        self.events.append(Event(time.time(), what, pid, detail))

    def trouble(self, text: str) -> None:
        """Remember what must not happen."""
        self.troubles.append(text)

    def start(self, role: Role) -> None:
        """Start its process, perhaps with a failpoint armed."""
        role.armed = role.arm()
        environment = {**self.environment(), "ORCHESTRATOR_FAILPOINTS": role.armed}
        role.process = self.harness.manage(*role.arguments, environment=environment)
        role.frozen_until = role.ends_by = None
        role.excused = role.thawing = False
        self.note(f"start {role.name}", role.process.pid, role.armed)

    def kill(self, role: Role) -> None:
        """SIGKILL to the supervisor or scheduler."""
        if role.process is not None:
            role.excused = True
            role.process.kill()
            self.note(f"kill {role.name}", role.process.pid)

    def freeze(self, role: Role, seconds: float) -> None:
        """SIGSTOP to it and its children, for so long."""
        if role.process is not None:
            with contextlib.suppress(ProcessLookupError):
                role.process.freeze()
            role.frozen_until = time.monotonic() + seconds
            self.note(f"freeze {role.name}", role.process.pid, f"{seconds:.1f} s")

    def terminate(self, role: Role) -> None:
        """SIGTERM."""
        if role.process is not None:
            role.ends_by = time.monotonic() + EXIT_WITHIN
            role.process.terminate()
            self.note(f"terminate {role.name}", role.process.pid)

    # What is done about it.

    def keep(self) -> None:
        """Look after every role, once."""
        with self.lock:
            now = time.monotonic()
            for role in self.roles:
                self._keep(role, now)
            self._let_go_on(now)

    def _keep(self, role: Role, now: float) -> None:
        process = role.process
        if process is None:
            if role.wanted and now >= role.start_at:
                self.start(role)
        elif not process.running:
            self._ended(role, process)
            role.process = None
            role.start_at = now + self.random.uniform(0.0, 1.0)
        elif role.frozen_until is not None and now >= role.frozen_until:
            self._thaw(role, process, now)
        elif role.ends_by is not None and now >= role.ends_by:
            self.trouble(f"{role.name} ({process.pid}) has not ended on SIGTERM.")
            self.kill(role)

    def _thaw(self, role: Role, process: Process, now: float) -> None:
        """Children first, a while before their supervisor learns that it was lost."""
        children = [] if role.thawing else process.children()
        for pid in children or [process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        if children:
            role.frozen_until, role.thawing = now + self.random.uniform(0, 1), True
        else:
            role.frozen_until, role.thawing = None, False
            self.note(f"thaw {role.name}", process.pid)

    def _ended(self, role: Role, process: Process) -> None:
        code = process.popen.returncode
        if role.excused or (role.armed and code == -signal.SIGKILL):
            return
        if code == -signal.SIGTERM and "orchestrator: " not in process.log:
            return  # it was still loading
        if role.ends_by is None:
            self.trouble(f"{role.name} ({process.pid}) ended by itself, code {code}.")
        elif code:
            self.trouble(f"{role.name} ({process.pid}) ended with code {code}.")

    def _let_go_on(self, now: float) -> None:
        """Let go on what is frozen on its own: a child, or whom a failpoint froze."""
        ours = {
            role.process.pid
            for role in self.roles
            if role.process and role.frozen_until is not None
        }
        halted = {
            pid
            for pid, state, parent in self.family()
            if state == "T" and pid not in ours and parent not in ours
        }
        self._halted = {
            pid: self._halted.get(pid, now + self.random.choice(HALTED))
            for pid in halted
        }
        for pid, until in self._halted.items():
            if now >= until:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def family(self) -> list[tuple[int, str, int]]:
        """Every living process of the rig: process id, state, parent."""
        mark = f"{MARK}={self.harness.mark}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (path / "environ").read_bytes():
                    stat = (path / "stat").read_text().rpartition(")")[2].split()
                    found.append((int(path.name), stat[0], int(stat[1])))
        return found

    def calm(self) -> None:
        """Let everything go on, and replace what has a failpoint armed."""
        with self.lock:
            for role in self.roles:
                if role.frozen_until is not None:
                    role.frozen_until = 0.0
                role.arm = lambda: ""
            self.keep()
            for role in self.roles:
                if role.armed and role.idle:
                    self.terminate(role)

    def stop(self, what: str) -> None:
        """SIGTERM to all workers, or all schedulers; each must end in time."""
        roles = [role for role in self.roles if role.name.startswith(what)]
        with self.lock:
            for role in roles:
                role.wanted = False
                if role.idle:
                    self.terminate(role)
        while any(role.process for role in roles):
            self.keep()
            time.sleep(0.05)

    def close(self) -> None:
        """End what is still there; nothing should be, once all were told to stop."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self.harness.alive(), "all processes end", 5)
        for pid in self.harness.alive():
            self.trouble(f"Process {pid} was left behind: {_command(pid)}")
        with contextlib.suppress(AssertionError):
            self.harness.close()


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return "?"
