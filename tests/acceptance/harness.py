"""Real worker and scheduler processes for a test, and none left after it.

    worker = harness.worker("--slots", "4")
    harness.wait_until(lambda: handle.refresh().status == "COMPLETED", "it completes")
    worker.kill()

Every process that a harness starts carries its mark in the environment, so its children
are known, too: at the end each of them must be gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

Value = TypeVar("Value")

ROOT = Path(__file__).resolve().parent.parent.parent
MARK = "ORCHESTRATOR_TEST_HARNESS"

# Short enough for a test, long enough for a machine of two busy cores.
SHORT_TIMES = {"HEARTBEAT": 0.5, "LOST_AFTER": 3.0, "GRACE": 10.0}


def wait_until(
    condition: Callable[[], Value],
    what: str,
    timeout: float = 30.0,
    detail: Callable[[], str] = str,
) -> Value:
    """Wait for a true value and return it; fail with `what` after so many seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"Not within {timeout:g} s: {what}. {detail()}")
        time.sleep(0.02)


class Process:
    """One `manage.py` process, in a group of its own."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path):
        self.log_path = log
        with log.open("wb") as file:
            self.popen = subprocess.Popen(
                [sys.executable, str(ROOT / "manage.py"), *arguments],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id of the supervisor or scheduler."""
        return self.popen.pid

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self.log_path.read_text()

    def children(self) -> list[int]:
        """The process ids of its living children."""
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        with contextlib.suppress(OSError):
            return [int(pid) for pid in path.read_text().split()]
        return []

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor or scheduler alone."""
        self.popen.send_signal(number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        self.popen.wait(10)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for its end; its exit code."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"Still running after {timeout:g} s.\n{self.log}"
            ) from None

    def stop(self) -> int:
        """SIGTERM, and wait for the end."""
        self.terminate()
        return self.wait()

    def freeze(self) -> None:
        """SIGSTOP to it and to all its children."""
        for pid in (self.pid, *self.children()):
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT to it and to all its children."""
        for pid in (*self.children(), self.pid):
            os.kill(pid, signal.SIGCONT)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.popen.poll() is None


class Harness:
    """Starts processes against the running test's database."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mark = uuid.uuid4().hex
        self.options: dict[str, Any] = dict(SHORT_TIMES)
        self.processes: list[Process] = []

    def worker(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start `runworker`."""
        return self.manage("runworker", *arguments, environment=environment)

    def scheduler(self, *, environment: Mapping[str, str] | None = None) -> Process:
        """Start `runscheduler`."""
        return self.manage("runscheduler", environment=environment)

    def manage(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start any command of `manage.py`."""
        number = len(self.processes)
        process = Process(
            list(arguments),
            {
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.acceptance.settings",
                "ORCHESTRATOR_TEST_OPTIONS": json.dumps(self.options),
                MARK: self.mark,
                **(environment or {}),
            },
            self.directory / f"{number}-{arguments[0]}.log",
        )
        self.processes.append(process)
        return process

    def wait_until(
        self, condition: Callable[[], Value], what: str, timeout: float = 30.0
    ) -> Value:
        """`wait_until`, which shows the logs of all processes when it fails."""
        return wait_until(condition, what, timeout, self.logs)

    def ready(self, process: Process, children: int = 1) -> list[int]:
        """Wait until a worker has its children; their process ids."""
        return self.wait_until(
            lambda: [p for p in [process.children()] if len(p) >= children],
            "the worker has its children",
        )[0]

    def says(self, process: Process, text: str, timeout: float = 30.0) -> None:
        """Wait until the process has printed `text`."""
        self.wait_until(lambda: text in process.log, f"it says {text!r}", timeout)

    def logs(self) -> str:
        """What all processes have printed."""
        return "\n".join(
            f"--- {process.log_path.name}\n{process.log}" for process in self.processes
        )

    def alive(self) -> list[int]:
        """Every process of this harness that is alive, children included."""
        mark = f"{MARK}={self.mark}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            pid = int(path.name)
            with contextlib.suppress(OSError):
                if pid == os.getpid() or mark not in (path / "environ").read_bytes():
                    continue
                if (path / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    found.append(pid)
        return found

    def close(self) -> None:
        """End everything; fails where a process outlived its worker."""
        for process in self.processes:
            if process.running:
                with contextlib.suppress(OSError):
                    process.thaw()
                # Not SIGQUIT alone, which a shell's background jobs ignore.
                process.signal(signal.SIGQUIT)
                process.signal(signal.SIGTERM)
        for process in self.processes:
            with contextlib.suppress(AssertionError):
                process.wait(10)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self.alive(), "all processes end", timeout=5)
        left = self.alive()
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.popen.wait(10)
        assert not left, f"Processes were left behind: {left}"
