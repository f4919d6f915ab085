-- Move delayed items that are due into their queues.
-- Params: limit int.

-- step: promote
-- Locks:  the Run rows in id order, SKIP LOCKED; then the delayed items.
-- Rows:   the queue id of each item moved.
WITH due AS MATERIALIZED (
    SELECT task_run_id, run_id
    FROM orchestrator_delayed_item
    WHERE due_at <= orchestrator_now()
    ORDER BY due_at
    LIMIT %(limit)s::int
), locked AS MATERIALIZED (
    SELECT run.id
    FROM orchestrator_run AS run
    WHERE run.id = ANY (ARRAY(SELECT due.run_id FROM due))
    ORDER BY run.id
    FOR UPDATE SKIP LOCKED
), moved AS (
    DELETE FROM orchestrator_delayed_item AS item
    USING due
    WHERE item.task_run_id = due.task_run_id
      AND item.due_at <= orchestrator_now()
      AND due.run_id IN (SELECT locked.id FROM locked)
    RETURNING item.*
), deadline AS (
    INSERT INTO orchestrator_deadline (task_run_id, run_id, expires_at)
    SELECT
        task_run_id, run_id,
        orchestrator_now() + schedule_timeout_ms * interval '1 millisecond'
    FROM moved
    WHERE schedule_timeout_ms IS NOT NULL
    ON CONFLICT (task_run_id) DO UPDATE SET expires_at = excluded.expires_at
)
INSERT INTO orchestrator_queue_item (
    queue_id, lane, position, task_run_id, run_id, task_id, schedule_timeout_ms,
    attempt, failures, losses
)
SELECT
    queue_id, lane, position, task_run_id, run_id, task_id, schedule_timeout_ms,
    attempt, failures, losses
FROM moved
RETURNING queue_id

-- step: next
-- Locks:  none.
-- Rows:   one: seconds until the first item is due; none where there is no item.
SELECT extract(epoch FROM due_at - orchestrator_now())::float8
FROM orchestrator_delayed_item
ORDER BY due_at
LIMIT 1
