"""The rows of a large installation, made by the database itself."""

from __future__ import annotations

# A run's id by its number: months apart, in the order of the numbers.
RUN_ID = """
    (lpad(to_hex(%(first)s::bigint + n::bigint * %(step)s::bigint), 12, '0')
     || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid
"""
# And one that is not in the same place in the hash.
TASK_RUN_ID = RUN_ID.replace("'7'", "'8'")

RUN_ROWS = f"""
INSERT INTO orchestrator_run (
    id, workflow_id, version_id, queue_id, status, status_reason, generation, input,
    metadata, tenant, priority, created_at, started_at, finished_at
)
SELECT
    {RUN_ID}, (%(workflows)s::bigint[])[1 + n %% 20],
    (%(versions)s::bigint[])[1 + n %% 20], %(queue)s,
    CASE WHEN n %% 50 = 0 THEN NULL WHEN n %% 100 = 1 THEN 'FAILED'
         ELSE 'COMPLETED' END,
    '', 1, '{{}}', CASE WHEN n %% 20 = 0 THEN jsonb_build_object('user', n %% 500)
    ELSE '{{}}' END, '', 0, now(), now(), CASE WHEN n %% 50 > 0 THEN now() END
FROM generate_series(0, %(runs)s - 1) AS n
"""
TASK_RUN_ROWS = f"""
INSERT INTO orchestrator_task_run (
    id, run_id, task_id, ordinal, queue_id, lane, position, status, status_reason,
    generation, attempts, finished_at
)
SELECT
    {TASK_RUN_ID}, {RUN_ID}, 1, 0, %(queue)s, (%(lanes)s::bigint[])[1 + n %% 20],
    100::bigint << 55 | n,
    CASE WHEN n %% 50 > 0 THEN 'COMPLETED' END, '', 1, 1,
    CASE WHEN n %% 50 > 0 THEN now() END
FROM generate_series(0, %(runs)s - 1) AS n
"""
ATTEMPT_ROWS = f"""
INSERT INTO orchestrator_attempt (
    id, task_run_id, number, worker_id, outcome, started_at, finished_at
)
SELECT {TASK_RUN_ID}, {TASK_RUN_ID}, 1, md5((n %% 7)::text)::uuid, 'COMPLETED', now(),
    now()
FROM generate_series(0, %(runs)s - 1) AS n
"""
QUEUE_ROWS = f"""
INSERT INTO orchestrator_queue_item (
    queue_id, lane, position, task_run_id, run_id, task_id, attempt, failures, losses
)
SELECT
    (%(queues)s::bigint[])[1 + n %% cardinality(%(queues)s::bigint[])],
    (%(lanes)s::bigint[])[1 + n %% cardinality(%(lanes)s::bigint[])],
    100::bigint << 55 | k, gen_random_uuid(), {RUN_ID}, 1, 1, 0, 0
FROM (
    SELECT k, k %% %(runs)s AS n FROM generate_series(%(from)s::int, %(to)s::int) AS k
) AS series
"""
PLACE = (
    "task_run_id, run_id, task_id, queue_id, lane, position, attempt, failures, losses"
)
LIVE_ROWS = [
    f"""
    INSERT INTO orchestrator_delayed_item ({PLACE}, status, due_at)
    SELECT gen_random_uuid(), {RUN_ID}, 1, 1, 1, 100::bigint << 55 | k, 1, 0, 0,
        'SCHEDULED', now() + (k - 500) * interval '1 minute'
    FROM (SELECT k, k %% %(runs)s AS n FROM generate_series(0, 310000) AS k) AS series
    """,
    f"""
    INSERT INTO orchestrator_deadline (task_run_id, run_id, expires_at)
    SELECT {TASK_RUN_ID}, {RUN_ID}, now() + (n - 200) * interval '1 minute'
    FROM generate_series(0, 100000) AS n
    """,
    f"""
    INSERT INTO orchestrator_wait ({PLACE}, remaining)
    SELECT gen_random_uuid(), {RUN_ID}, 1, 1, 1, 100::bigint << 55 | n, 1, 0, 0, 1
    FROM generate_series(0, 60000) AS n
    """,
    f"""
    INSERT INTO orchestrator_open_run (
        run_id, remaining, failed, cancelled, reason, started_at
    )
    SELECT {RUN_ID}, 3, 0, 0, '', CASE WHEN n %% 10 = 0 THEN now() END
    FROM generate_series(0, 30000) AS n
    """,
    f"""
    INSERT INTO orchestrator_lease (
        {PLACE}, worker_id, child_id, claimed_at, timeout_at
    )
    SELECT {TASK_RUN_ID}, {RUN_ID}, 1, 1, 1, 100::bigint << 55 | n, 1, 0, 0,
        md5((n %% 7)::text)::uuid, 1, now(), now() + interval '1 hour'
    FROM generate_series(0, 600) AS n
    """,
    f"""
    INSERT INTO orchestrator_event (
        id, key, scope, payload, metadata, tenant, xid, created_at
    )
    SELECT {RUN_ID}, 'key' || n %% 50, CASE WHEN n %% 2 = 0 THEN 'scope' || n %% 500
        ELSE '' END, '1', '{{}}', '', 3,
        to_timestamp((%(first)s + n::bigint * %(step)s) / 1000.0)
    FROM generate_series(0, %(runs)s - 1) AS n
    """,
    f"""
    INSERT INTO orchestrator_event_item (event_id)
    SELECT {RUN_ID} FROM generate_series(0, 30000) AS n
    """,
    f"""
    INSERT INTO orchestrator_wait_condition (
        run_id, task_run_id, "group", slot, leaf, kind, key, scope, expression, since,
        snapshot, xid, due_at, child_run_id, checked, satisfied_at, judged
    )
    SELECT
        {RUN_ID}, {TASK_RUN_ID}, 0, 'wait_for', 0,
        (ARRAY['EVENT', 'SLEEP', 'CHILD'])[1 + n %% 3], 'key' || n %% 50,
        CASE WHEN n %% 2 = 0 THEN 'scope' || n %% 500 ELSE '' END,
        CASE WHEN n %% 7 = 0 THEN 'payload == 1' ELSE 'true' END, now(), '10:20:', 3,
        CASE WHEN n %% 3 = 1 THEN now() + (n - 100) * interval '1 minute' END,
        CASE WHEN n %% 3 = 2 THEN {RUN_ID} END, n %% 100 > 0,
        CASE WHEN n %% 10 = 0 THEN now() END, n %% 100 > 0
    FROM generate_series(0, 100000) AS n
    """,
]
