-- Write what a durable function waits for: journal entries, and their conditions.
-- Params: entry_ids, task_run_ids, run_ids, child_run_ids uuid[] (null without a child);
--         branches, positions, groups, attempts, leaves int[]; kinds, names, asked, keys,
--         scopes, expressions text[]; ages float8[] (seconds since the call), sleeps,
--         lookbacks float8[] (seconds or null), untils timestamptz[] (or null);
--         checked bool[]: nothing can have come before; snapshots text[]: what had
--         committed when an event began to be waited for, null is now; task_run_id uuid, attempt int,
--         worker_id uuid of a lease; waiting uuid[], waiting_groups int[].

-- step: fence
-- Locks:  the lease, FOR SHARE.
-- Rows:   one while the task run is that attempt's.
SELECT lease.task_run_id
FROM orchestrator_lease AS lease
WHERE lease.task_run_id = %(task_run_id)s::uuid AND lease.attempt = %(attempt)s::int
  AND lease.worker_id IS NOT DISTINCT FROM %(worker_id)s::uuid
FOR SHARE

-- step: snapshot
-- What has committed by now: an event that commits later counts, whatever its time.
-- Locks:  none.
-- Rows:   one: the snapshot.
SELECT pg_current_snapshot()::text

-- step: open
-- Which of the groups have conditions that are still to come true.
-- Locks:  none.
-- Rows:   task run id, group.
SELECT wanted.task_run_id, wanted.number
FROM unnest(%(waiting)s::uuid[], %(waiting_groups)s::int[])
    AS wanted (task_run_id, number)
WHERE EXISTS (
    SELECT
    FROM orchestrator_wait_condition AS condition
    WHERE condition.task_run_id = wanted.task_run_id
      AND condition."group" = wanted.number AND condition.entry_id IS NOT NULL
)

-- step: entries
-- What is on record already stays as it is. Where `travel()` holds the clock, no time
-- has passed since the call.
-- Locks:  none but those of its own new rows.
-- Rows:   none.
INSERT INTO orchestrator_journal_entry (
    id, task_run_id, branch, position, kind, name, asked, attempt, child_run_id,
    created_at
)
SELECT
    id, task_run_id, branch, position, kind, name, asked, attempt, child_run_id,
    orchestrator_now() - interval '1 second' * CASE
        WHEN coalesce(current_setting('orchestrator.now', true), '') = '' THEN age
        ELSE 0
    END
FROM unnest(
    %(entry_ids)s::uuid[], %(task_run_ids)s::uuid[], %(branches)s::smallint[],
    %(positions)s::int[], %(kinds)s::text[], %(names)s::text[], %(asked)s::text[],
    %(attempts)s::int[], %(child_run_ids)s::uuid[], %(ages)s::float8[]
) AS new (
    id, task_run_id, branch, position, kind, name, asked, attempt, child_run_id, age
)
ON CONFLICT (id) DO NOTHING

-- step: conditions
-- Of entries that are not over. Times count from the call that is on record, so a wait
-- that goes on after a retry ends when it would have.
-- Locks:  none but those of its own new rows.
-- Rows:   none.
INSERT INTO orchestrator_wait_condition (
    run_id, task_run_id, entry_id, "group", slot, leaf, kind, key, scope, expression,
    since, lookback, snapshot, xid, due_at, child_run_id, checked
)
SELECT
    new.run_id, new.task_run_id, new.entry_id, new.number, 'durable', new.leaf,
    new.kind, new.key, new.scope, new.expression,
    CASE
        WHEN new.kind = 'EVENT'
        THEN entry.created_at - coalesce(new.lookback, 0) * interval '1 second'
    END,
    new.lookback IS NOT NULL,
    CASE
        WHEN new.kind = 'EVENT' THEN coalesce(new.snapshot, pg_current_snapshot()::text)
        ELSE ''
    END,
    CASE WHEN new.kind = 'EVENT' THEN pg_current_xact_id()::text::bigint END,
    CASE
        WHEN new.kind = 'SLEEP'
        THEN coalesce(new.until, entry.created_at + new.sleep * interval '1 second')
    END,
    new.child_run_id, new.checked
FROM unnest(
    %(entry_ids)s::uuid[], %(run_ids)s::uuid[], %(task_run_ids)s::uuid[],
    %(groups)s::int[], %(leaves)s::smallint[], %(kinds)s::text[], %(keys)s::text[],
    %(scopes)s::text[], %(expressions)s::text[], %(lookbacks)s::float8[],
    %(sleeps)s::float8[], %(untils)s::timestamptz[], %(child_run_ids)s::uuid[],
    %(checked)s::bool[], %(snapshots)s::text[]
) AS new (
    entry_id, run_id, task_run_id, number, leaf, kind, key, scope, expression,
    lookback, sleep, until, child_run_id, checked, snapshot
)
CROSS JOIN LATERAL (
    SELECT entry.created_at
    FROM orchestrator_journal_entry AS entry
    WHERE entry.id = new.entry_id AND entry.completed_at IS NULL
    OFFSET 0
) AS entry

-- step: left
-- Drop what task runs have ended without waiting for it any more.
-- Locks:  the conditions in id order.
-- Rows:   none.
DELETE FROM orchestrator_wait_condition
WHERE id IN (
    SELECT condition.id
    FROM orchestrator_wait_condition AS condition
    CROSS JOIN LATERAL (
        SELECT
        FROM orchestrator_task_run AS task_run
        WHERE task_run.id = condition.task_run_id AND task_run.status IS NOT NULL
        OFFSET 0
    ) AS ended
    WHERE condition.task_run_id = ANY (%(waiting)s::uuid[])
    ORDER BY condition.id
    FOR UPDATE OF condition
)
