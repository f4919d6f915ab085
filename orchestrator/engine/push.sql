-- Append events, each with an item that has it routed once it is committed.
-- Params: event_ids uuid[]; events text, a JSON array of objects with `key`, `scope`,
--         `payload`, `metadata`, `tenant` and `priority`, one an id.
-- Locks:  none but those of its own new rows.
-- Rows:   none.
WITH new AS MATERIALIZED (
    SELECT new.id, new.event
    FROM ROWS FROM (
        unnest(%(event_ids)s::uuid[]), jsonb_array_elements(%(events)s::text::jsonb)
    ) AS new (id, event)
), item AS (
    INSERT INTO orchestrator_event_item (event_id) SELECT id FROM new
)
INSERT INTO orchestrator_event (
    id, key, scope, payload, metadata, tenant, priority, xid, created_at
)
SELECT
    id, event ->> 'key', event ->> 'scope', nullif(event -> 'payload', 'null'::jsonb),
    event -> 'metadata', event ->> 'tenant', (event ->> 'priority')::smallint,
    pg_current_xact_id()::text::bigint, orchestrator_now()
FROM new
