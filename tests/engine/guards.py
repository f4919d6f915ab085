"""Triggers that exist only in tests: what the engine promises, watched row by row.

At each commit every task run that was touched is in exactly one place, or has ended
and is in none, and has come there by a transition of `states.py`. Ended rows are
reopened by a new generation or stay as they are; attempts never change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql

from orchestrator.states import (
    RUN_REOPENINGS,
    TASK_RUN_REOPENINGS,
    TASK_RUN_TRANSITIONS,
    WORKER_TRANSITIONS,
    TaskRunStatus,
)

PLACES = ("queue_item", "delayed_item", "lease", "wait")

INSTALL = """
CREATE TABLE orchestrator_test_move (
    kind text, before text, after text, PRIMARY KEY (kind, before, after)
);
CREATE TABLE orchestrator_test_seen (
    task_run_id uuid PRIMARY KEY, status text NOT NULL, generation int NOT NULL
) WITH (fillfactor = 50);

CREATE FUNCTION orchestrator_test_task_run(key uuid) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    this record;
    place text;
    before record;
BEGIN
    SELECT task_run.status, task_run.generation, array_remove(ARRAY[
        (SELECT 'QUEUED' FROM orchestrator_queue_item AS item
         WHERE item.queue_id = task_run.queue_id AND item.lane = task_run.lane
           AND item.position = task_run.position AND item.task_run_id = task_run.id),
        (SELECT item.status::text FROM orchestrator_delayed_item AS item
         WHERE item.task_run_id = task_run.id),
        (SELECT 'RUNNING' FROM orchestrator_lease AS lease
         WHERE lease.task_run_id = task_run.id),
        (SELECT CASE WHEN wait.suspended THEN 'WAITING' ELSE 'PENDING' END
         FROM orchestrator_wait AS wait
         WHERE wait.task_run_id = task_run.id)
    ], NULL) AS places
    INTO this FROM orchestrator_task_run AS task_run WHERE task_run.id = key;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'guard: task run % does not exist', key;
    END IF;
    IF cardinality(this.places) <> (this.status IS NULL)::int THEN
        RAISE EXCEPTION 'guard: task run % (%) is in %', key,
            coalesce(this.status, 'unfinished'), this.places;
    END IF;
    place := coalesce(this.status, this.places[1]);
    SELECT * INTO before FROM orchestrator_test_seen WHERE task_run_id = key;
    IF before.status = place AND before.generation = this.generation THEN
        RETURN;
    END IF;
    IF NOT EXISTS (
        SELECT FROM orchestrator_test_move AS move
        WHERE move.kind = CASE
                WHEN before.status IS NULL THEN 'new'
                WHEN before.generation = this.generation THEN 'same'
                WHEN before.generation + 1 = this.generation THEN 'reopened'
            END
          AND move.before = coalesce(before.status, '') AND move.after = place
    ) THEN
        RAISE EXCEPTION 'guard: task run % moved from % (generation %) to % (%)', key,
            before.status, before.generation, place, this.generation;
    END IF;
    INSERT INTO orchestrator_test_seen VALUES (key, place, this.generation)
    ON CONFLICT (task_run_id) DO UPDATE
    SET status = excluded.status, generation = excluded.generation;
END $$;

CREATE FUNCTION orchestrator_test_place() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM orchestrator_test_task_run(OLD.task_run_id);
    ELSE
        PERFORM orchestrator_test_task_run(NEW.task_run_id);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION orchestrator_test_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM orchestrator_test_task_run(NEW.id);
    RETURN NULL;
END $$;

CREATE FUNCTION orchestrator_test_outcome() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status IS NULL THEN
        IF NEW.generation <> OLD.generation THEN
            RAISE EXCEPTION 'guard: % % is unfinished in a new generation',
                TG_TABLE_NAME, NEW.id;
        END IF;
    ELSIF NEW.status IS NULL THEN
        IF NEW.generation <> OLD.generation + 1 OR NOT EXISTS (
            SELECT FROM orchestrator_test_move
            WHERE kind = 'reopened' AND before = OLD.status
        ) THEN
            RAISE EXCEPTION 'guard: % % was reopened without a new generation',
                TG_TABLE_NAME, NEW.id;
        END IF;
    ELSIF (NEW.status, NEW.status_reason, NEW.generation, NEW.finished_at)
        IS DISTINCT FROM
        (OLD.status, OLD.status_reason, OLD.generation, OLD.finished_at)
    THEN
        RAISE EXCEPTION 'guard: % % had ended and is changed', TG_TABLE_NAME, NEW.id;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION orchestrator_test_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'guard: attempt % is changed', OLD.id;
END $$;

CREATE FUNCTION orchestrator_test_worker() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> OLD.status AND NOT EXISTS (
        SELECT FROM orchestrator_test_move
        WHERE kind = 'worker' AND before = OLD.status AND after = NEW.status
    ) THEN
        RAISE EXCEPTION 'guard: worker % moved from % to %', NEW.id, OLD.status,
            NEW.status;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER orchestrator_test_outcome AFTER UPDATE ON orchestrator_run
FOR EACH ROW EXECUTE FUNCTION orchestrator_test_outcome();
CREATE TRIGGER orchestrator_test_outcome AFTER UPDATE ON orchestrator_task_run
FOR EACH ROW EXECUTE FUNCTION orchestrator_test_outcome();
CREATE CONSTRAINT TRIGGER orchestrator_test_moved
AFTER INSERT OR UPDATE ON orchestrator_task_run DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION orchestrator_test_moved();
CREATE TRIGGER orchestrator_test_attempt AFTER UPDATE OR DELETE ON orchestrator_attempt
FOR EACH ROW EXECUTE FUNCTION orchestrator_test_attempt();
CREATE TRIGGER orchestrator_test_worker AFTER UPDATE ON orchestrator_worker
FOR EACH ROW EXECUTE FUNCTION orchestrator_test_worker();
"""

INSTALL_PLACE = """
CREATE CONSTRAINT TRIGGER orchestrator_test_place
AFTER INSERT OR UPDATE OR DELETE ON {table} DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION orchestrator_test_place()
"""

REMOVE = """
DROP FUNCTION IF EXISTS orchestrator_test_place, orchestrator_test_moved,
    orchestrator_test_outcome, orchestrator_test_attempt, orchestrator_test_worker,
    orchestrator_test_task_run CASCADE;
DROP TABLE IF EXISTS orchestrator_test_move, orchestrator_test_seen
"""


def install(connection: psycopg.Connection[Any]) -> None:
    """Put the triggers in place, those of an earlier process away."""
    with connection.transaction():
        remove(connection)
        connection.execute(INSTALL, prepare=False)
        for name in PLACES:
            table = sql.Identifier(f"orchestrator_{name}")
            connection.execute(sql.SQL(INSTALL_PLACE).format(table=table))
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO orchestrator_test_move VALUES (%s, %s, %s)",
                sorted(moves()),
            )


def remove(connection: psycopg.Connection[Any]) -> None:
    """Take the triggers away."""
    connection.execute(REMOVE, prepare=False)


def moves() -> set[tuple[str, str, str]]:
    """What may follow what, between two commits, as `states.py` has it."""
    initial = {
        TaskRunStatus.PENDING,
        TaskRunStatus.QUEUED,
        TaskRunStatus.SCHEDULED,
    }
    found = {("new", "", status.value) for status in initial}
    found |= _pairs("same", TASK_RUN_TRANSITIONS)
    # What an exchange queues, it may claim in the same transaction.
    found |= {
        ("same", before.value, TaskRunStatus.RUNNING.value)
        for before, after in TASK_RUN_TRANSITIONS.items()
        if TaskRunStatus.QUEUED in after
    }
    found |= _pairs("reopened", TASK_RUN_REOPENINGS)
    found |= _pairs("reopened", RUN_REOPENINGS)
    return found | _pairs("worker", WORKER_TRANSITIONS)


def _pairs(kind: str, transitions: Mapping[Any, Any]) -> set[tuple[str, str, str]]:
    return {
        (kind, before.value, after.value)
        for before, following in transitions.items()
        for after in following
    }
