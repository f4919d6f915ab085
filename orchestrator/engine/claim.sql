-- Claim up to %(limit)s task runs for one child process and open their leases.
-- Params: queues bigint[] in the order in which they are served; lanes bigint[] that
--         the worker knows, ascending; timed_lanes bigint[], timeouts int[] (ms), the
--         execution timeouts of those lanes that have one; worker_id uuid;
--         child_id int; limit int.
-- Locks:  the claimed queue items, SKIP LOCKED. It never waits.
-- Rows:   Claim (claim.py), in no order.
--
-- A lane's rows are admissible together, so a claim chooses lanes and never filters
-- rows. `present` leaps from one known lane that has rows to the next in the primary
-- key, however many rows of unknown lanes lie between; `pick` decides without locks how
-- many to take of each; `ready` then locks exactly that many. It relies on queue items
-- never being updated: what it locks is the version that it sees, which it can delete.
WITH RECURSIVE present AS (
    SELECT served.queue_id, served.turn, head.lane
    FROM unnest(%(queues)s::bigint[]) WITH ORDINALITY AS served (queue_id, turn)
    CROSS JOIN LATERAL (
        SELECT item.lane
        FROM orchestrator_queue_item AS item
        WHERE item.queue_id = served.queue_id
          AND item.lane >= (%(lanes)s::bigint[])[1]
        ORDER BY item.lane
        LIMIT 1
    ) AS head
    UNION ALL
    SELECT present.queue_id, present.turn, head.lane
    FROM present
    CROSS JOIN LATERAL (
        SELECT item.lane
        FROM orchestrator_queue_item AS item
        WHERE item.queue_id = present.queue_id
          AND item.lane >= (
              SELECT min(known.lane)
              FROM unnest(%(lanes)s::bigint[]) AS known (lane)
              WHERE known.lane > present.lane
          )
        ORDER BY item.lane
        LIMIT 1
    ) AS head
), candidate AS MATERIALIZED (
    SELECT present.queue_id, present.turn, present.lane, timed.timeout_ms
    FROM present
    LEFT JOIN unnest(%(timed_lanes)s::bigint[], %(timeouts)s::int[])
        AS timed (lane, timeout_ms) ON timed.lane = present.lane
    WHERE present.lane = ANY (%(lanes)s::bigint[])
), pick AS MATERIALIZED (
    SELECT queue_id, lane, timeout_ms, %(limit)s::bigint AS take
    FROM candidate
    WHERE (SELECT count(*) FROM candidate) = 1
    UNION ALL
    SELECT queue_id, lane, timeout_ms, count(*) AS take
    FROM (
        SELECT candidate.queue_id, candidate.lane, candidate.timeout_ms
        FROM candidate
        CROSS JOIN LATERAL (
            SELECT item.position
            FROM orchestrator_queue_item AS item
            WHERE item.queue_id = candidate.queue_id AND item.lane = candidate.lane
            ORDER BY item.position
            LIMIT %(limit)s::bigint
        ) AS ahead
        WHERE (SELECT count(*) FROM candidate) > 1
        ORDER BY candidate.turn, ahead.position
        LIMIT %(limit)s::bigint
    ) AS merged
    GROUP BY queue_id, lane, timeout_ms
), ready AS MATERIALIZED (
    SELECT item.*, pick.timeout_ms
    FROM pick
    CROSS JOIN LATERAL (
        SELECT
            item.ctid AS row, item.task_run_id, item.run_id, item.task_id,
            item.queue_id, item.lane, item.position, item.schedule_timeout_ms,
            item.attempt, item.failures, item.losses
        FROM orchestrator_queue_item AS item
        WHERE item.queue_id = pick.queue_id AND item.lane = pick.lane
        ORDER BY item.position
        LIMIT pick.take
        FOR UPDATE SKIP LOCKED
    ) AS item
), taken AS (
    DELETE FROM orchestrator_queue_item
    WHERE ctid = ANY (ARRAY(SELECT ready.row FROM ready))
), leased AS (
    INSERT INTO orchestrator_lease (
        task_run_id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,
        attempt, failures, losses, worker_id, child_id, claimed_at, timeout_at
    )
    SELECT
        task_run_id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,
        attempt, failures, losses, %(worker_id)s::uuid, %(child_id)s::int,
        orchestrator_now(),
        orchestrator_now() + timeout_ms * interval '1 millisecond'
    FROM ready
)
SELECT
    ready.task_run_id, ready.run_id, ready.task_id, ready.queue_id, ready.attempt,
    ready.failures, ready.losses, run.version_id, run.priority, run.tenant,
    run.metadata, run.input, run.child, run.event_id
FROM ready
CROSS JOIN LATERAL (     -- OFFSET 0 keeps this a look-up by key whatever the batch
    SELECT
        run.version_id, run.priority, run.tenant, run.metadata::text, run.input::text,
        run.parent_task_run_id IS NOT NULL AS child, run.event_id
    FROM orchestrator_run AS run
    WHERE run.id = ready.run_id
    OFFSET 0
) AS run
