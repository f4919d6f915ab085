-- Hold idempotency keys.
-- Params: scopes, keys text[], run_ids uuid[], ttls float8[] (seconds), untils bool[]
--         (whether it is held until the run has ended, at most), one element a key and
--         none of them twice; limit int.

-- step: claim
-- A key that another transaction is about to hold is waited for. The holder's end is
-- looked up here alone, so the end of a run costs nothing: a run that an operator has
-- reopened holds its key again, unless another one has taken it meanwhile.
-- Locks:  the keys, in their order. It waits for whoever else claims one of them.
-- Rows:   scope and key of those that were free.
INSERT INTO orchestrator_idempotency_key AS held (
    scope, key, run_id, until_finished, expires_at
)
SELECT
    scope, key, run_id, until_finished,
    orchestrator_now() + ttl * interval '1 second'
FROM unnest(
    %(scopes)s::text[], %(keys)s::text[], %(run_ids)s::uuid[], %(ttls)s::float8[],
    %(untils)s::bool[]
) AS wanted (scope, key, run_id, ttl, until_finished)
ORDER BY scope COLLATE "C", key COLLATE "C"
ON CONFLICT (scope, key) DO UPDATE
SET run_id = excluded.run_id, until_finished = excluded.until_finished,
    expires_at = excluded.expires_at
WHERE held.expires_at <= orchestrator_now()
   OR (held.until_finished AND EXISTS (
       SELECT FROM orchestrator_run AS run
       WHERE run.id = held.run_id AND run.status IS NOT NULL
   ))
RETURNING scope, key

-- step: holders
-- Locks:  none.
-- Rows:   scope, key, run id.
SELECT held.scope, held.key, held.run_id
FROM unnest(%(scopes)s::text[], %(keys)s::text[]) AS wanted (scope, key)
JOIN orchestrator_idempotency_key AS held
  ON held.scope = wanted.scope AND held.key = wanted.key

-- step: purge
-- Locks:  keys that have expired, SKIP LOCKED.
-- Rows:   the scopes of those that were deleted.
DELETE FROM orchestrator_idempotency_key
WHERE (scope, key) IN (
    SELECT scope, key
    FROM orchestrator_idempotency_key
    WHERE expires_at <= orchestrator_now()
    ORDER BY expires_at
    LIMIT %(limit)s::int
    FOR UPDATE SKIP LOCKED
)
RETURNING scope
