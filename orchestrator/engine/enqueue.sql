-- Create runs of one workflow version, each with all its task runs in their places.
-- Params: run_ids uuid[], one element a run; inputs text, a JSON array of them;
--         task_run_ids uuid[],
--         task_run_runs uuid[], ordinals int[], remaining int[] (parents), task_ids,
--         lanes and queue_ids bigint[], schedule_timeouts int[] (ms or null), judged
--         bool[], one element a task run; workflow_id, version_id, queue_id bigint; metadata text
--         (JSON); tenant text; priority int (-100..100); run_after timestamptz or null;
--         tasks int (a run); event_id uuid or null; parents uuid[], the task runs
--         that spawn them, one a run or none at all;
--         idempotency_keys text, a JSON array of them, one a run or none at all.
-- Locks:  none but those of its own new rows.
-- Rows:   none.
WITH new_run AS (
    SELECT new.id, new.parent_id, new.input, new.idempotency_key
    FROM ROWS FROM (
        unnest(%(run_ids)s::uuid[], %(parents)s::uuid[]),
        jsonb_array_elements(%(inputs)s::text::jsonb),
        jsonb_array_elements_text(%(idempotency_keys)s::text::jsonb)
    ) AS new (id, parent_id, input, idempotency_key)
), run AS (
    INSERT INTO orchestrator_run (
        id, workflow_id, version_id, queue_id, status_reason, generation, input,
        metadata, tenant, priority, parent_task_run_id, event_id, idempotency_key,
        created_at, run_after
    )
    SELECT
        new_run.id, %(workflow_id)s::bigint, %(version_id)s::bigint,
        %(queue_id)s::bigint, '', 1, new_run.input, %(metadata)s::text::jsonb,
        %(tenant)s::text, %(priority)s::smallint, new_run.parent_id,
        %(event_id)s::uuid, new_run.idempotency_key, orchestrator_now(),
        %(run_after)s::timestamptz
    FROM new_run
), node AS MATERIALIZED (
    SELECT
        node.*,
        (100 - %(priority)s::bigint) << 55 | nextval('orchestrator_position')
            AS position
    FROM unnest(
        %(task_run_ids)s::uuid[], %(task_run_runs)s::uuid[], %(ordinals)s::smallint[],
        %(remaining)s::int[], %(task_ids)s::bigint[], %(lanes)s::bigint[],
        %(queue_ids)s::bigint[], %(schedule_timeouts)s::int[], %(judged)s::bool[]
    ) AS node (
        id, run_id, ordinal, remaining, task_id, lane, queue_id, schedule_timeout_ms,
        judged
    )
), task_run AS (
    INSERT INTO orchestrator_task_run (
        id, run_id, task_id, ordinal, queue_id, lane, position, status_reason,
        generation, attempts
    )
    SELECT id, run_id, task_id, ordinal, queue_id, lane, position, '', 1, 0 FROM node
), open_run AS (
    INSERT INTO orchestrator_open_run (run_id, remaining, failed, cancelled, reason)
    SELECT id, %(tasks)s::int, 0, 0, '' FROM new_run WHERE %(tasks)s::int > 1
), waiting AS (
    INSERT INTO orchestrator_wait (
        task_run_id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,
        attempt, failures, losses, remaining, judged, opened_at, snapshot, xid
    )
    SELECT
        id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms, 1, 0, 0,
        -- What is to start later is looked at when its time has come.
        CASE
            WHEN remaining = 0 AND %(run_after)s::timestamptz > orchestrator_now()
            THEN 1
            ELSE remaining
        END,
        judged,
        CASE WHEN remaining = 0 THEN orchestrator_now() END,
        CASE WHEN remaining = 0 THEN pg_current_snapshot()::text END,
        CASE WHEN remaining = 0 THEN pg_current_xact_id()::text::bigint END
    FROM node
    WHERE remaining > 0 OR judged
), start AS (
    INSERT INTO orchestrator_wait_condition (
        run_id, task_run_id, "group", slot, leaf, kind, key, scope, expression,
        snapshot, due_at, checked
    )
    SELECT
        run_id, id, 0, 'start', 0, 'SLEEP', '', '', '', '',
        %(run_after)s::timestamptz, true
    FROM node
    WHERE judged AND remaining = 0 AND %(run_after)s::timestamptz > orchestrator_now()
), delayed AS (
    INSERT INTO orchestrator_delayed_item (
        task_run_id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,
        attempt, failures, losses, status, due_at
    )
    SELECT
        id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,
        1, 0, 0, 'SCHEDULED', %(run_after)s::timestamptz
    FROM node
    WHERE remaining = 0 AND NOT judged
      AND %(run_after)s::timestamptz > orchestrator_now()
), deadline AS (
    INSERT INTO orchestrator_deadline (task_run_id, run_id, expires_at)
    SELECT
        id, run_id, orchestrator_now() + schedule_timeout_ms * interval '1 millisecond'
    FROM node
    WHERE schedule_timeout_ms IS NOT NULL AND remaining = 0 AND NOT judged
      AND (%(run_after)s::timestamptz > orchestrator_now()) IS NOT TRUE
)
INSERT INTO orchestrator_queue_item (
    queue_id, lane, position, task_run_id, run_id, task_id, schedule_timeout_ms,
    attempt, failures, losses
)
SELECT
    queue_id, lane, position, id, run_id, task_id, schedule_timeout_ms, 1, 0, 0
FROM node
WHERE remaining = 0 AND NOT judged
  AND (%(run_after)s::timestamptz > orchestrator_now()) IS NOT TRUE
