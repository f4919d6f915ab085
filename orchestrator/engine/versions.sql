-- Read the shape of one workflow version.
-- Params: version_id bigint.
-- Locks:  none.
-- Rows:   workflow name; shape as JSON text.
SELECT workflow.name, version.shape::text
FROM orchestrator_workflow_version AS version
JOIN orchestrator_workflow AS workflow ON workflow.id = version.workflow_id
WHERE version.id = %(version_id)s::bigint
