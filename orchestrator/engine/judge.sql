-- Judge what waits: whether it runs, is skipped, is cancelled, or goes on waiting.
-- Params: limit int; task_run_ids uuid[]; run_ids uuid[]; parent_ids uuid[]; wanted
--         bool[] (whose output is needed); worker_id uuid, who holds what ends until it
--         is settled in this transaction; started uuid[], those of task_run_ids whose
--         time to start has come; conditions text, a JSON array of objects; judged
--         bigint[], condition ids.
--
-- What is read has to be as it is once the runs are locked, so `find` locks and the
-- steps after it read.

-- step: find
-- Locks:  the Run rows in id order, SKIP LOCKED.
-- Rows:   task run id, run id, version id of what is to be looked at.
WITH opened AS MATERIALIZED (
    SELECT task_run_id, run_id
    FROM orchestrator_wait
    WHERE judged AND remaining <= 0 AND NOT suspended
    ORDER BY task_run_id
    LIMIT %(limit)s::int
), changed AS MATERIALIZED (
    SELECT task_run_id, run_id
    FROM orchestrator_wait_condition
    WHERE satisfied_at IS NOT NULL AND NOT judged AND entry_id IS NULL
    ORDER BY run_id
    LIMIT %(limit)s::int
), due AS MATERIALIZED (
    SELECT task_run_id, run_id FROM opened
    UNION
    SELECT task_run_id, run_id FROM changed
), locked AS MATERIALIZED (
    SELECT run.id, run.version_id
    FROM orchestrator_run AS run
    WHERE run.id = ANY (ARRAY(SELECT due.run_id FROM due))
    ORDER BY run.id
    FOR UPDATE SKIP LOCKED
)
SELECT due.task_run_id, due.run_id, locked.version_id
FROM due
JOIN locked ON locked.id = due.run_id

-- step: waits
-- Locks:  none.
-- Rows:   task run id, task id, remaining of those that still wait.
SELECT task_run_id, task_id, remaining
FROM orchestrator_wait
WHERE task_run_id = ANY (%(task_run_ids)s::uuid[]) AND NOT suspended

-- step: conditions
-- Locks:  none.
-- Rows:   id, task run id, slot, leaf; whether it is checked, satisfied, judged.
SELECT id, task_run_id, slot, leaf, checked, satisfied_at IS NOT NULL, judged
FROM orchestrator_wait_condition
WHERE task_run_id = ANY (%(task_run_ids)s::uuid[]) AND entry_id IS NULL

-- step: parents
-- Locks:  none.
-- Rows:   id, status, output as JSON text where it is wanted.
SELECT
    task_run.id, task_run.status,
    CASE WHEN parent.wanted THEN task_run.output::text END
FROM unnest(%(parent_ids)s::uuid[], %(wanted)s::bool[]) AS parent (id, wanted)
CROSS JOIN LATERAL (
    SELECT id, status, output FROM orchestrator_task_run WHERE id = parent.id OFFSET 0
) AS task_run

-- step: counts
-- Locks:  none.
-- Rows:   run id; how many of its tasks have not ended, how many have failed.
SELECT run_id, remaining, failed
FROM orchestrator_open_run
WHERE run_id = ANY (%(run_ids)s::uuid[])

-- step: hold
-- Keep the task runs waiting, for conditions that are written down now.
-- Locks:  the waits of locked runs.
-- Rows:   none.
WITH held AS (
    UPDATE orchestrator_wait AS wait
    SET remaining = 1,
        opened_at = CASE
            WHEN start.id IS NULL THEN wait.opened_at
            ELSE orchestrator_now()
        END,
        snapshot = CASE
            WHEN start.id IS NULL THEN wait.snapshot
            ELSE pg_current_snapshot()::text
        END,
        xid = CASE
            WHEN start.id IS NULL THEN wait.xid
            ELSE pg_current_xact_id()::text::bigint
        END
    FROM unnest(%(task_run_ids)s::uuid[]) AS chosen (id)
    LEFT JOIN unnest(%(started)s::uuid[]) AS start (id) ON start.id = chosen.id
    WHERE wait.task_run_id = chosen.id
    RETURNING wait.task_run_id, wait.run_id, wait.opened_at, wait.snapshot, wait.xid
), leaf AS (
    SELECT leaf.*
    FROM jsonb_to_recordset(%(conditions)s::text::jsonb) AS leaf (
        task_run_id uuid, slot text, leaf smallint, kind text, key text, scope text,
        expression text, seconds float8, lookback float8, satisfied bool
    )
)
INSERT INTO orchestrator_wait_condition (
    run_id, task_run_id, "group", slot, leaf, kind, key, scope, expression, since,
    lookback, snapshot, xid, due_at, checked, satisfied_at
)
SELECT
    held.run_id, held.task_run_id, 0, leaf.slot, leaf.leaf, leaf.kind, leaf.key,
    leaf.scope, leaf.expression,
    CASE
        WHEN leaf.kind = 'EVENT'
        THEN held.opened_at - coalesce(leaf.lookback, 0) * interval '1 second'
    END,
    leaf.lookback IS NOT NULL, held.snapshot, held.xid,
    CASE
        WHEN leaf.kind = 'SLEEP'
        THEN held.opened_at + leaf.seconds * interval '1 second'
    END,
    leaf.kind <> 'EVENT', CASE WHEN leaf.satisfied THEN orchestrator_now() END
FROM leaf
JOIN held ON held.task_run_id = leaf.task_run_id

-- step: judged
-- Locks:  the conditions in id order.
-- Rows:   none.
WITH locked AS MATERIALIZED (
    SELECT id
    FROM orchestrator_wait_condition
    WHERE id = ANY (%(judged)s::bigint[])
    ORDER BY id
    FOR UPDATE
)
UPDATE orchestrator_wait_condition AS condition
SET judged = true
WHERE condition.id = ANY (ARRAY(SELECT locked.id FROM locked))

-- step: decided
-- Locks:  the conditions in id order.
-- Rows:   none.
DELETE FROM orchestrator_wait_condition
WHERE id IN (
    SELECT id
    FROM orchestrator_wait_condition
    WHERE task_run_id = ANY (%(task_run_ids)s::uuid[]) AND entry_id IS NULL
    ORDER BY id
    FOR UPDATE
)

-- step: run
-- Locks:  the waits of locked runs.
-- Rows:   the queue id of each task run queued.
WITH released AS (
    DELETE FROM orchestrator_wait
    WHERE task_run_id = ANY (%(task_run_ids)s::uuid[]) AND NOT suspended
    RETURNING
        queue_id, lane, position, task_run_id, run_id, task_id, schedule_timeout_ms,
        attempt, failures, losses
), deadline AS (
    INSERT INTO orchestrator_deadline (task_run_id, run_id, expires_at)
    SELECT
        task_run_id, run_id,
        orchestrator_now() + schedule_timeout_ms * interval '1 millisecond'
    FROM released
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
FROM released
RETURNING queue_id

-- step: end
-- Locks:  the waits of locked runs.
-- Rows:   Held (leases.py) of each.
WITH ended AS (
    DELETE FROM orchestrator_wait
    WHERE task_run_id = ANY (%(task_run_ids)s::uuid[]) AND NOT suspended
    RETURNING
        task_run_id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,
        attempt, failures, losses
)
INSERT INTO orchestrator_lease (
    task_run_id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,
    attempt, failures, losses, worker_id, child_id, claimed_at
)
SELECT
    task_run_id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,
    attempt, failures, losses, %(worker_id)s::uuid, 0, orchestrator_now()
FROM ended
RETURNING
    task_run_id, run_id, task_id, child_id, queue_id, attempt, failures, losses,
    0::float8
