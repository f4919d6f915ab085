-- Runs that other task runs wait for.
-- Params: run_ids uuid[].

-- step: ended
-- Mark the conditions that wait for those of the runs that have ended, in the
-- transaction that ends them. `judge` draws the consequence.
-- Locks:  the conditions in id order.
-- Rows:   one for each condition that came true: the task run that waits.
WITH due AS MATERIALIZED (
    SELECT condition.id
    FROM orchestrator_wait_condition AS condition
    CROSS JOIN LATERAL (
        SELECT
        FROM orchestrator_run AS run
        WHERE run.id = condition.child_run_id AND run.status IS NOT NULL
        OFFSET 0
    ) AS ended
    WHERE condition.child_run_id = ANY (%(run_ids)s::uuid[])
      AND condition.child_run_id IS NOT NULL AND condition.satisfied_at IS NULL
    ORDER BY condition.id
    FOR UPDATE OF condition
)
UPDATE orchestrator_wait_condition AS condition
SET satisfied_at = orchestrator_now()
FROM due
WHERE condition.id = due.id
RETURNING condition.task_run_id
