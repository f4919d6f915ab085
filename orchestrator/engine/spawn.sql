-- Find which runs of a family exist.
-- Params: run_ids uuid[]; low, high uuid, the least and the greatest of them.
-- Locks:  none.
-- Rows:   the ids.
SELECT run.id
FROM orchestrator_run AS run
WHERE run.id = ANY (%(run_ids)s::uuid[])
  AND run.id >= %(low)s::uuid AND run.id <= %(high)s::uuid
