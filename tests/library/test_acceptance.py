"""The main job with real processes: a worker dies in the middle, nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db.models import Count

from orchestrator.engine import inspect, sessions
from orchestrator.models import Attempt, Lease, Run
from orchestrator.states import AttemptOutcome, RunStatus
from sample_project.library import counting
from sample_project.library.models import Document
from tests.library.oracle import expected

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(300),
]

ROOT = Path(__file__).resolve().parents[2]

DISTRIBUTIONS = ("Django", "pip", "pytest", "psycopg", "asgiref")

SETTINGS = """
from datetime import timedelta
from tests.settings import *
ORCHESTRATOR = {
    **ORCHESTRATOR,
    "HEARTBEAT": timedelta(milliseconds=500),
    "LOST_AFTER": timedelta(seconds=3),
}
"""

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `manage.py …` on the test's database, with a short patience for workers
    that fall silent. Whatever still runs at the end is killed."""
    (tmp_path / "impatient_settings.py").write_text(SETTINGS)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        "DJANGO_SETTINGS_MODULE": "impatient_settings",
    }
    started: list[subprocess.Popen[bytes]] = []

    def process(*arguments: str, **more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "manage.py", *arguments]
        one = subprocess.Popen(
            command, cwd=ROOT, env={**environment, **more}, start_new_session=True
        )
        started.append(one)
        return one

    yield process
    for one in started:
        one.terminate()
    for one in started:
        try:
            one.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(one.pid, signal.SIGKILL)
            one.wait()


def frozen_in_the_middle(worker: subprocess.Popen[bytes]) -> bool:
    """Whether the worker, with all its processes, stands still with tasks begun and
    not ended, and documents written. It runs on where it does not."""
    os.killpg(worker.pid, signal.SIGSTOP)
    time.sleep(0.1)  # the server finishes what it was sent
    if Document.objects.exists() and Lease.objects.exists():
        return True
    os.killpg(worker.pid, signal.SIGCONT)
    time.sleep(0.1)
    return False


def until(condition: Callable[[], bool], *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"Not within {seconds} seconds."
        time.sleep(0.1)


def enqueued() -> None:
    only = [argument for name in DISTRIBUTIONS for argument in ("--only", name)]
    call_command("index_library", "--no-wait", *only, stdout=StringIO())


def lost() -> set[UUID]:
    attempts = Attempt.objects.filter(outcome=AttemptOutcome.LOST)
    return set(attempts.values_list("task_run_id", flat=True))


def test_every_document_is_indexed_once_though_the_worker_is_killed(
    start: Start,
) -> None:
    enqueued()
    start("runscheduler")
    victim = start("runworker")
    until(lambda: frozen_in_the_middle(victim), seconds=60)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    held = set(Lease.objects.values_list("task_run_id", flat=True))

    start("runworker")
    until(lambda: not Run.objects.unfinished().exists(), seconds=120)
    assert lost() == held
    assert_indexed_once()


def test_every_document_is_indexed_once_though_results_are_lost_after_the_write(
    start: Start,
) -> None:
    """The moment that matters: the task has committed, its result has not."""
    enqueued()
    start("runscheduler")
    victim = start("runworker", ORCHESTRATOR_FAILPOINTS="settle.before=kill@8")
    until(lambda: bool(lost()), seconds=60)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()

    start("runworker")
    until(lambda: not Run.objects.unfinished().exists(), seconds=120)
    assert_indexed_once()


def assert_indexed_once() -> None:
    """Every run completed, and the tables hold what a plain loop over the files
    finds."""
    outcomes = set(Run.objects.values_list("outcome_status", flat=True))
    assert outcomes == {RunStatus.COMPLETED}
    assert inspect.violations(sessions.django_session(), at_rest=True) == []
    key = ("file__distribution__name", "file__path", "kind", "name")
    doubles = Document.objects.values(*key).annotate(n=Count("pk")).filter(n__gt=1)
    assert not doubles.order_by().exists()
    out = StringIO()
    call_command("library_counts", "--json", stdout=out)
    counts: dict[str, Any] = json.loads(out.getvalue())
    broken = {(name, path) for name, path, _ in counting.broken_files()}
    for name in DISTRIBUTIONS:
        wanted, wanted_broken = expected(metadata.distribution(name))
        assert counts[name]["documents"] == wanted
        assert counts[name]["unindexed"] == 0
        assert {path for owner, path in broken if owner == name} == wanted_broken
