-- Go on with what waited: complete journal entries, and queue what is suspended.
-- Params: limit int; condition_ids bigint[]; run_ids, task_run_ids, entry_ids,
--         event_ids, attempt_ids uuid[]; groups int[]; outputs, errors text, JSON
--         arrays of one element an entry.

-- step: pick
-- Conditions of durable waits that have come true and that nobody has looked at.
-- Locks:  the Run rows of those who wait, in id order, SKIP LOCKED.
-- Rows:   condition ids of the runs that are locked now.
WITH due AS MATERIALIZED (
    SELECT condition.id, condition.run_id
    FROM orchestrator_wait_condition AS condition
    WHERE condition.satisfied_at IS NOT NULL AND NOT condition.judged
      AND condition.entry_id IS NOT NULL
    LIMIT %(limit)s::int
), locked AS MATERIALIZED (
    SELECT run.id
    FROM orchestrator_run AS run
    WHERE run.id = ANY (ARRAY(SELECT due.run_id FROM due))
    ORDER BY run.id
    FOR UPDATE SKIP LOCKED
)
SELECT due.id FROM due WHERE due.run_id IN (SELECT locked.id FROM locked)

-- step: take
-- Read them again, now that the runs are locked: another one may have been faster.
-- Locks:  the conditions in id order.
-- Rows:   id, task run id, entry id, group, kind, child run id.
SELECT id, task_run_id, entry_id, "group", kind, child_run_id
FROM orchestrator_wait_condition
WHERE id = ANY (%(condition_ids)s::bigint[])
  AND satisfied_at IS NOT NULL AND NOT judged
ORDER BY id
FOR UPDATE

-- step: children
-- Locks:  none.
-- Rows:   id, status, status reason, version id of runs that may have ended.
SELECT id, status, status_reason, version_id
FROM orchestrator_run
WHERE id = ANY (%(run_ids)s::uuid[])

-- step: tasks
-- Locks:  none.
-- Rows:   id, run id, ordinal, status, status reason, output as JSON text, attempts.
SELECT id, run_id, ordinal, status, status_reason, output::text, attempts
FROM orchestrator_task_run
WHERE id = ANY (%(task_run_ids)s::uuid[])
ORDER BY id

-- step: errors
-- Locks:  none.
-- Rows:   task run id, error as JSON text.
SELECT task_run_id, error::text
FROM orchestrator_attempt
WHERE id = ANY (%(attempt_ids)s::uuid[]) AND error IS NOT NULL

-- step: judged
-- Locks:  the conditions, which are locked already.
-- Rows:   none.
UPDATE orchestrator_wait_condition SET judged = true
WHERE id = ANY (%(condition_ids)s::bigint[])

-- step: mistaken
-- The child was reopened after its end: wait for the next one.
-- Locks:  the conditions, which are locked already.
-- Rows:   none.
UPDATE orchestrator_wait_condition SET satisfied_at = NULL, checked = false
WHERE id = ANY (%(condition_ids)s::bigint[])

-- step: waits
-- What is asked for and what has come true, of the entries that wait for conditions.
-- Locks:  none.
-- Rows:   entry id, asked, leaf, event id, payload as JSON text; in the order in which
--         the leaves came true.
SELECT
    condition.entry_id, entry.asked, condition.leaf, condition.event_id, event.payload
FROM unnest(%(task_run_ids)s::uuid[], %(groups)s::int[], %(entry_ids)s::uuid[])
    AS wanted (task_run_id, number, entry_id)
JOIN orchestrator_wait_condition AS condition
    ON condition.task_run_id = wanted.task_run_id AND condition."group" = wanted.number
CROSS JOIN LATERAL (
    SELECT entry.asked
    FROM orchestrator_journal_entry AS entry
    WHERE entry.id = wanted.entry_id
    OFFSET 0
) AS entry
LEFT JOIN LATERAL (
    SELECT event.payload::text
    FROM orchestrator_event AS event
    WHERE event.id = condition.event_id
    OFFSET 0
) AS event ON true
WHERE condition.entry_id = wanted.entry_id AND condition.satisfied_at IS NOT NULL
ORDER BY condition.satisfied_at, condition.id

-- step: complete
-- Locks:  the entries, of runs that are locked.
-- Rows:   none.
UPDATE orchestrator_journal_entry AS entry
SET output = nullif(done.output, 'null'::jsonb),
    error = nullif(done.error, 'null'::jsonb), completed_at = orchestrator_now()
FROM ROWS FROM (
    unnest(%(entry_ids)s::uuid[]),
    jsonb_array_elements(%(outputs)s::text::jsonb),
    jsonb_array_elements(%(errors)s::text::jsonb)
) AS done (entry_id, output, error)
WHERE entry.id = done.entry_id AND entry.completed_at IS NULL

-- step: done
-- The conditions of entries that are over.
-- Locks:  the conditions in id order.
-- Rows:   none.
DELETE FROM orchestrator_wait_condition
WHERE id IN (
    SELECT condition.id
    FROM unnest(%(task_run_ids)s::uuid[], %(groups)s::int[], %(entry_ids)s::uuid[])
        AS over (task_run_id, number, entry_id)
    JOIN orchestrator_wait_condition AS condition
        ON condition.task_run_id = over.task_run_id
        AND condition."group" = over.number
    WHERE condition.entry_id = over.entry_id
    ORDER BY condition.id
    FOR UPDATE OF condition
)

-- step: gone
-- Locks:  the conditions, which are locked already.
-- Rows:   none.
DELETE FROM orchestrator_wait_condition
WHERE id = ANY (%(condition_ids)s::bigint[])

-- step: release
-- Queue task runs that are suspended, for their next attempt.
-- Locks:  none but those of runs that are locked.
-- Rows:   the queue id of each item queued.
WITH freed AS (
    DELETE FROM orchestrator_wait
    WHERE task_run_id = ANY (%(task_run_ids)s::uuid[]) AND suspended
    RETURNING
        queue_id, lane, position, task_run_id, run_id, task_id, schedule_timeout_ms,
        attempt, failures, losses
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
RETURNING queue_id
