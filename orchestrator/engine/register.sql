-- Write what is new of queues, workflows, versions and tasks.
-- Params: queue_ids bigint[], queue_names text[]; workflow_ids bigint[],
--         workflow_names, descriptions, workflow_queues text[]; version_ids bigint[],
--         digests, shapes text[] (JSON), one element a workflow; task_ids,
--         task_workflows bigint[], task_names text[], lanes bigint[].
-- Locks:  Workflow rows in id order, from `lock` on.

-- step: queues
-- Rows:   none.
INSERT INTO orchestrator_queue (id, name, created_at)
SELECT id, name, orchestrator_now()
FROM unnest(%(queue_ids)s::bigint[], %(queue_names)s::text[]) AS queue (id, name)
ORDER BY id
ON CONFLICT DO NOTHING

-- step: workflows
-- Rows:   none.
--
-- Without a target, every unique index decides: with one, two sessions that insert the
-- same rows may deadlock over the other index.
INSERT INTO orchestrator_workflow (id, name, description, queue_name, created_at)
SELECT id, name, description, queue_name, orchestrator_now()
FROM unnest(
    %(workflow_ids)s::bigint[], %(workflow_names)s::text[], %(descriptions)s::text[],
    %(workflow_queues)s::text[]
) AS workflow (id, name, description, queue_name)
ORDER BY id
ON CONFLICT DO NOTHING

-- step: lock
-- Rows:   the ids.
SELECT id
FROM orchestrator_workflow
WHERE id = ANY (%(workflow_ids)s::bigint[])
ORDER BY id
FOR UPDATE

-- step: describe
-- Rows:   none.
UPDATE orchestrator_workflow AS workflow
SET description = ours.description, queue_name = ours.queue_name
FROM unnest(
    %(workflow_ids)s::bigint[], %(descriptions)s::text[], %(workflow_queues)s::text[]
) AS ours (id, description, queue_name)
WHERE workflow.id = ours.id
  AND (workflow.description, workflow.queue_name)
   IS DISTINCT FROM (ours.description, ours.queue_name)

-- step: versions
-- Rows:   the ids of those that are new, each of which is current now.
WITH version AS (
    INSERT INTO orchestrator_workflow_version (
        id, workflow_id, number, digest, shape, created_at
    )
    SELECT
        version.id, version.workflow_id,
        1 + (
            SELECT coalesce(max(number), 0)
            FROM orchestrator_workflow_version AS earlier
            WHERE earlier.workflow_id = version.workflow_id
        ),
        version.digest, version.shape::jsonb, orchestrator_now()
    FROM unnest(
        %(version_ids)s::bigint[], %(workflow_ids)s::bigint[], %(digests)s::text[],
        %(shapes)s::text[]
    ) AS version (id, workflow_id, digest, shape)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, workflow_id
)
UPDATE orchestrator_workflow AS workflow
SET current_version_id = version.id
FROM version
WHERE workflow.id = version.workflow_id
RETURNING version.id

-- step: tasks
-- Rows:   none.
INSERT INTO orchestrator_task (id, workflow_id, name, lane, created_at)
SELECT id, workflow_id, name, lane, orchestrator_now()
FROM unnest(
    %(task_ids)s::bigint[], %(task_workflows)s::bigint[], %(task_names)s::text[],
    %(lanes)s::bigint[]
) AS task (id, workflow_id, name, lane)
ORDER BY id
ON CONFLICT DO NOTHING

-- step: collisions
-- Rows:   kind, our name, the name that has the id or the lane already.
SELECT 'queue', ours.name, theirs.name
FROM unnest(%(queue_ids)s::bigint[], %(queue_names)s::text[]) AS ours (id, name)
JOIN orchestrator_queue AS theirs ON theirs.id = ours.id AND theirs.name <> ours.name
UNION ALL
SELECT 'workflow', ours.name, theirs.name
FROM unnest(%(workflow_ids)s::bigint[], %(workflow_names)s::text[]) AS ours (id, name)
JOIN orchestrator_workflow AS theirs
  ON theirs.id = ours.id AND theirs.name <> ours.name
UNION ALL
SELECT 'task', ours.name, theirs.name
FROM unnest(
    %(task_ids)s::bigint[], %(task_workflows)s::bigint[], %(task_names)s::text[],
    %(lanes)s::bigint[]
) AS ours (id, workflow_id, name, lane)
JOIN orchestrator_task AS theirs
  ON theirs.lane = ours.lane
 AND (theirs.workflow_id, theirs.name) <> (ours.workflow_id, ours.name)
