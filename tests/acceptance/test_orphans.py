"""What a child leaves behind when it dies between two words with the database."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.models import Attempt, Lease
from tests.acceptance.harness import Harness
from tests.app import tasks

pytestmark = pytest.mark.acceptance

CLAIMING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
      AND query LIKE '-- Claim %'
"""


def test_a_claim_that_commits_after_its_child_was_buried_is_returned_uncharged(
    harness: Harness, second_connection: Callable[[], psycopg.Connection[Any]]
) -> None:
    worker = harness.worker()
    tasks.noop.enqueue().result(timeout=30)
    blocker = second_connection()
    observer = second_connection()
    with blocker.transaction():
        blocker.execute("LOCK TABLE orchestrator_lease IN SHARE MODE")
        handle = tasks.noop.enqueue()
        harness.wait_until(
            lambda: observer.execute(CLAIMING).fetchone() == (1,),
            "the child is claiming: its server process has all that it sent",
        )
        os.kill(worker.children()[0], signal.SIGKILL)
        harness.says(worker, "died (signal SIGKILL)")
    assert handle.result(timeout=10) is None
    assert not Attempt.objects.filter(outcome="LOST").exists()
    harness.wait_until(lambda: not Lease.objects.exists(), "no lease is left")


def test_a_result_that_dies_with_its_child_was_an_attempt(
    harness: Harness, trace: Path
) -> None:
    harness.worker(environment={"ORCHESTRATOR_FAILPOINTS": "settle.before=kill@2"})
    tasks.noop.enqueue().result(timeout=30)
    assert tasks.work.enqueue(str(trace), "task").result(timeout=30) == "task"
    assert trace.read_text().count("end task") == 2
    attempts = Attempt.objects.filter(outcome="LOST") | Attempt.objects.filter(number=2)
    assert list(attempts.order_by("number").values_list("outcome", flat=True)) == [
        "LOST",
        "COMPLETED",
    ]
