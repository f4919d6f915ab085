-- End runs, wherever their task runs are.
-- Params: run_ids, task_run_ids uuid[]; reason text; of what was leased: leased_ids,
--         attempt_ids, worker_ids, leased_runs uuid[], attempts int[], claimed
--         timestamptz[].
-- Locks:  `lock` takes the Run rows in id order and waits for them; the other steps
--         lock what belongs to those runs alone.

-- step: lock
-- Rows:   id, version id of the runs that have not ended.
SELECT id, version_id
FROM orchestrator_run
WHERE id = ANY (%(run_ids)s::uuid[]) AND status IS NULL
ORDER BY id
FOR UPDATE

-- step: waiting
-- Rows:   none.
WITH gone AS (
    DELETE FROM orchestrator_wait
    WHERE task_run_id = ANY (%(task_run_ids)s::uuid[])
    RETURNING task_run_id, attempt
)
UPDATE orchestrator_task_run AS task_run
SET attempts = gone.attempt - 1
FROM gone
WHERE task_run.id = gone.task_run_id AND task_run.status IS NULL
  AND task_run.attempts <> gone.attempt - 1

-- step: conditions
-- Locks:  the conditions in id order, as whoever sees them come true does.
-- Rows:   none.
DELETE FROM orchestrator_wait_condition
WHERE id IN (
    SELECT id
    FROM orchestrator_wait_condition
    WHERE task_run_id = ANY (%(task_run_ids)s::uuid[])
    ORDER BY id
    FOR UPDATE
)

-- step: delayed
-- Rows:   none.
WITH gone AS (
    DELETE FROM orchestrator_delayed_item
    WHERE task_run_id = ANY (%(task_run_ids)s::uuid[])
    RETURNING task_run_id, attempt
)
UPDATE orchestrator_task_run AS task_run
SET attempts = gone.attempt - 1
FROM gone
WHERE task_run.id = gone.task_run_id AND task_run.status IS NULL
  AND task_run.attempts <> gone.attempt - 1

-- step: queued
-- Rows:   none.
WITH place AS MATERIALIZED (
    SELECT queue_id, lane, position
    FROM orchestrator_task_run
    WHERE id = ANY (%(task_run_ids)s::uuid[]) AND status IS NULL
), gone AS (
    DELETE FROM orchestrator_queue_item AS item
    USING place
    WHERE item.queue_id = place.queue_id AND item.lane = place.lane
      AND item.position = place.position
    RETURNING item.task_run_id, item.attempt
)
UPDATE orchestrator_task_run AS task_run
SET attempts = gone.attempt - 1
FROM gone
WHERE task_run.id = gone.task_run_id AND task_run.status IS NULL
  AND task_run.attempts <> gone.attempt - 1

-- step: leased
-- Rows:   task run id, attempt, worker id, claimed at, run id.
DELETE FROM orchestrator_lease
WHERE task_run_id = ANY (%(task_run_ids)s::uuid[])
RETURNING task_run_id, attempt, worker_id, claimed_at, run_id

-- step: attempts
-- Rows:   none.
WITH cut AS (
    SELECT cut.*
    FROM unnest(
        %(attempt_ids)s::uuid[], %(leased_ids)s::uuid[], %(attempts)s::int[],
        %(worker_ids)s::uuid[], %(claimed)s::timestamptz[]
    ) AS cut (id, task_run_id, number, worker_id, claimed_at)
), attempt AS (
    INSERT INTO orchestrator_attempt (
        id, task_run_id, number, worker_id, outcome, started_at, finished_at
    )
    SELECT
        id, task_run_id, number, worker_id, 'CANCELLED', claimed_at, orchestrator_now()
    FROM cut
)
UPDATE orchestrator_task_run AS task_run
SET attempts = cut.number, started_at = cut.claimed_at
FROM cut
WHERE task_run.id = cut.task_run_id AND task_run.status IS NULL

-- step: end
-- Rows:   none.
WITH task_run AS (
    UPDATE orchestrator_task_run
    SET status = 'CANCELLED', status_reason = %(reason)s::text,
        finished_at = orchestrator_now()
    WHERE id = ANY (%(task_run_ids)s::uuid[]) AND status IS NULL
), deadline AS (
    DELETE FROM orchestrator_deadline
    WHERE task_run_id = ANY (%(task_run_ids)s::uuid[])
), open_run AS (
    DELETE FROM orchestrator_open_run
    WHERE run_id = ANY (%(run_ids)s::uuid[])
    RETURNING run_id, started_at
), cut AS (
    SELECT run_id, min(claimed_at) AS started_at
    FROM unnest(%(leased_runs)s::uuid[], %(claimed)s::timestamptz[])
        AS cut (run_id, claimed_at)
    GROUP BY run_id
)
UPDATE orchestrator_run AS run
SET status = 'CANCELLED', status_reason = %(reason)s::text,
    started_at = coalesce(open_run.started_at, cut.started_at),
    finished_at = orchestrator_now()
FROM unnest(%(run_ids)s::uuid[]) AS ended (id)
LEFT JOIN open_run ON open_run.run_id = ended.id
LEFT JOIN cut ON cut.run_id = ended.id
WHERE run.id = ended.id AND run.id = ANY (%(run_ids)s::uuid[]) AND run.status IS NULL
