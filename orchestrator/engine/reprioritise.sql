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
WITH place AS MATERIALIZED (
    SELECT queue_id, lane, position
    FROM orchestrator_task_run
    WHERE id = ANY (%(task_run_ids)s::uuid[]) AND status IS NULL
)
UPDATE orchestrator_queue_item AS item
SET position =
    (100 - %(priority)s::bigint) << 55 | (item.position & ((1::bigint << 55) - 1))
FROM place
WHERE item.queue_id = place.queue_id AND item.lane = place.lane
  AND item.position = place.position

-- step: leased
-- Rows:   none.
UPDATE orchestrator_lease
SET position = (100 - %(priority)s::bigint) << 55 | (position & ((1::bigint << 55) - 1))
WHERE task_run_id = ANY (%(task_run_ids)s::uuid[])

-- step: history
-- Rows:   none.
WITH task_run AS (
    UPDATE orchestrator_task_run
    SET position =
        (100 - %(priority)s::bigint) << 55 | (position & ((1::bigint << 55) - 1))
    WHERE id = ANY (%(task_run_ids)s::uuid[]) AND status IS NULL
)
UPDATE orchestrator_run
SET priority = %(priority)s::smallint
WHERE id = ANY (%(run_ids)s::uuid[]) AND status IS NULL
