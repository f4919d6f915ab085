-- Route events to the conditions that wait for them.
-- Params: limit int; event_ids uuid[]; crowd int; after bigint, a condition id;
--         event_id uuid; condition_ids bigint[].
--
-- A condition without a scope is met by an event of any scope, one with a scope by an
-- event of that scope alone: the index is read at these two places for each event.
--
-- An event counts for a condition if it was pushed since the wait opened, or in a
-- transaction that had not committed then and that is not the one that opened it.
--
-- Nobody is waited for: who holds a condition may be waiting for one held here. What is
-- passed over is said, and its event stays to be routed.

-- step: take
-- Locks:  the event items, SKIP LOCKED.
-- Rows:   event id, key, of the oldest ones; null where the event has been dropped.
SELECT item.event_id, event.key
FROM (
    SELECT event_id
    FROM orchestrator_event_item
    ORDER BY event_id
    LIMIT %(limit)s::int
    FOR UPDATE SKIP LOCKED
) AS item
LEFT JOIN LATERAL (
    SELECT key FROM orchestrator_event WHERE id = item.event_id OFFSET 0
) AS event ON true
ORDER BY item.event_id

-- step: weigh
-- Locks:  none.
-- Rows:   event id; whether more than `crowd` conditions wait for it; whether any of
--         them has an expression. Only of events that are waited for.
SELECT event.id, weight.conditions > %(crowd)s::int, weight.asking
FROM unnest(%(event_ids)s::uuid[]) AS wanted (id)
CROSS JOIN LATERAL (
    SELECT id, key, scope FROM orchestrator_event WHERE id = wanted.id OFFSET 0
) AS event
CROSS JOIN LATERAL (
    SELECT count(*) AS conditions, bool_or(waiting.expression <> 'true') AS asking
    FROM (
        SELECT condition.expression
        FROM orchestrator_wait_condition AS condition
        WHERE condition.kind = 'EVENT' AND condition.satisfied_at IS NULL
          AND condition.key = event.key
          AND condition.scope = ANY (ARRAY['', event.scope])
        LIMIT %(crowd)s::int + 1
    ) AS waiting
) AS weight
WHERE weight.conditions > 0

-- step: plain
-- Satisfy the conditions without an expression, each by the first event for it.
-- Locks:  the conditions in id order, SKIP LOCKED.
-- Rows:   one: how many matched, how many were satisfied.
WITH match AS MATERIALIZED (
    SELECT DISTINCT ON (waiting.id) waiting.id, event.id AS event_id, event.created_at
    FROM unnest(%(event_ids)s::uuid[]) AS wanted (id)
    CROSS JOIN LATERAL (
        SELECT id, key, scope, xid, created_at
        FROM orchestrator_event
        WHERE id = wanted.id
        OFFSET 0
    ) AS event
    CROSS JOIN LATERAL (
        SELECT condition.id
        FROM orchestrator_wait_condition AS condition
        WHERE condition.kind = 'EVENT' AND condition.satisfied_at IS NULL
          AND condition.key = event.key
          AND condition.scope = ANY (ARRAY['', event.scope])
          AND condition.expression = 'true'
          AND (
            event.created_at >= condition.since
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
        LIMIT %(limit)s::int
    ) AS waiting
    ORDER BY waiting.id, event.created_at, event.id
), locked AS MATERIALIZED (
    SELECT condition.id
    FROM orchestrator_wait_condition AS condition
    WHERE condition.id = ANY (ARRAY(SELECT match.id FROM match))
      AND condition.satisfied_at IS NULL
    ORDER BY condition.id
    FOR UPDATE SKIP LOCKED
), satisfied AS (
    UPDATE orchestrator_wait_condition AS condition
    SET satisfied_at = match.created_at, event_id = match.event_id
    FROM match
    WHERE condition.id = match.id AND condition.id = ANY (
        ARRAY(SELECT locked.id FROM locked)
    )
)
SELECT (SELECT count(*) FROM match), (SELECT count(*) FROM locked)

-- step: asking
-- Locks:  none.
-- Rows:   condition id, run id, expression of the conditions with an expression that
--         an event counts for, in id order after `after`.
SELECT asking.id, asking.run_id, asking.expression
FROM (
    SELECT key, scope, xid, created_at
    FROM orchestrator_event
    WHERE id = %(event_id)s::uuid
    OFFSET 0
) AS event
CROSS JOIN LATERAL (
    SELECT condition.id, condition.run_id, condition.expression
    FROM orchestrator_wait_condition AS condition
    WHERE condition.kind = 'EVENT' AND condition.satisfied_at IS NULL
      AND condition.key = event.key
      AND condition.scope = ANY (ARRAY['', event.scope])
      AND condition.expression <> 'true' AND condition.id > %(after)s::bigint
      AND (
        event.created_at >= condition.since
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
    OFFSET 0  -- or all conditions would be read in the order of their ids
) AS asking
ORDER BY asking.id
LIMIT %(limit)s::int

-- step: satisfy
-- Locks:  the conditions in id order, SKIP LOCKED.
-- Rows:   the ids of those satisfied.
WITH locked AS MATERIALIZED (
    SELECT condition.id
    FROM orchestrator_wait_condition AS condition
    WHERE condition.id = ANY (%(condition_ids)s::bigint[])
      AND condition.satisfied_at IS NULL
    ORDER BY condition.id
    FOR UPDATE SKIP LOCKED
)
UPDATE orchestrator_wait_condition AS condition
SET satisfied_at = event.created_at, event_id = event.id
FROM (
    SELECT id, created_at FROM orchestrator_event WHERE id = %(event_id)s::uuid OFFSET 0
) AS event
WHERE condition.id = ANY (ARRAY(SELECT locked.id FROM locked))
RETURNING condition.id

-- step: left
-- Locks:  none.
-- Rows:   one: how many of the conditions are still to be satisfied.
SELECT count(*)
FROM orchestrator_wait_condition
WHERE id = ANY (%(condition_ids)s::bigint[]) AND satisfied_at IS NULL

-- step: done
-- Locks:  the event items, which are held already.
-- Rows:   none.
DELETE FROM orchestrator_event_item WHERE event_id = ANY (%(event_ids)s::uuid[])
