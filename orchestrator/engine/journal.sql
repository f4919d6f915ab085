-- Read and write what durable functions have done.
-- Params: task_run_ids uuid[]; low, high uuid (bounds of their families); attempts
--         int[]; worker_id uuid; entry_ids uuid[]; run_id uuid; of one entry: id, task_run_id uuid, branch, position,
--         attempt int, kind, name, asked text, output text (JSON or null);
--         patience text (a duration) or null.
--
-- An entry that is over gets its `completed_order` when it is delivered to the
-- function, not when it came to be over: so a replay delivers in the same order.

-- step: stamp
-- Number what is over and was not delivered yet, in the order in which it came.
-- Locks:  the leases, FOR SHARE; what is not this worker's any more is left alone.
-- Rows:   none.
WITH held AS MATERIALIZED (
    SELECT lease.task_run_id
    FROM unnest(%(task_run_ids)s::uuid[], %(attempts)s::int[])
        AS mine (task_run_id, attempt)
    JOIN orchestrator_lease AS lease ON lease.task_run_id = mine.task_run_id
    WHERE lease.attempt = mine.attempt
      AND lease.worker_id IS NOT DISTINCT FROM %(worker_id)s::uuid
    FOR SHARE OF lease
), numbered AS MATERIALIZED (
    SELECT due.id, nextval('orchestrator_order') AS number
    FROM (
        SELECT entry.id
        FROM orchestrator_journal_entry AS entry
        WHERE entry.task_run_id = ANY (ARRAY(SELECT held.task_run_id FROM held))
          AND entry.id >= %(low)s::uuid AND entry.id <= %(high)s::uuid
          AND entry.completed_at IS NOT NULL AND entry.completed_order IS NULL
        ORDER BY entry.completed_at, entry.position
    ) AS due
)
UPDATE orchestrator_journal_entry AS entry
SET completed_order = numbered.number
FROM numbered
WHERE entry.id = numbered.id
  AND entry.id >= %(low)s::uuid AND entry.id <= %(high)s::uuid

-- step: read
-- Locks:  none.
-- Rows:   task run id, branch, suspensions and Entry (journal.py), which is null where
--         a task run has none; in order.
SELECT
    task_run.id, task_run.branch, task_run.suspensions, entry.position, entry.kind,
    entry.asked, entry.output, entry.error, entry.completed_order, entry.created_at,
    entry.over, entry.child_run_id
FROM orchestrator_task_run AS task_run
LEFT JOIN LATERAL (
    SELECT
        entry.position, entry.kind, entry.asked, entry.output::text,
        entry.error::text, entry.completed_order, entry.created_at,
        entry.completed_at IS NOT NULL AS over, entry.child_run_id
    FROM orchestrator_journal_entry AS entry
    WHERE entry.task_run_id = task_run.id AND entry.branch = task_run.branch
      AND entry.id >= %(low)s::uuid AND entry.id <= %(high)s::uuid
    ORDER BY entry.position
    OFFSET 0
) AS entry ON true
WHERE task_run.id = ANY (%(task_run_ids)s::uuid[])
  AND task_run.id >= %(low)s::uuid AND task_run.id <= %(high)s::uuid

-- step: record
-- Write one entry that is over, as the last statement of a step's transaction. A process
-- that freezes between this and its commit holds the lease for `patience` at most.
-- Locks:  the lease, FOR SHARE.
-- Rows:   its order, its time, and a setting; none where the lease is lost.
INSERT INTO orchestrator_journal_entry (
    id, task_run_id, branch, position, kind, name, asked, attempt, output,
    completed_order, created_at, completed_at
)
SELECT
    %(id)s::uuid, %(task_run_id)s::uuid, %(branch)s::smallint, %(position)s::int,
    %(kind)s::text, %(name)s::text, %(asked)s::text, %(attempt)s::int,
    %(output)s::text::jsonb, nextval('orchestrator_order'), orchestrator_now(),
    orchestrator_now()
FROM orchestrator_lease AS lease
WHERE lease.task_run_id = %(task_run_id)s::uuid AND lease.attempt = %(attempt)s::int
  AND lease.worker_id IS NOT DISTINCT FROM %(worker_id)s::uuid
FOR SHARE
RETURNING
    completed_order, created_at,
    set_config(
        'idle_in_transaction_session_timeout',
        coalesce(
            %(patience)s::text, current_setting('idle_in_transaction_session_timeout')
        ),
        true
    )

-- step: deliver
-- Number entries that are over, for a function that waits for them with its slot.
-- Locks:  the lease, FOR SHARE.
-- Rows:   Entry (journal.py); none where the lease is lost.
WITH held AS MATERIALIZED (
    SELECT lease.task_run_id
    FROM orchestrator_lease AS lease
    WHERE lease.task_run_id = %(task_run_id)s::uuid
      AND lease.attempt = %(attempt)s::int
      AND lease.worker_id IS NOT DISTINCT FROM %(worker_id)s::uuid
    FOR SHARE
)
UPDATE orchestrator_journal_entry AS entry
SET completed_order = coalesce(entry.completed_order, nextval('orchestrator_order'))
FROM held
WHERE entry.id = ANY (%(entry_ids)s::uuid[]) AND entry.completed_at IS NOT NULL
  AND entry.id >= %(low)s::uuid AND entry.id <= %(high)s::uuid
RETURNING
    entry.position, entry.kind, entry.asked, entry.output::text, entry.error::text,
    entry.completed_order, entry.created_at

-- step: run
-- Locks:  none.
-- Rows:   version id, priority, tenant, metadata and input as JSON texts, event id.
SELECT version_id, priority, tenant, metadata::text, input::text, event_id
FROM orchestrator_run
WHERE id = %(run_id)s::uuid

-- step: attempts
-- Locks:  none.
-- Rows:   one: how many attempts an ended task run has had.
SELECT attempts FROM orchestrator_task_run WHERE id = %(task_run_id)s::uuid
