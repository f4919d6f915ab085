from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from sample_project.embedded import EmbeddedServer
from sample_project.embedded.server import socket_directory
from sample_project.launch.web import free_port

ROOT = Path(__file__).resolve().parents[2]


class Launch:
    """The launcher with stand-ins, and what it has printed so far."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        inherited = {k: v for k, v in os.environ.items() if k != "DATABASE_URL"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sample_project.launch", *arguments],
            cwd=ROOT,
            env={
                **inherited,
                "DJANGO_SETTINGS_MODULE": "tests.platform.standins.settings",
                "DEMO_PASSWORD": "open sesame",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read on until ``pattern`` has been printed."""
        assert self.process.stdout is not None
        while not (found := re.search(pattern, self.output)):
            line = self.process.stdout.readline()
            assert line, f"ended without printing {pattern!r}:\n{self.output}"
            self.output += line
        return found

    def end(self) -> int:
        """Wait for its end; returns its exit code."""
        rest, _ = self.process.communicate(timeout=90)
        self.output += rest
        return self.process.returncode


Launcher = Callable[..., Launch]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "postgres"
    yield path
    EmbeddedServer(path).remove()


@pytest.fixture
def launch(directory: Path) -> Iterator[Launcher]:
    started: list[Launch] = []

    def start(*arguments: str, **environment: str) -> Launch:
        environment.setdefault("STANDIN_DIRECTORY", str(directory))
        started.append(Launch(*arguments, **environment))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.terminate()
        if one.process.stdout and not one.process.stdout.closed:
            one.end()


def exists(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_the_whole_sample_is_served_and_ends_without_a_trace(
    launch: Launcher, directory: Path
) -> None:
    run = launch("--port", "8400")
    base = run.wait_for(r"Admin: (http://127\.0\.0\.1:84\d\d)/admin/")[1]
    run.wait_for(r"sign in as demo with password open sesame")
    worker, child = run.wait_for(r"worker │ pid=(\d+) child=(\d+)").groups()
    scheduler = run.wait_for(r"scheduler │ pid=(\d+)")[1]
    run.wait_for("library │ indexing")
    run.wait_for("main job is done")
    with urlopen(f"{base}/admin/login/") as page:
        assert "Django administration" in page.read().decode()
    with urlopen(f"{base}/static/admin/css/base.css") as sheet:
        assert sheet.status == 200

    run.process.send_signal(signal.SIGINT)
    assert run.end() == 0
    assert "scheduler │ ended in order" in run.output
    assert not any(exists(int(pid)) for pid in (worker, child, scheduler))
    assert not socket_directory(directory).exists()  # the server removes it last


def test_the_job_alone_ends_with_its_exit_code(launch: Launcher) -> None:
    assert launch("--once").end() == 0
    run = launch("--once", STANDIN_JOB_CODE="3")
    assert run.end() == 3
    assert "main job stopped with exit code 3" in run.output
    assert "Admin:" not in run.output


def test_a_killed_worker_is_replaced(launch: Launcher) -> None:
    run = launch("--once", STANDIN_JOB_SECONDS="9")
    worker = int(run.wait_for(r"worker │ pid=(\d+)")[1])
    time.sleep(5.5)  # the launcher gives up on what dies sooner
    os.kill(worker, signal.SIGKILL)
    run.wait_for(rf"The worker \(process {worker}\) was killed by SIGKILL")
    successor = int(run.wait_for(rf"worker │ pid=((?!{worker})\d+)")[1])
    assert run.end() == 0
    assert not exists(successor)


def test_a_worker_that_cannot_start_stops_everything_and_is_named(
    launch: Launcher,
) -> None:
    run = launch("--once", STANDIN_WORKER="broken", STANDIN_JOB_SECONDS="60")
    assert run.end() == 1
    assert "worker │ CommandError: no such queue" in run.output
    assert "The worker stopped with exit code 1" in run.output
    assert "to see it alone: python manage.py runworker" in run.output


def test_a_database_that_does_not_answer_is_named_with_the_way_out(
    launch: Launcher,
) -> None:
    run = launch(
        "--once",
        STANDIN_DIRECTORY="",
        DATABASE_URL="postgres://nobody@127.0.0.1:1/nothing",
    )
    assert run.end() == 1
    assert "The database does not answer: " in run.output
    assert "unset DATABASE_URL" in run.output
    assert "Traceback" not in run.output


def test_termination_of_a_job_is_not_success(launch: Launcher) -> None:
    run = launch("--once", STANDIN_JOB_SECONDS="60")
    run.wait_for("library │ indexing")
    run.process.terminate()
    assert run.end() == 130


def test_a_taken_port_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) > port
        with pytest.raises(OSError, match="PORT=9000 make run"):
            free_port(port, tries=1)
