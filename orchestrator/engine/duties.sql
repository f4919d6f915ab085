-- What only one scheduler at a time may do.
-- Params: name, holder text; every interval.
-- Locks:  the Duty row.

-- step: take
-- Rows:   the name where it was taken.
INSERT INTO orchestrator_duty AS duty (name, holder, expires_at, last_run_at)
VALUES (
    %(name)s::text, %(holder)s::text, orchestrator_now() + %(every)s::interval,
    orchestrator_now()
)
ON CONFLICT (name) DO UPDATE
SET holder = excluded.holder, expires_at = excluded.expires_at,
    last_run_at = excluded.last_run_at
WHERE duty.expires_at <= orchestrator_now()
RETURNING name
