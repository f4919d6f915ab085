-- Read where a run is now, and what its tasks came to.
-- Params: run_id uuid; task_run_ids, attempt_ids uuid[].
-- Locks:  none.

-- step: run
-- Rows:   status, status reason, version id.
SELECT
    CASE
        WHEN run.status IS NOT NULL THEN run.status
        WHEN EXISTS (
            SELECT FROM orchestrator_open_run AS open_run
            WHERE open_run.run_id = run.id AND open_run.started_at IS NOT NULL
        ) OR EXISTS (
            SELECT FROM orchestrator_lease AS lease WHERE lease.run_id = run.id
        ) THEN 'RUNNING'
        ELSE 'QUEUED'
    END,
    run.status_reason,
    run.version_id
FROM orchestrator_run AS run
WHERE run.id = %(run_id)s::uuid

-- step: tasks
-- Rows:   id, ordinal, status, status reason, output as JSON text, attempts.
SELECT id, ordinal, status, status_reason, output::text, attempts
FROM orchestrator_task_run
WHERE id = ANY (%(task_run_ids)s::uuid[])
ORDER BY ordinal

-- step: errors
-- Rows:   task run id, error as JSON text.
SELECT task_run_id, error::text
FROM orchestrator_attempt
WHERE id = ANY (%(attempt_ids)s::uuid[]) AND error IS NOT NULL
