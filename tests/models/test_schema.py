"""The schema as it is migrated: names, partitions, constraints and the clock."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections
from django.test import override_settings

from orchestrator.engine import sessions
from orchestrator.engine.partitions import TABLES
from orchestrator.states import (
    TERMINAL_RUN,
    TERMINAL_TASK_RUN,
    AttemptOutcome,
    RunStatus,
    TaskRunStatus,
    WorkerStatus,
)
from tests.engine.lab import LATER, Lab

MODELS = list(apps.get_app_config("orchestrator").get_models())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_table_has_a_name_of_ours(model: Any) -> None:
    assert model._meta.original_attrs["db_table"].startswith("orchestrator_")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_nothing_reaches_into_history_by_a_bare_reverse_manager(model: Any) -> None:
    for relation in model._meta.related_objects:
        if relation.related_model._meta.db_table in TABLES:
            assert relation.get_accessor_name() is None


def test_references_into_history_are_not_enforced(lab: Lab) -> None:
    """A partition can be dropped while something still names a row of it."""
    rows = lab.rows(
        "SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f'"
        " AND confrelid = ANY (%s::regclass[])",
        list(TABLES),
    )
    assert rows == []


def test_history_is_partitioned_by_the_range_of_its_key(lab: Lab) -> None:
    rows = lab.rows(
        "SELECT pg_get_partkeydef(partrelid), partdefid FROM pg_partitioned_table"
        " WHERE partrelid = ANY (%s::regclass[])",
        list(TABLES),
    )
    # The second one would be the default partition, which there must not be.
    assert rows == [("RANGE (id)", 0)] * len(TABLES)


def test_a_queue_item_has_one_index_which_is_the_order_of_claiming(lab: Lab) -> None:
    rows = lab.rows(
        "SELECT pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = 'orchestrator_queue_item'::regclass"
    )
    [(definition,)] = rows
    assert definition.endswith('(queue_id, lane, "position")')


def test_the_tables_of_work_in_flight_are_vacuumed_by_count(lab: Lab) -> None:
    for name in ("queue_item", "delayed_item", "lease", "wait", "open_run", "deadline"):
        options = lab.value(
            "SELECT reloptions FROM pg_class WHERE relname = %s", f"orchestrator_{name}"
        )
        assert "autovacuum_vacuum_scale_factor=0" in options, name


# What may be stored.


def refused(lab: Lab, statement: str, *params: object) -> bool:
    connection = lab.main.connection
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("SET LOCAL session_replication_role = replica")
            connection.execute(statement.encode(), params)
    except psycopg.errors.CheckViolation:
        return True
    return False


@pytest.mark.parametrize("status", RunStatus)
def test_a_run_stores_outcomes_alone(lab: Lab, status: RunStatus) -> None:
    lab.enqueue_one(lab.shape("one"))
    statement = "UPDATE orchestrator_run SET status = %s, finished_at = now()"
    assert refused(lab, statement, status.value) == (status not in TERMINAL_RUN)


@pytest.mark.parametrize("status", TaskRunStatus)
def test_a_task_run_stores_outcomes_alone(lab: Lab, status: TaskRunStatus) -> None:
    lab.enqueue_one(lab.shape("one"))
    statement = "UPDATE orchestrator_task_run SET status = %s, finished_at = now()"
    assert refused(lab, statement, status.value) == (status not in TERMINAL_TASK_RUN)


@pytest.mark.parametrize("table", ["run", "task_run"])
def test_what_has_ended_has_an_end_and_nothing_else_has(lab: Lab, table: str) -> None:
    lab.enqueue_one(lab.shape("one"))
    update = f"UPDATE orchestrator_{table} SET"
    assert refused(lab, f"{update} status = 'FAILED'")
    assert refused(lab, f"{update} finished_at = now()")


@pytest.mark.parametrize("status", TaskRunStatus)
def test_what_is_delayed_is_scheduled_or_backs_off(
    lab: Lab, status: TaskRunStatus
) -> None:
    lab.enqueue_one(lab.shape("one", retries=LATER))
    lab.main.fail(lab.main.claim_one())
    delayed = status in (TaskRunStatus.SCHEDULED, TaskRunStatus.BACKOFF)
    statement = "UPDATE orchestrator_delayed_item SET status = left(%s, 9)"
    assert refused(lab, statement, status.value) == (not delayed)


def test_attempts_and_workers_have_the_states_that_are_written_down(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one"))
    lab.main.drain()
    lab.main.sign_up()
    for outcome in AttemptOutcome:
        statement = "UPDATE orchestrator_attempt SET outcome = %s"
        assert not refused(lab, statement, outcome.value)
    for status in WorkerStatus:
        assert not refused(
            lab, "UPDATE orchestrator_worker SET status = %s", status.value
        )
    assert refused(lab, "UPDATE orchestrator_attempt SET outcome = 'DONE'")
    assert refused(lab, "UPDATE orchestrator_worker SET status = 'IDLE'")


# The clock.


def test_the_clock_is_that_of_the_statement_unless_it_is_moved(lab: Lab) -> None:
    now = "SELECT orchestrator_now() - statement_timestamp()"
    assert lab.value(now) == timedelta(0)
    lab.main.connection.execute(
        "SELECT set_config('orchestrator.now', '2031-02-03 04:05:06+00', false)"
    )
    moved = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert lab.value("SELECT orchestrator_now()") == moved
    assert lab.hand().connection.execute(now).fetchone() == (timedelta(0),)
    lab.main.connection.execute("SELECT set_config('orchestrator.now', '', false)")
    assert lab.value(now) == timedelta(0)


def test_time_goes_on_inside_a_long_transaction(lab: Lab) -> None:
    """now() would stand still (reliability F44)."""
    with lab.session.transaction():
        first = lab.value("SELECT orchestrator_now()")
        lab.main.connection.execute("SELECT pg_sleep(0.01)")
        assert lab.value("SELECT orchestrator_now()") > first


# The migration.


def test_the_migration_is_that_of_the_models(db: None) -> None:
    call_command(
        "makemigrations", "orchestrator", check=True, dry_run=True, verbosity=0
    )


def test_the_migration_goes_back_and_forth_again(
    engine_connection: psycopg.Connection[Any],
) -> None:
    name = f"orchestrator_back_{uuid4().hex[:8]}"
    usual = connections.databases["default"]
    with closing(sessions.connect(dbname="postgres")) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        connections.databases["back"] = {**usual, "NAME": name}
        try:
            options = {"PARTITION_BY": "month", "PARTITIONS_AHEAD": 2}
            with override_settings(ORCHESTRATOR=options):
                for target in ([], ["zero"], []):
                    call_command(
                        "migrate", "orchestrator", *target, database="back", verbosity=0
                    )
            with connections["back"].cursor() as cursor:
                cursor.execute(
                    "SELECT count(*) FROM pg_inherits"
                    " WHERE inhparent = 'orchestrator_run'::regclass"
                )
                assert cursor.fetchone() == (3,)
        finally:
            connections["back"].close()
            del connections["back"]
            del connections.databases["back"]
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
