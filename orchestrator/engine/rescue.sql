-- Find workers that are lost, and what they hold.
-- Params: lost_after float8 (seconds); run_ids uuid[].

-- step: declare
-- Nobody could be heard while the server was down: silence begins with its start.
-- Locks:  the Worker rows, SKIP LOCKED.
-- Rows:   the workers that are lost from now on.
UPDATE orchestrator_worker
SET status = 'LOST', stopped_at = orchestrator_now()
WHERE id IN (
    SELECT id
    FROM orchestrator_worker
    WHERE stopped_at IS NULL AND status IN ('ACTIVE', 'DRAINING', 'PAUSED')
      AND greatest(heartbeat_at, pg_postmaster_start_time())
          < orchestrator_now() - %(lost_after)s::float8 * interval '1 second'
    FOR UPDATE SKIP LOCKED
)
RETURNING id

-- step: holding
-- Locks:  none.
-- Rows:   the workers that are not alive and hold leases.
SELECT DISTINCT lease.worker_id
FROM orchestrator_lease AS lease
LEFT JOIN orchestrator_worker AS worker ON worker.id = lease.worker_id
WHERE worker.id IS NULL OR worker.status IN ('LOST', 'STOPPED')

-- step: runs
-- Locks:  none.
-- Rows:   id, version id, priority, tenant.
SELECT id, version_id, priority, tenant
FROM orchestrator_run
WHERE id = ANY (%(run_ids)s::uuid[])

-- step: patience
-- Locks:  none.
-- Rows:   one, of no content.
SELECT set_config('lock_timeout', '1s', true)

-- step: wait
-- Locks:  the Run rows in id order, and waits for them.
-- Rows:   the ids.
SELECT id
FROM orchestrator_run
WHERE id = ANY (%(run_ids)s::uuid[])
ORDER BY id
FOR UPDATE
