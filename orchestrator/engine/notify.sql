-- Send one notification for each payload.
-- Params: channel text; payloads text[].
-- Locks:  none of ours; PostgreSQL's own lock at commit.
-- Rows:   one for each payload, of no content.
SELECT pg_notify(%(channel)s::text, payload)
FROM unnest(%(payloads)s::text[]) AS sent (payload)
