-- Reopen an ended run.
-- Params: run_id uuid; task_run_ids uuid[]; remaining int[] (parents that are reopened,
--         too), schedule_timeouts int[] (ms or null), judged bool[], one element a
--         task run; tasks int, how many these are; failed, cancelled int, reason text
--         of those that stay as they are; counted bool; started_at timestamptz or null;
--         entry_ids uuid[]; told bool: also children whose failure was delivered.
-- Locks:  `lock` takes the Run row and waits for it.

-- step: lock
-- Rows:   version id, status, started at.
SELECT version_id, status, started_at
FROM orchestrator_run
WHERE id = %(run_id)s::uuid
FOR UPDATE

-- step: read
-- Rows:   ordinal, status, status reason, attempts.
SELECT ordinal, status, status_reason, attempts
FROM orchestrator_task_run
WHERE id = ANY (%(task_run_ids)s::uuid[])
ORDER BY ordinal

-- step: forget
-- Rows:   none.
--
-- What is on record stays there, on the branch that was in use. A first attempt has no
-- journal to read: it is on the first branch.
UPDATE orchestrator_task_run
SET branch = branch + 1
WHERE id = ANY (%(task_run_ids)s::uuid[]) AND status IS NOT NULL AND attempts > 0

-- step: died_of
-- The children whose failure is the last thing that a journal tells of.
-- Rows:   entry id, child run id, whether the child failed or was cancelled.
--
-- What was recorded after it is what the function did about it: that stays, as does
-- all that a task knew which completed.
SELECT
    entry.id, entry.child_run_id,
    coalesce(child.status, 'COMPLETED') IN ('FAILED', 'CANCELLED')
FROM orchestrator_task_run AS task_run
JOIN orchestrator_journal_entry AS entry
    ON entry.task_run_id = task_run.id AND entry.branch = task_run.branch
JOIN orchestrator_run AS child ON child.id = entry.child_run_id
WHERE task_run.id = ANY (%(task_run_ids)s::uuid[])
  AND task_run.status IS DISTINCT FROM 'COMPLETED' AND entry.kind = 'CHILD'
  AND (
      -- Nobody has been told yet.
      entry.completed_at IS NULL
      OR %(told)s::bool AND entry.error IS NOT NULL AND NOT EXISTS (
          SELECT
          FROM orchestrator_journal_entry AS later
          WHERE later.task_run_id = entry.task_run_id AND later.branch = entry.branch
            AND later.position > entry.position
            AND (later.attempt > entry.attempt
                 OR later.created_at > entry.completed_at)
      )
  )
ORDER BY entry.child_run_id

-- step: unlearn
-- Locks:  the entries, of a run that is locked.
-- Rows:   none.
UPDATE orchestrator_journal_entry
SET error = NULL, completed_at = NULL, completed_order = NULL
WHERE id = ANY (%(entry_ids)s::uuid[])

-- step: reopen
-- Rows:   the queue id of each item queued.
WITH chosen AS MATERIALIZED (
    SELECT chosen.*
    FROM unnest(
        %(task_run_ids)s::uuid[], %(remaining)s::int[], %(schedule_timeouts)s::int[],
        %(judged)s::bool[]
    ) AS chosen (id, remaining, schedule_timeout_ms, judged)
), run AS (
    UPDATE orchestrator_run
    SET status = NULL, status_reason = '', finished_at = NULL,
        generation = generation + 1
    WHERE id = %(run_id)s::uuid AND status IS NOT NULL
), reopened AS (
    UPDATE orchestrator_task_run AS task_run
    SET status = NULL, status_reason = '', started_at = NULL, finished_at = NULL,
        output = NULL, generation = task_run.generation + 1
    FROM chosen
    WHERE task_run.id = chosen.id AND task_run.status IS NOT NULL
    RETURNING
        task_run.id, task_run.run_id, task_run.task_id, task_run.queue_id,
        task_run.lane, task_run.position, task_run.attempts, chosen.remaining,
        chosen.schedule_timeout_ms, chosen.judged
), open_run AS (
    INSERT INTO orchestrator_open_run (
        run_id, remaining, failed, cancelled, reason, started_at
    )
    SELECT
        %(run_id)s::uuid, %(tasks)s::int, %(failed)s::int, %(cancelled)s::int,
        %(reason)s::text, %(started_at)s::timestamptz
    WHERE %(counted)s::bool
), waiting AS (
    INSERT INTO orchestrator_wait (
        task_run_id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,
        attempt, failures, losses, remaining, judged, opened_at, snapshot, xid
    )
    SELECT
        id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,
        attempts + 1, 0, 0, remaining, judged,
        CASE WHEN remaining = 0 THEN orchestrator_now() END,
        CASE WHEN remaining = 0 THEN pg_current_snapshot()::text END,
        CASE WHEN remaining = 0 THEN pg_current_xact_id()::text::bigint END
    FROM reopened
    WHERE remaining > 0 OR judged
), deadline AS (
    INSERT INTO orchestrator_deadline (task_run_id, run_id, expires_at)
    SELECT
        id, run_id, orchestrator_now() + schedule_timeout_ms * interval '1 millisecond'
    FROM reopened
    WHERE remaining = 0 AND schedule_timeout_ms IS NOT NULL AND NOT judged
    ON CONFLICT (task_run_id) DO UPDATE SET expires_at = excluded.expires_at
)
INSERT INTO orchestrator_queue_item (
    queue_id, lane, position, task_run_id, run_id, task_id, schedule_timeout_ms,
    attempt, failures, losses
)
SELECT
    queue_id, lane, position, id, run_id, task_id, schedule_timeout_ms,
    attempts + 1, 0, 0
FROM reopened
WHERE remaining = 0 AND NOT judged
RETURNING queue_id
