-- Give unfinished runs another priority.
-- Params: run_ids, task_run_ids uuid[]; priority int (-100..100).
-- Locks:  `lock` takes the Run rows in id order and waits for them; the other steps
--         lock what belongs to those runs alone.
--
-- A position is (100 - priority) << 55 | sequence; the sequence stays.

-- step: lock
-- Rows:   id, version id of the runs that have not ended.
SELECT id, version_id
FROM orchestrator_run
WHERE id = ANY (%(run_ids)s::uuid[]) AND status IS NULL
ORDER BY id
FOR UPDATE

-- step: waiting
-- Rows:   none.
UPDATE orchestrator_wait
SET position = (100 - %(priority)s::bigint) << 55 | (position & ((1::bigint << 55) - 1))
WHERE task_run_id = ANY (%(task_run_ids)s::uuid[])

-- step: delayed
-- Rows:   none.
UPDATE orchestrator_delayed_item
SET position = (100 - %(priority)s::bigint) << 55 | (position & ((1::bigint << 55) - 1))
WHERE task_run_id = ANY (%(task_run_ids)s::uuid[])

-- step: queued
-- Rows:   none.
--
-- Deleted and inserted, never updated: a claim under way would lock the new version of
-- the row, which its snapshot cannot see and its DELETE would not find.
WITH place AS MATERIALIZED (
    SELECT queue_id, lane, position
    FROM orchestrator_task_run
    WHERE id = ANY (%(task_run_ids)s::uuid[]) AND status IS NULL
), unqueued AS (
    DELETE FROM orchestrator_queue_item AS item
    USING place
    WHERE item.queue_id = place.queue_id AND item.lane = place.lane
      AND item.position = place.position
    RETURNING item.*
)
INSERT INTO orchestrator_queue_item (
    queue_id, lane, position, task_run_id, run_id, task_id, schedule_timeout_ms,
    attempt, failures, losses
)
SELECT
    queue_id, lane,
    (100 - %(priority)s::bigint) << 55 | (position & ((1::bigint << 55) - 1)),
    task_run_id, run_id, task_id, schedule_timeout_ms, attempt, failures, losses
FROM unqueued

-- step: leased
-- Rows:   none.
UPDATE orchestrator_lease
SET position = (100 - %(priority)s::bigint) << 55 | (position & ((1::bigint << 55) - 1))
WHERE task_run_id = ANY (%(task_run_ids)s::uuid[])

-- step: history
-- Rows:   none.
--
-- Task runs that have ended move, too: a retry of the run queues them where they are.
WITH task_run AS (
    UPDATE orchestrator_task_run
    SET position =
        (100 - %(priority)s::bigint) << 55 | (position & ((1::bigint << 55) - 1))
    WHERE id = ANY (%(task_run_ids)s::uuid[])
)
UPDATE orchestrator_run
SET priority = %(priority)s::smallint
WHERE id = ANY (%(run_ids)s::uuid[]) AND status IS NULL
