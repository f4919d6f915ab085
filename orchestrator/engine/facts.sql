-- Read what expressions may name of runs and events.
-- Params: run_ids uuid[]; low, high uuid, the least and the greatest of them;
--         event_id uuid.
-- Locks:  none.

-- step: runs
-- Rows:   run id; version id; input, metadata as JSON texts; tenant; workflow name.
SELECT
    run.id, run.version_id, run.input::text, run.metadata::text, run.tenant,
    workflow.name
FROM orchestrator_run AS run
JOIN orchestrator_workflow AS workflow ON workflow.id = run.workflow_id
WHERE run.id = ANY (%(run_ids)s::uuid[])
  AND run.id >= %(low)s::uuid AND run.id <= %(high)s::uuid

-- step: event
-- Rows:   key; payload as a JSON text, or null.
SELECT key, payload::text FROM orchestrator_event WHERE id = %(event_id)s::uuid
