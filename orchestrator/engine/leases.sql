-- Read leases.
-- Params: worker_id uuid; child_id int or null; living int[]; grace float8 (seconds);
--         limit int.
-- Locks:  none.

-- step: held
-- Rows:   Held (leases.py).
SELECT
    task_run_id, run_id, task_id, child_id, queue_id, attempt, failures, losses,
    extract(epoch FROM orchestrator_now() - claimed_at)::float8
FROM orchestrator_lease
WHERE worker_id = %(worker_id)s::uuid
  AND (%(child_id)s::int IS NULL OR child_id = %(child_id)s::int)

-- step: strays
-- Rows:   the ids of children that hold leases of the worker and are not in `living`.
SELECT DISTINCT child_id
FROM orchestrator_lease
WHERE worker_id = %(worker_id)s::uuid AND child_id <> ALL (%(living)s::int[])

-- step: overdue
-- Rows:   worker id and Held, of those whose execution timeout is over for `grace`.
SELECT
    worker_id, task_run_id, run_id, task_id, child_id, queue_id, attempt, failures,
    losses, extract(epoch FROM orchestrator_now() - claimed_at)::float8
FROM orchestrator_lease
WHERE timeout_at < orchestrator_now() - %(grace)s::float8 * interval '1 second'
ORDER BY timeout_at
LIMIT %(limit)s::int
