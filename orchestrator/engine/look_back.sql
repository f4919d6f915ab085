-- Look back for what came before a condition could be seen by whoever pushes events or
-- ends runs. To be done once, after the condition was committed.
-- Params: limit int; condition_ids bigint[]; condition_id bigint; low uuid;
--         at timestamptz, event_id uuid: go on from there; satisfied bigint[], by uuid[],
--         ats timestamptz[]: by which events, when.
--
-- `low` is an id that no event has which is of interest: it spares partitions. What was
-- pushed in a transaction that had not committed when the wait opened is looked for up
-- to ten minutes before that.
--
-- No two times are equal but where `travel()` holds the clock. There, ids tell what came
-- after the run was made, and of events that were routed already none counts for what
-- a durable function waits for only now: one event would end all waits of a loop.

-- step: take
-- Locks:  the conditions in id order, SKIP LOCKED.
-- Rows:   id, run id, kind, key, expression, whether it looks back, the Unix time since when
--         it does, whether it is satisfied already.
SELECT
    id, run_id, kind, key, expression, lookback,
    extract(epoch FROM since - interval '10 minutes')::float8, satisfied_at IS NOT NULL
FROM orchestrator_wait_condition
WHERE NOT checked
ORDER BY id
LIMIT %(limit)s::int
FOR UPDATE SKIP LOCKED

-- step: ended
-- Locks:  none.
-- Rows:   the ids of conditions whose child run has ended, and when that was.
SELECT condition.id, run.finished_at
FROM orchestrator_wait_condition AS condition
CROSS JOIN LATERAL (
    SELECT finished_at
    FROM orchestrator_run
    WHERE id = condition.child_run_id AND status IS NOT NULL
    OFFSET 0
) AS run
WHERE condition.id = ANY (%(condition_ids)s::bigint[])

-- step: oldest
-- Locks:  none.
-- Rows:   for each condition that an event counts for: its id, the oldest event's id,
--         its time. For those without an expression and without a look back.
SELECT condition.id, found.id, found.created_at
FROM orchestrator_wait_condition AS condition
CROSS JOIN LATERAL (
    (
        SELECT event.id, event.created_at
        FROM orchestrator_event AS event
        WHERE condition.scope = '' AND event.key = condition.key
          AND event.created_at >= condition.since - interval '10 minutes'
          AND event.id >= %(low)s::uuid
          AND (
            event.created_at > condition.since
            OR event.created_at = condition.since AND (
                condition.lookback
                OR CASE
                    WHEN condition.entry_id IS NULL THEN event.id > condition.run_id
                    ELSE EXISTS (
                        SELECT FROM orchestrator_event_item AS item
                        WHERE item.event_id = event.id
                    )
                END
            )
            OR (
                event.xid <> condition.xid
                AND CASE
                    WHEN condition.snapshot <> ''
                    THEN NOT pg_visible_in_snapshot(
                        event.xid::text::xid8, condition.snapshot::pg_snapshot
                    )
                END
            )
          )
        ORDER BY event.created_at
        LIMIT 1
    )
    UNION ALL
    (
        SELECT event.id, event.created_at
        FROM orchestrator_event AS event
        WHERE condition.scope <> '' AND event.scope <> ''
          AND event.key = condition.key AND event.scope = condition.scope
          AND event.created_at >= condition.since - interval '10 minutes'
          AND event.id >= %(low)s::uuid
          AND (
            event.created_at > condition.since
            OR event.created_at = condition.since AND (
                condition.lookback
                OR CASE
                    WHEN condition.entry_id IS NULL THEN event.id > condition.run_id
                    ELSE EXISTS (
                        SELECT FROM orchestrator_event_item AS item
                        WHERE item.event_id = event.id
                    )
                END
            )
            OR (
                event.xid <> condition.xid
                AND CASE
                    WHEN condition.snapshot <> ''
                    THEN NOT pg_visible_in_snapshot(
                        event.xid::text::xid8, condition.snapshot::pg_snapshot
                    )
                END
            )
          )
        ORDER BY event.created_at
        LIMIT 1
    )
) AS found
WHERE condition.id = ANY (%(condition_ids)s::bigint[])

-- step: forward
-- Locks:  none.
-- Rows:   the next events that count for a condition, the oldest first: id, time, payload
--         as a JSON text or null.
SELECT found.id, found.created_at, found.payload::text
FROM orchestrator_wait_condition AS condition
CROSS JOIN LATERAL (
    (
        SELECT event.id, event.created_at, event.payload
        FROM orchestrator_event AS event
        WHERE condition.scope = '' AND event.key = condition.key
          AND event.created_at >= condition.since - interval '10 minutes'
          AND event.id >= %(low)s::uuid
          AND (event.created_at, event.id) > (%(at)s::timestamptz, %(event_id)s::uuid)
          AND (
            event.created_at > condition.since
            OR event.created_at = condition.since AND (
                condition.lookback
                OR CASE
                    WHEN condition.entry_id IS NULL THEN event.id > condition.run_id
                    ELSE EXISTS (
                        SELECT FROM orchestrator_event_item AS item
                        WHERE item.event_id = event.id
                    )
                END
            )
            OR (
                event.xid <> condition.xid
                AND CASE
                    WHEN condition.snapshot <> ''
                    THEN NOT pg_visible_in_snapshot(
                        event.xid::text::xid8, condition.snapshot::pg_snapshot
                    )
                END
            )
          )
        ORDER BY event.created_at, event.id
        LIMIT %(limit)s::int
    )
    UNION ALL
    (
        SELECT event.id, event.created_at, event.payload
        FROM orchestrator_event AS event
        WHERE condition.scope <> '' AND event.scope <> ''
          AND event.key = condition.key AND event.scope = condition.scope
          AND event.created_at >= condition.since - interval '10 minutes'
          AND event.id >= %(low)s::uuid
          AND (event.created_at, event.id) > (%(at)s::timestamptz, %(event_id)s::uuid)
          AND (
            event.created_at > condition.since
            OR event.created_at = condition.since AND (
                condition.lookback
                OR CASE
                    WHEN condition.entry_id IS NULL THEN event.id > condition.run_id
                    ELSE EXISTS (
                        SELECT FROM orchestrator_event_item AS item
                        WHERE item.event_id = event.id
                    )
                END
            )
            OR (
                event.xid <> condition.xid
                AND CASE
                    WHEN condition.snapshot <> ''
                    THEN NOT pg_visible_in_snapshot(
                        event.xid::text::xid8, condition.snapshot::pg_snapshot
                    )
                END
            )
          )
        ORDER BY event.created_at, event.id
        LIMIT %(limit)s::int
    )
) AS found
WHERE condition.id = %(condition_id)s::bigint
ORDER BY found.created_at, found.id

-- step: backward
-- Locks:  none.
-- Rows:   the next events that count for a condition, the latest first: id, time, payload
--         as a JSON text or null.
SELECT found.id, found.created_at, found.payload::text
FROM orchestrator_wait_condition AS condition
CROSS JOIN LATERAL (
    (
        SELECT event.id, event.created_at, event.payload
        FROM orchestrator_event AS event
        WHERE condition.scope = '' AND event.key = condition.key
          AND event.created_at >= condition.since - interval '10 minutes'
          AND event.id >= %(low)s::uuid
          AND (event.created_at, event.id) < (%(at)s::timestamptz, %(event_id)s::uuid)
          AND (
            event.created_at > condition.since
            OR event.created_at = condition.since AND (
                condition.lookback
                OR CASE
                    WHEN condition.entry_id IS NULL THEN event.id > condition.run_id
                    ELSE EXISTS (
                        SELECT FROM orchestrator_event_item AS item
                        WHERE item.event_id = event.id
                    )
                END
            )
            OR (
                event.xid <> condition.xid
                AND CASE
                    WHEN condition.snapshot <> ''
                    THEN NOT pg_visible_in_snapshot(
                        event.xid::text::xid8, condition.snapshot::pg_snapshot
                    )
                END
            )
          )
        ORDER BY event.created_at DESC, event.id DESC
        LIMIT %(limit)s::int
    )
    UNION ALL
    (
        SELECT event.id, event.created_at, event.payload
        FROM orchestrator_event AS event
        WHERE condition.scope <> '' AND event.scope <> ''
          AND event.key = condition.key AND event.scope = condition.scope
          AND event.created_at >= condition.since - interval '10 minutes'
          AND event.id >= %(low)s::uuid
          AND (event.created_at, event.id) < (%(at)s::timestamptz, %(event_id)s::uuid)
          AND (
            event.created_at > condition.since
            OR event.created_at = condition.since AND (
                condition.lookback
                OR CASE
                    WHEN condition.entry_id IS NULL THEN event.id > condition.run_id
                    ELSE EXISTS (
                        SELECT FROM orchestrator_event_item AS item
                        WHERE item.event_id = event.id
                    )
                END
            )
            OR (
                event.xid <> condition.xid
                AND CASE
                    WHEN condition.snapshot <> ''
                    THEN NOT pg_visible_in_snapshot(
                        event.xid::text::xid8, condition.snapshot::pg_snapshot
                    )
                END
            )
          )
        ORDER BY event.created_at DESC, event.id DESC
        LIMIT %(limit)s::int
    )
) AS found
WHERE condition.id = %(condition_id)s::bigint
ORDER BY found.created_at DESC, found.id DESC

-- step: done
-- Locks:  the conditions, which are held already.
-- Rows:   none.
UPDATE orchestrator_wait_condition AS condition
SET checked = true,
    satisfied_at = coalesce(condition.satisfied_at, found.at),
    event_id = coalesce(condition.event_id, found.event_id)
FROM unnest(%(condition_ids)s::bigint[]) AS looked (id)
LEFT JOIN unnest(%(satisfied)s::bigint[], %(by)s::uuid[], %(ats)s::timestamptz[])
    AS found (id, event_id, at) ON found.id = looked.id
WHERE condition.id = looked.id
