"""The database goes away and comes back: no process ends, nothing is lost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection, connections
from pytest_django import DjangoDbBlocker

from orchestrator.engine import inspect, sessions
from orchestrator.models import Attempt, Run, Worker
from sample_project import embedded
from sample_project.embedded.base import server as handle_of
from tests.acceptance.harness import Harness
from tests.app import tasks

pytestmark = pytest.mark.acceptance


@pytest.fixture
def own_server(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[embedded.EmbeddedServer]:
    """A server that no other test uses, migrated, as this process's database, too."""
    directory = tmp_path / "server"
    server = embedded.EmbeddedServer(directory)
    before = connections["default"]
    handler = connections.__class__({"default": embedded.database(directory)})
    ours = handler["default"]
    connections["default"] = ours
    monkeypatch.setenv("ORCHESTRATOR_TEST_SERVER", str(directory))
    try:
        with django_db_blocker.unblock():
            call_command("migrate", verbosity=0)
            yield server
            ours.close()
    finally:
        connections["default"] = before
        handle_of(directory, fast=False).release()
        server.remove()


@pytest.fixture
def harness(own_server: embedded.EmbeddedServer, tmp_path: Path) -> Iterator[Harness]:
    """Processes on the server that may be stopped."""
    harness = Harness(tmp_path)
    yield harness
    harness.close()


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_postgres_restarts_in_the_middle_of_the_load(
    own_server: embedded.EmbeddedServer, harness: Harness, trace: Path, mode: str
) -> None:
    harness.options["LOST_AFTER"] = 15.0  # a server may take a while to recover
    scheduler = harness.scheduler()
    worker = harness.worker("--processes", "2")
    calls = [tasks.work.bind(str(trace), f"t{n}", 0.005) for n in range(2000)]
    tasks.work.enqueue_many(calls)
    tasks.flaky.enqueue(str(trace), 2)
    enqueued = len(calls) + 1
    for completed in (100, 600):
        _wait_for(harness, completed)
        connection.close()
        with own_server.outage(mode):
            time.sleep(0.3)
    _wait_for(harness, enqueued)
    assert worker.running
    assert scheduler.running
    assert worker.stop() == 0
    assert scheduler.stop() == 0
    assert inspect.violations(sessions.django_session(), at_rest=True) == []
    # A crash loses no accepted result; what was executed twice had not been accepted.
    accepted = Attempt.objects.filter(outcome="COMPLETED").values("task_run_id")
    assert accepted.count() == accepted.distinct().count() == enqueued
    assert not Attempt.objects.filter(outcome="LOST").exists()
    starts = Counter(
        line.split()[1]
        for line in trace.read_text().splitlines()
        if line.startswith("start t")
    )
    assert len(starts) == 2000


def test_processes_started_while_the_database_is_down_wait_for_it(
    own_server: embedded.EmbeddedServer, harness: Harness, trace: Path
) -> None:
    handle = tasks.flaky.enqueue(str(trace), 1)
    connection.close()
    down = _as_any_other(own_server)
    with own_server.outage("fast"):
        worker = harness.worker(environment=down)
        scheduler = harness.scheduler(environment=down)
        for process in (worker, scheduler):
            harness.says(process, "no connection to the database")
        assert worker.running
        assert scheduler.running
        assert "Traceback" not in worker.log + scheduler.log
    assert handle.result(timeout=60) == 2
    assert worker.stop() == 0


def test_a_worker_stops_while_the_database_is_down(
    own_server: embedded.EmbeddedServer, harness: Harness
) -> None:
    down = _as_any_other(own_server)
    worker = harness.worker(environment=down)
    tasks.noop.enqueue().result(timeout=60)
    connection.close()
    with own_server.outage("fast"):
        harness.says(worker, "no connection", timeout=10)
        assert worker.stop() == 0
    assert Worker.objects.get().status == "ACTIVE"  # nobody could be told


def test_a_worker_whose_tables_are_missing_says_to_migrate(
    own_server: embedded.EmbeddedServer, harness: Harness
) -> None:
    call_command("migrate", "orchestrator", "zero", verbosity=0)
    worker = harness.worker()
    scheduler = harness.scheduler()
    for process in (worker, scheduler):
        harness.says(process, "manage.py migrate")
    call_command("migrate", verbosity=0)
    assert tasks.noop.enqueue().result(timeout=60) is None
    assert worker.running
    assert scheduler.running


def test_every_connection_is_cut_again_and_again(harness: Harness, trace: Path) -> None:
    harness.worker("--processes", "2")
    calls = [tasks.work.bind(str(trace), f"t{n}", 0.002) for n in range(1500)]
    tasks.work.enqueue_many(calls)
    deadline = time.monotonic() + 60
    while _completed() < 1500:
        assert time.monotonic() < deadline, harness.logs()
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE application_name = 'orchestrator'"
            )
        time.sleep(0.15)
    assert not Attempt.objects.filter(outcome="LOST").exists()
    assert Attempt.objects.count() == 1500


def _wait_for(harness: Harness, number: int) -> None:
    harness.wait_until(
        lambda: _completed() >= number, f"{number} are completed", timeout=120
    )


def _completed() -> int:
    return Run.objects.with_status("COMPLETED").count()


def _as_any_other(server: embedded.EmbeddedServer) -> dict[str, str]:
    """The environment of processes that cannot start the server when it is down."""
    host = str(server.sockets).replace("/", "%2F")
    return {
        "DATABASE_URL": f"postgres://postgres@{host}/postgres",
        "ORCHESTRATOR_TEST_SERVER": "",
        "ORCHESTRATOR_TEST_DATABASE_NAME": "",
    }
