-- Return leases to their queues, with the attempt that was never started.
-- Params: worker_id uuid; run_ids, task_run_ids uuid[]; attempts int[], one each.
-- Locks:  the Run rows in id order, SKIP LOCKED; then the leases.
-- Rows:   task run id, queue id of what is queued again.
WITH held AS (
    SELECT held.*
    FROM unnest(
        %(run_ids)s::uuid[], %(task_run_ids)s::uuid[], %(attempts)s::int[]
    ) AS held (run_id, task_run_id, attempt)
), locked AS MATERIALIZED (
    SELECT run.id
    FROM orchestrator_run AS run
    WHERE run.id = ANY (%(run_ids)s::uuid[])
    ORDER BY run.id
    FOR UPDATE SKIP LOCKED
), freed AS (
    DELETE FROM orchestrator_lease AS lease
    USING held
    WHERE lease.task_run_id = held.task_run_id
      AND lease.attempt = held.attempt
      AND lease.worker_id IS NOT DISTINCT FROM %(worker_id)s::uuid
      AND held.run_id IN (SELECT locked.id FROM locked)
    RETURNING lease.*
), deadline AS (
    INSERT INTO orchestrator_deadline (task_run_id, run_id, expires_at)
    SELECT
        task_run_id, run_id,
        orchestrator_now() + schedule_timeout_ms * interval '1 millisecond'
    FROM freed
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
FROM freed
RETURNING task_run_id, queue_id
