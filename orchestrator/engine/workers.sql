-- The row that says that a worker process is alive.
-- Params: worker_id uuid; of a new one: name, hostname text, pid, slots, processes int,
--         queues, labels, tasks text (JSON); status text, before text[].
-- Locks:  the Worker row.

-- step: register
-- Rows:   none.
INSERT INTO orchestrator_worker (
    id, name, hostname, pid, status, queues, labels, tasks, slots, processes,
    heartbeat_at, started_at
)
VALUES (
    %(worker_id)s::uuid, %(name)s::text, %(hostname)s::text, %(pid)s::int, 'ACTIVE',
    %(queues)s::text::jsonb, %(labels)s::text::jsonb, %(tasks)s::text::jsonb,
    %(slots)s::int, %(processes)s::int, orchestrator_now(), orchestrator_now()
)
ON CONFLICT (id) DO NOTHING

-- step: heartbeat
-- Rows:   the id, unless it has been declared lost.
UPDATE orchestrator_worker
SET heartbeat_at = orchestrator_now()
WHERE id = %(worker_id)s::uuid AND status IN ('ACTIVE', 'DRAINING', 'PAUSED')
RETURNING id

-- step: status
-- Rows:   the id, unless it is in none of the states `before`.
UPDATE orchestrator_worker
SET status = %(status)s::text, heartbeat_at = orchestrator_now()
WHERE id = %(worker_id)s::uuid AND status = ANY (%(before)s::text[])
RETURNING id

-- step: stop
-- Rows:   none.
UPDATE orchestrator_worker
SET status = 'STOPPED', stopped_at = orchestrator_now()
WHERE id = %(worker_id)s::uuid AND status IN ('ACTIVE', 'DRAINING', 'PAUSED')
