-- Suspend attempts of one worker: their task runs wait without a slot.
-- Params: worker_id uuid; task_run_ids, run_ids, attempt_ids uuid[]; attempts int[];
--         started, finished float8[] (seconds ago), singles bool[] (runs of one task),
--         one element an attempt.
-- Locks:  the Run rows in id order, SKIP LOCKED: what is locked elsewhere is deferred;
--         then the leases, whose deletion is the fence.
-- Rows:   task run id of what is suspended; run id of what is deferred; one of them
--         null.
WITH report AS MATERIALIZED (
    SELECT report.*
    FROM unnest(
        %(task_run_ids)s::uuid[], %(run_ids)s::uuid[], %(attempt_ids)s::uuid[],
        %(attempts)s::int[], %(started)s::float8[], %(finished)s::float8[],
        %(singles)s::bool[]
    ) AS report (
        task_run_id, run_id, attempt_id, attempt, started, finished, single
    )
), locked AS MATERIALIZED (
    SELECT run.id
    FROM orchestrator_run AS run
    WHERE run.id = ANY (%(run_ids)s::uuid[])
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
        lease.schedule_timeout_ms, lease.failures, lease.losses,
        orchestrator_now() - report.started * interval '1 second' AS started_at,
        orchestrator_now() - report.finished * interval '1 second' AS finished_at
), attempt AS (
    INSERT INTO orchestrator_attempt (
        id, task_run_id, number, worker_id, outcome, started_at, finished_at
    )
    SELECT
        attempt_id, task_run_id, attempt, %(worker_id)s::uuid, 'SUSPENDED', started_at,
        finished_at
    FROM accepted
), task_run AS (
    UPDATE orchestrator_task_run AS task_run
    SET suspensions = task_run.suspensions + 1
    FROM accepted
    WHERE task_run.id = accepted.task_run_id AND task_run.status IS NULL
), opened AS (
    INSERT INTO orchestrator_open_run (
        run_id, remaining, failed, cancelled, reason, started_at
    )
    SELECT run_id, 1, 0, 0, '', started_at
    FROM accepted
    WHERE single
    ON CONFLICT (run_id) DO NOTHING
), begun AS (
    UPDATE orchestrator_open_run AS open_run
    SET started_at = accepted.started_at
    FROM accepted
    WHERE open_run.run_id = accepted.run_id AND NOT accepted.single
      AND open_run.started_at IS NULL
), waiting AS (
    INSERT INTO orchestrator_wait (
        task_run_id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,
        attempt, failures, losses, remaining, judged, suspended, opened_at
    )
    SELECT
        task_run_id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,
        attempt + 1, failures, losses, 1, true, true, orchestrator_now()
    FROM accepted
)
SELECT accepted.task_run_id, NULL::uuid FROM accepted
UNION ALL
SELECT NULL::uuid, report.run_id
FROM report
WHERE report.run_id NOT IN (SELECT locked.id FROM locked)
