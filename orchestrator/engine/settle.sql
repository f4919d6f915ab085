-- Settle attempts of one worker. Two steps share the fence: `plain` for first attempts
-- that end a run of a single task, `graph` for all the rest.
-- Params: worker_id uuid; low, high uuid (the least and greatest of run_ids);
--         task_run_ids, run_ids, attempt_ids uuid[]; attempts int[]; outcomes,
--         statuses text[]; started, finished float8[] (seconds ago), one element an
--         attempt; outputs, errors, reasons: a JSON array of them as text, empty where
--         there is none at all.
-- Locks:  the Run rows in id order, SKIP LOCKED: what is locked elsewhere is deferred.
-- Rows:   one: how many were accepted; run ids deferred; attempt ids accepted where
--         their number is not that of the reports; queue ids that gained items;
--         whether there is something to judge.
--
-- The fence is the deletion of the lease by task run, attempt and worker. What it does
-- not return has no effect anywhere.
--
-- A text that is not one JSON value but several would shift those of its neighbours:
-- there are more values than attempts then, and the last step divides by zero.
--
-- Two predicates are written so that no index matches them, since a plan may be made
-- while a table is empty: the worker's (IS NOT DISTINCT FROM), or all leases of the
-- worker would be read, and the run's (coalesce), or all open runs would be.

-- step: plain
WITH report AS MATERIALIZED (
    SELECT report.*
    FROM ROWS FROM (
        unnest(
            %(task_run_ids)s::uuid[], %(run_ids)s::uuid[], %(attempt_ids)s::uuid[],
            %(attempts)s::int[], %(outcomes)s::text[], %(statuses)s::text[],
            %(started)s::float8[], %(finished)s::float8[]
        ),
        jsonb_array_elements(%(outputs)s::text::jsonb),
        jsonb_array_elements(%(errors)s::text::jsonb),
        jsonb_array_elements_text(%(reasons)s::text::jsonb)
    ) AS report (
        task_run_id, run_id, attempt_id, attempt, outcome, status, started, finished,
        output, error, reason
    )
), locked AS MATERIALIZED (
    SELECT run.id
    FROM orchestrator_run AS run
    WHERE run.id = ANY (%(run_ids)s::uuid[])
      AND run.id >= %(low)s::uuid AND run.id <= %(high)s::uuid
    ORDER BY run.id
    FOR UPDATE SKIP LOCKED
), accepted AS (
    DELETE FROM orchestrator_lease AS lease
    USING report
    WHERE lease.task_run_id = report.task_run_id
      AND lease.attempt = report.attempt
      AND lease.worker_id IS NOT DISTINCT FROM %(worker_id)s::uuid
      AND report.run_id IN (SELECT locked.id FROM locked)
    RETURNING
        report.*,
        orchestrator_now() - report.started * interval '1 second' AS started_at,
        orchestrator_now() - report.finished * interval '1 second' AS finished_at
), attempt AS (
    INSERT INTO orchestrator_attempt (
        id, task_run_id, number, worker_id, outcome, started_at, finished_at, error
    )
    SELECT
        attempt_id, task_run_id, attempt, %(worker_id)s::uuid, outcome, started_at,
        finished_at, nullif(error, 'null'::jsonb)
    FROM accepted
), task_run AS (
    UPDATE orchestrator_task_run AS task_run
    SET status = accepted.status, status_reason = coalesce(accepted.reason, ''),
        attempts = accepted.attempt, output = nullif(accepted.output, 'null'::jsonb),
        started_at = accepted.started_at, finished_at = accepted.finished_at
    FROM accepted
    WHERE task_run.id = accepted.task_run_id AND task_run.status IS NULL
), run AS (
    UPDATE orchestrator_run AS run
    SET status = accepted.status, status_reason = coalesce(accepted.reason, ''),
        started_at = accepted.started_at, finished_at = accepted.finished_at
    FROM accepted
    WHERE run.id = accepted.run_id AND coalesce(run.status, 'OPEN') = 'OPEN'
)
SELECT
    (SELECT count(*) FROM accepted),
    ARRAY(SELECT run_id FROM report WHERE run_id NOT IN (SELECT id FROM locked)),
    CASE
        WHEN (SELECT count(*) FROM accepted) < (
            SELECT count(*) / (count(task_run_id) = count(*))::int FROM report
        )
        THEN ARRAY(SELECT attempt_id FROM accepted)
    END,
    NULL::bigint[],
    false

-- step: graph
-- Params, besides: finals bool[]; executed bool[]; retry_ins float8[] (seconds, null
--         is at once); failures, losses int[] (as they stand after this attempt);
--         edge_parents, edge_children uuid[]: the task runs that wait for those that
--         are reported; doom_causes, doomed uuid[]: those that cannot run any more
--         when they fail; singles bool[]: runs of one task; handled_runs, handlers
--         uuid[]: runs with a task for their failure, and that task run.
WITH report AS MATERIALIZED (
    SELECT report.*
    FROM ROWS FROM (
        unnest(
            %(task_run_ids)s::uuid[], %(run_ids)s::uuid[], %(attempt_ids)s::uuid[],
            %(attempts)s::int[], %(outcomes)s::text[], %(statuses)s::text[],
            %(started)s::float8[], %(finished)s::float8[], %(finals)s::bool[],
            %(executed)s::bool[], %(retry_ins)s::float8[], %(failures)s::smallint[],
            %(losses)s::smallint[], %(singles)s::bool[]
        ),
        jsonb_array_elements(%(outputs)s::text::jsonb),
        jsonb_array_elements(%(errors)s::text::jsonb),
        jsonb_array_elements_text(%(reasons)s::text::jsonb)
    ) AS report (
        task_run_id, run_id, attempt_id, attempt, outcome, status, started, finished,
        final, executed, retry_in, failures, losses, single, output, error, reason
    )
), locked AS MATERIALIZED (
    SELECT run.id
    FROM orchestrator_run AS run
    WHERE run.id = ANY (%(run_ids)s::uuid[])
      AND run.id >= %(low)s::uuid AND run.id <= %(high)s::uuid
    ORDER BY run.id
    FOR UPDATE SKIP LOCKED
), accepted AS (
    DELETE FROM orchestrator_lease AS lease
    USING report
    WHERE lease.task_run_id = report.task_run_id
      AND lease.attempt = report.attempt
      AND lease.worker_id IS NOT DISTINCT FROM %(worker_id)s::uuid
      AND report.run_id IN (SELECT locked.id FROM locked)
    RETURNING
        report.*, lease.task_id, lease.queue_id, lease.lane, lease.position,
        lease.schedule_timeout_ms,
        orchestrator_now() - report.started * interval '1 second' AS started_at,
        orchestrator_now() - report.finished * interval '1 second' AS finished_at
), attempt AS (
    INSERT INTO orchestrator_attempt (
        id, task_run_id, number, worker_id, outcome, started_at, finished_at, error
    )
    SELECT
        attempt_id, task_run_id, attempt, %(worker_id)s::uuid, outcome, started_at,
        finished_at, nullif(error, 'null'::jsonb)
    FROM accepted
    WHERE executed
), ended AS (
    UPDATE orchestrator_task_run AS task_run
    SET status = accepted.status, status_reason = coalesce(accepted.reason, ''),
        attempts = accepted.attempt - CASE WHEN accepted.executed THEN 0 ELSE 1 END,
        output = nullif(accepted.output, 'null'::jsonb),
        started_at = CASE WHEN accepted.executed THEN accepted.started_at END,
        finished_at = accepted.finished_at
    FROM accepted
    WHERE task_run.id = accepted.task_run_id AND accepted.final
      AND task_run.status IS NULL
), doomed AS MATERIALIZED (
    SELECT doomed.task_run_id, min(accepted.reason) AS reason
    FROM accepted
    JOIN unnest(%(doom_causes)s::uuid[], %(doomed)s::uuid[])
        AS doomed (cause, task_run_id) ON doomed.cause = accepted.task_run_id
    WHERE accepted.final AND accepted.status IN ('FAILED', 'CANCELLED')
    GROUP BY doomed.task_run_id
), dropped AS (
    DELETE FROM orchestrator_wait AS wait
    USING doomed
    WHERE wait.task_run_id = doomed.task_run_id
    RETURNING wait.task_run_id, wait.run_id, doomed.reason
), cancelled AS (
    UPDATE orchestrator_task_run AS task_run
    SET status = 'CANCELLED', status_reason = dropped.reason,
        finished_at = orchestrator_now()
    FROM dropped
    WHERE task_run.id = dropped.task_run_id AND task_run.status IS NULL
), freed AS MATERIALIZED (
    -- A batch may hold a task twice: a late report beside that of the next attempt.
    SELECT edge.child, count(DISTINCT edge.parent)::int AS parents
    FROM accepted
    JOIN unnest(%(edge_parents)s::uuid[], %(edge_children)s::uuid[])
        AS edge (parent, child) ON edge.parent = accepted.task_run_id
    WHERE accepted.final AND accepted.status IN ('COMPLETED', 'SKIPPED')
      AND edge.child NOT IN (SELECT doomed.task_run_id FROM doomed)
    GROUP BY edge.child
), awaited AS (
    UPDATE orchestrator_wait AS wait
    SET remaining = wait.remaining - freed.parents,
        opened_at = CASE
            WHEN wait.remaining = freed.parents THEN orchestrator_now()
        END,
        snapshot = CASE
            WHEN wait.judged AND wait.remaining = freed.parents
            THEN pg_current_snapshot()::text
        END,
        xid = CASE
            WHEN wait.judged AND wait.remaining = freed.parents
            THEN pg_current_xact_id()::text::bigint
        END
    FROM freed
    WHERE wait.task_run_id = freed.child
    RETURNING wait.*
), ready AS (
    SELECT
        queue_id, lane, position, task_run_id, run_id, task_id, schedule_timeout_ms,
        attempt, failures, losses
    FROM awaited
    WHERE remaining = 0 AND NOT judged
    UNION ALL
    SELECT
        queue_id, lane, position, task_run_id, run_id, task_id, schedule_timeout_ms,
        attempt + 1, failures, losses
    FROM accepted
    WHERE NOT final AND retry_in IS NULL
), queued AS (
    INSERT INTO orchestrator_queue_item (
        queue_id, lane, position, task_run_id, run_id, task_id, schedule_timeout_ms,
        attempt, failures, losses
    )
    SELECT
        queue_id, lane, position, task_run_id, run_id, task_id, schedule_timeout_ms,
        attempt, failures, losses
    FROM ready
    RETURNING queue_id
), deadline AS (
    INSERT INTO orchestrator_deadline (task_run_id, run_id, expires_at)
    SELECT
        task_run_id, run_id,
        orchestrator_now() + schedule_timeout_ms * interval '1 millisecond'
    FROM ready
    WHERE schedule_timeout_ms IS NOT NULL
    ON CONFLICT (task_run_id) DO UPDATE SET expires_at = excluded.expires_at
), delayed AS (
    INSERT INTO orchestrator_delayed_item (
        task_run_id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,
        attempt, failures, losses, status, due_at
    )
    SELECT
        task_run_id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,
        attempt + 1, failures, losses, 'BACKOFF',
        orchestrator_now() + retry_in * interval '1 second'
    FROM accepted
    WHERE NOT final AND retry_in IS NOT NULL
), tally AS (
    SELECT
        run_id, sum(ended)::int AS ended, sum(failed)::int AS failed,
        sum(cancelled)::int AS cancelled,
        coalesce(min(reason) FILTER (WHERE failed = 1), min(reason)) AS reason,
        min(started_at) AS started_at
    FROM (
        SELECT
            run_id, final::int AS ended,
            (final AND status = 'FAILED')::int AS failed,
            (final AND status = 'CANCELLED')::int AS cancelled,
            CASE WHEN final AND status IN ('FAILED', 'CANCELLED') THEN reason END
                AS reason,
            CASE WHEN executed THEN started_at END AS started_at
        FROM accepted
        UNION ALL
        SELECT run_id, 1, 0, 1, NULL, NULL FROM dropped
    ) AS change
    GROUP BY run_id
), opened AS (
    INSERT INTO orchestrator_open_run (
        run_id, remaining, failed, cancelled, reason, started_at
    )
    SELECT run_id, 1, 0, 0, '', started_at
    FROM accepted
    WHERE single AND NOT final
    ON CONFLICT (run_id) DO NOTHING
), counted AS (
    UPDATE orchestrator_open_run AS open_run
    SET remaining = open_run.remaining - tally.ended,
        failed = open_run.failed + tally.failed,
        cancelled = open_run.cancelled + tally.cancelled,
        reason = CASE
            -- What makes the run FAILED tells more than what was cancelled before.
            WHEN open_run.reason = '' OR (open_run.failed = 0 AND tally.failed > 0)
            THEN coalesce(tally.reason, '')
            ELSE open_run.reason
        END,
        started_at = coalesce(open_run.started_at, tally.started_at)
    FROM tally
    WHERE open_run.run_id = tally.run_id
    RETURNING
        open_run.run_id, open_run.remaining, open_run.failed, open_run.cancelled,
        open_run.reason, open_run.started_at
), alarmed AS (           -- by a failure, or because nothing else is left
    UPDATE orchestrator_wait AS wait
    SET remaining = 0, opened_at = orchestrator_now()
    FROM counted
    JOIN unnest(%(handled_runs)s::uuid[], %(handlers)s::uuid[])
        AS handled (run_id, task_run_id) ON handled.run_id = counted.run_id
    WHERE wait.task_run_id = handled.task_run_id AND wait.remaining > 0
      AND (counted.failed > 0 OR counted.remaining = 1)
    RETURNING wait.task_run_id
), single_ended AS (      -- a single task whose run was never opened
    SELECT
        tally.run_id, 0 AS remaining, tally.failed, tally.cancelled, tally.reason,
        tally.started_at
    FROM tally
    WHERE tally.ended = 1
      AND tally.run_id IN (SELECT accepted.run_id FROM accepted WHERE accepted.single)
      AND tally.run_id NOT IN (SELECT counted.run_id FROM counted)
), closed AS (
    UPDATE orchestrator_run AS run
    SET status = CASE
            WHEN done.failed > 0 THEN 'FAILED'
            WHEN done.cancelled > 0 THEN 'CANCELLED'
            ELSE 'COMPLETED'
        END,
        status_reason = coalesce(done.reason, ''),
        started_at = done.started_at, finished_at = orchestrator_now()
    FROM (
        SELECT * FROM counted WHERE remaining = 0
        UNION ALL
        SELECT * FROM single_ended
    ) AS done
    WHERE run.id = done.run_id AND coalesce(run.status, 'OPEN') = 'OPEN'
)
SELECT
    (SELECT count(*) FROM accepted),
    ARRAY(SELECT run_id FROM report WHERE run_id NOT IN (SELECT id FROM locked)),
    CASE
        WHEN (SELECT count(*) FROM accepted) < (
            SELECT count(*) / (count(task_run_id) = count(*))::int FROM report
        )
        THEN ARRAY(SELECT attempt_id FROM accepted)
    END,
    ARRAY(SELECT DISTINCT queue_id FROM queued),
    EXISTS (SELECT FROM alarmed)
        OR EXISTS (SELECT FROM awaited WHERE remaining = 0 AND judged)

-- step: swept
-- What `graph` counted down to nothing. A statement of its own, since no statement can
-- delete a row that it has just updated.
-- Params: edge_children uuid[], run_ids uuid[].
WITH wait AS (
    DELETE FROM orchestrator_wait
    WHERE task_run_id = ANY (%(edge_children)s::uuid[]) AND remaining = 0
      AND NOT judged
)
DELETE FROM orchestrator_open_run
WHERE run_id = ANY (%(run_ids)s::uuid[]) AND remaining = 0
