-- Read the outputs of task runs that have ended.
-- Params: task_run_ids uuid[]; low, high uuid, the least and the greatest of them.
-- Locks:  none.
-- Rows:   id, status, output as JSON text.
SELECT id, status, output::text
FROM orchestrator_task_run
WHERE id = ANY (%(task_run_ids)s::uuid[]) AND status IS NOT NULL
  AND id >= %(low)s::uuid AND id <= %(high)s::uuid
