-- Find the runs below a run: those that its task runs spawned.

-- step: open
-- Params: run_ids uuid[].
-- Locks:  none.
-- Rows:   id, version id of those of the runs that have not ended.
SELECT run.id, run.version_id
FROM orchestrator_run AS run
WHERE run.id = ANY (%(run_ids)s::uuid[]) AND run.status IS NULL

-- step: children
-- Params: parents uuid[]; lows, highs uuid[] (the bounds of the family of each, which
--         its children are in, and so the only partition that is searched).
-- Locks:  none.
-- Rows:   id, version id, whether it is open, of the runs that these task runs spawned.
SELECT run.id, run.version_id, run.open
FROM unnest(%(parents)s::uuid[], %(lows)s::uuid[], %(highs)s::uuid[])
    AS parent (id, low, high)
CROSS JOIN LATERAL (
    SELECT run.id, run.version_id, run.status IS NULL AS open
    FROM orchestrator_run AS run
    WHERE run.parent_task_run_id = parent.id AND run.parent_task_run_id IS NOT NULL
      AND run.id >= parent.low AND run.id <= parent.high
    OFFSET 0
) AS run
