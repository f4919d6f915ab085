-- Take queued task runs whose schedule timeout is over out of their queues.
-- Params: limit int; task_run_ids uuid[]; worker_id uuid, who holds them until they are
--         settled in this transaction.
--
-- Two steps, since what `take` reads has to be as it is once the runs are locked: an
-- item may have been moved to another priority a moment before.

-- step: lock
-- Locks:  the Run rows in id order, SKIP LOCKED.
-- Rows:   the task run ids of deadlines that are over.
WITH due AS MATERIALIZED (
    SELECT task_run_id, run_id
    FROM orchestrator_deadline
    WHERE expires_at <= orchestrator_now()
    ORDER BY expires_at
    LIMIT %(limit)s::int
), locked AS MATERIALIZED (
    SELECT run.id
    FROM orchestrator_run AS run
    WHERE run.id = ANY (ARRAY(SELECT due.run_id FROM due))
    ORDER BY run.id
    FOR UPDATE SKIP LOCKED
)
SELECT due.task_run_id
FROM due
WHERE due.run_id IN (SELECT locked.id FROM locked)

-- step: take
-- Locks:  deadlines, then queue items: it waits for a claim that takes one.
-- Rows:   one for each deadline that is over: its task run id, then Held (leases.py)
--         where it was still queued, else nulls.
--
-- IS TRUE keeps the index of times out: all that is over would be read for each batch.
WITH over AS (
    DELETE FROM orchestrator_deadline AS deadline
    WHERE deadline.task_run_id = ANY (%(task_run_ids)s::uuid[])
      AND (deadline.expires_at <= orchestrator_now()) IS TRUE
    RETURNING deadline.task_run_id
), place AS MATERIALIZED (
    SELECT task_run.queue_id, task_run.lane, task_run.position
    FROM over
    CROSS JOIN LATERAL (
        SELECT queue_id, lane, position
        FROM orchestrator_task_run
        WHERE id = over.task_run_id AND status IS NULL
        OFFSET 0
    ) AS task_run
), unqueued AS (
    DELETE FROM orchestrator_queue_item AS item
    USING place
    WHERE item.queue_id = place.queue_id AND item.lane = place.lane
      AND item.position = place.position
    RETURNING item.*
), leased AS (
    INSERT INTO orchestrator_lease (
        task_run_id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,
        attempt, failures, losses, worker_id, child_id, claimed_at
    )
    SELECT
        task_run_id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,
        attempt, failures, losses, %(worker_id)s::uuid, 0, orchestrator_now()
    FROM unqueued
    RETURNING *
)
SELECT
    over.task_run_id, leased.task_run_id, leased.run_id, leased.task_id,
    leased.child_id, leased.queue_id, leased.attempt, leased.failures, leased.losses,
    0::float8
FROM over
LEFT JOIN leased ON leased.task_run_id = over.task_run_id
