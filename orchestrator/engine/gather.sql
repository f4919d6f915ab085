-- Gather runs of batch tasks and claim them together.
-- Params: queues bigint[]; bases bigint[] (the plain lanes of batch tasks), sizes int[],
--         intervals float8[] (seconds or null), one element a task; lanes bigint[];
--         queue_id, lane bigint; size int; seconds float8 or null; most int or null
--         (batches of this lane at once); at_once bool; timeout_ms int or null;
--         worker_id uuid; child_id int; limit int.
--
-- A batch is full with `size` members, or with 4,000,000 bytes of input; it is due when
-- its oldest member has waited for the interval.

-- step: ripe
-- Locks:  none.
-- Rows:   queue id, lane, base, seconds until it is due (null for never): of lanes that
--         hold members, those that are due first.
WITH RECURSIVE task AS (
    SELECT *
    FROM unnest(%(bases)s::bigint[], %(sizes)s::int[], %(intervals)s::float8[])
        AS task (base, size, seconds)
), present AS (
    SELECT served.queue_id, task.base, task.size, task.seconds, head.lane
    FROM unnest(%(queues)s::bigint[]) AS served (queue_id)
    CROSS JOIN task
    CROSS JOIN LATERAL (
        SELECT item.lane
        FROM orchestrator_queue_item AS item
        WHERE item.queue_id = served.queue_id
          AND item.lane >= task.base AND item.lane < task.base + 2147483648
        ORDER BY item.lane
        LIMIT 1
    ) AS head
    UNION ALL
    SELECT present.queue_id, present.base, present.size, present.seconds, head.lane
    FROM present
    CROSS JOIN LATERAL (
        SELECT item.lane
        FROM orchestrator_queue_item AS item
        WHERE item.queue_id = present.queue_id
          AND item.lane > present.lane AND item.lane < present.base + 2147483648
        ORDER BY item.lane
        LIMIT 1
    ) AS head
)
SELECT
    present.queue_id, present.lane, present.base,
    CASE
        WHEN gathered.members >= present.size OR gathered.bytes > 4000000
          OR present.lane = present.base + 1
        THEN 0
        WHEN present.seconds IS NOT NULL
        THEN greatest(0, present.seconds
            - extract(epoch FROM orchestrator_now() - gathered.since)::float8)
    END AS due_in
FROM present
CROSS JOIN LATERAL (
    SELECT count(*) AS members, min(run.since) AS since, sum(run.bytes) AS bytes
    FROM (
        SELECT item.run_id
        FROM orchestrator_queue_item AS item
        WHERE item.queue_id = present.queue_id AND item.lane = present.lane
        ORDER BY item.position
        LIMIT present.size
    ) AS ahead
    CROSS JOIN LATERAL (
        SELECT
            greatest(run.created_at, run.run_after) AS since,
            octet_length(run.input::text) AS bytes
        FROM orchestrator_run AS run
        WHERE run.id = ahead.run_id
        OFFSET 0
    ) AS run
) AS gathered
ORDER BY due_in NULLS LAST
LIMIT %(limit)s::int

-- step: lock
-- One worker at a time forms batches of a lane: two would take half of it each, and
-- count the same batches. Statements that follow see what the one before has committed.
-- Locks:  advisory ones of the lanes, until the end of the transaction; no waiting.
-- Rows:   the lanes that are locked.
SELECT wanted.lane
FROM unnest(%(lanes)s::bigint[]) AS wanted (lane)
WHERE pg_try_advisory_xact_lock(wanted.lane)

-- step: take
-- Locks:  the queue items of the batch, SKIP LOCKED.
-- Rows:   Claim (claim.py), in the order of the queue; none where it is not due.
WITH ready AS MATERIALIZED (
    SELECT item.ctid AS row, item.*
    FROM orchestrator_queue_item AS item
    WHERE item.queue_id = %(queue_id)s::bigint AND item.lane = %(lane)s::bigint
    ORDER BY item.position
    LIMIT %(size)s::int
    FOR UPDATE SKIP LOCKED
), member AS MATERIALIZED (
    SELECT
        ready.*, run.*,
        sum(octet_length(run.input)) OVER (ORDER BY ready.position) AS bytes,
        row_number() OVER (ORDER BY ready.position) AS number
    FROM ready
    CROSS JOIN LATERAL (
        SELECT
            run.version_id, run.priority, run.tenant, run.metadata::text AS metadata,
            run.input::text AS input, run.parent_task_run_id IS NOT NULL AS child,
            run.event_id, greatest(run.created_at, run.run_after) AS since
        FROM orchestrator_run AS run
        WHERE run.id = ready.run_id
        OFFSET 0
    ) AS run
), chosen AS MATERIALIZED (
    SELECT member.*
    FROM member
    WHERE (member.bytes <= 4000000 OR member.number = 1)
      AND (
          SELECT %(at_once)s::bool OR count(*) >= %(size)s::int OR max(bytes) > 4000000
              OR min(since) + %(seconds)s::float8 * interval '1 second'
                  <= orchestrator_now()
          FROM member
      )
      AND (
          %(most)s::int IS NULL OR (
              SELECT count(*)
              FROM (
                  SELECT DISTINCT lease.worker_id, lease.child_id, lease.claimed_at
                  FROM orchestrator_lease AS lease
                  WHERE lease.queue_id = %(queue_id)s::bigint
                    AND lease.lane = %(lane)s::bigint
              ) AS batch
          ) < %(most)s::int
      )
), taken AS (
    DELETE FROM orchestrator_queue_item
    WHERE ctid = ANY (ARRAY(SELECT chosen.row FROM chosen))
), leased AS (
    INSERT INTO orchestrator_lease (
        task_run_id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,
        attempt, failures, losses, worker_id, child_id, claimed_at, timeout_at
    )
    SELECT
        task_run_id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,
        attempt, failures, losses, %(worker_id)s::uuid, %(child_id)s::int,
        orchestrator_now(),
        orchestrator_now() + %(timeout_ms)s::int * interval '1 millisecond'
    FROM chosen
)
SELECT
    task_run_id, run_id, task_id, queue_id, attempt, failures, losses, version_id,
    priority, tenant, metadata, input, child, event_id
FROM chosen
ORDER BY position
