-- What attempts say while they are executed: lines, chunks and progress.
-- Params: line_ids, chunk_ids, task_run_ids uuid[], run_ids uuid[], attempts,
--         numbers int[], ages float8[] (seconds ago), one element a line, chunk or
--         word of progress; lines, chunks, messages text: a JSON array of them; done,
--         totals float8[]; seconds float8[]; run_id, low, high uuid (the bounds of the
--         run's family); limit int.
--
-- No fence is needed. An id is derived from the attempt and the number in it, so what
-- is written twice is there once.

-- step: lines
-- Locks:  none but those of its own new rows.
-- Rows:   none.
INSERT INTO orchestrator_log_line (
    id, task_run_id, attempt, number, level, logger, message, fields, created_at
)
SELECT
    line.id, line.task_run_id, line.attempt, line.number, line.said ->> 'level',
    line.said ->> 'logger', line.said ->> 'message',
    nullif(line.said -> 'fields', 'null'::jsonb),
    orchestrator_now() - line.age * interval '1 second'
FROM ROWS FROM (
    unnest(
        %(line_ids)s::uuid[], %(task_run_ids)s::uuid[], %(attempts)s::int[],
        %(numbers)s::int[], %(ages)s::float8[]
    ),
    jsonb_array_elements(%(lines)s::text::jsonb)
) AS line (id, task_run_id, attempt, number, age, said)
ON CONFLICT (id) DO NOTHING

-- step: chunks
-- Locks:  none but those of its own new rows.
-- Rows:   none.
INSERT INTO orchestrator_stream_chunk (
    id, run_id, task_run_id, attempt, number, data, created_at
)
SELECT
    chunk.id, chunk.run_id, chunk.task_run_id, chunk.attempt, chunk.number, chunk.data,
    orchestrator_now() - chunk.age * interval '1 second'
FROM ROWS FROM (
    unnest(
        %(chunk_ids)s::uuid[], %(run_ids)s::uuid[], %(task_run_ids)s::uuid[],
        %(attempts)s::int[], %(numbers)s::int[], %(ages)s::float8[]
    ),
    jsonb_array_elements(%(chunks)s::text::jsonb)
) AS chunk (id, run_id, task_run_id, attempt, number, age, data)
ON CONFLICT (id) DO NOTHING

-- step: progress
-- Of attempts that are being executed alone, so that a late word leaves no row behind.
-- Locks:  the progress of these task runs, in their order.
-- Rows:   none.
INSERT INTO orchestrator_progress AS progress (
    task_run_id, run_id, done, total, message, updated_at
)
SELECT
    word.task_run_id, word.run_id, word.done, word.total, word.message,
    orchestrator_now() - word.age * interval '1 second'
FROM ROWS FROM (
    unnest(
        %(task_run_ids)s::uuid[], %(run_ids)s::uuid[], %(attempts)s::int[],
        %(ages)s::float8[], %(done)s::float8[], %(totals)s::float8[]
    ),
    jsonb_array_elements_text(%(messages)s::text::jsonb)
) AS word (task_run_id, run_id, attempt, age, done, total, message)
WHERE EXISTS (
    SELECT FROM orchestrator_lease AS lease
    WHERE lease.task_run_id = word.task_run_id AND lease.attempt = word.attempt
)
ORDER BY word.task_run_id
ON CONFLICT (task_run_id) DO UPDATE
SET done = excluded.done, total = excluded.total, message = excluded.message,
    updated_at = excluded.updated_at

-- step: ended
-- Locks:  the progress of these task runs.
-- Rows:   none.
DELETE FROM orchestrator_progress WHERE task_run_id = ANY (%(task_run_ids)s::uuid[])

-- step: refresh
-- Locks:  the leases.
-- Rows:   none.
UPDATE orchestrator_lease AS lease
SET timeout_at = lease.timeout_at + more.seconds * interval '1 second'
FROM unnest(
    %(task_run_ids)s::uuid[], %(attempts)s::int[], %(seconds)s::float8[]
) AS more (task_run_id, attempt, seconds)
WHERE lease.task_run_id = more.task_run_id AND lease.attempt = more.attempt
  AND lease.timeout_at IS NOT NULL

-- step: sweep
-- The progress of task runs that ended without their worker: cancelled, or lost.
-- Locks:  these rows, SKIP LOCKED.
-- Rows:   the task runs.
DELETE FROM orchestrator_progress
WHERE task_run_id IN (
    SELECT progress.task_run_id
    FROM orchestrator_progress AS progress
    LEFT JOIN orchestrator_task_run AS task_run ON task_run.id = progress.task_run_id
    WHERE task_run.id IS NULL OR task_run.status IS NOT NULL
    LIMIT %(limit)s::int
    FOR UPDATE OF progress SKIP LOCKED
)
RETURNING task_run_id

-- step: read_lines
-- Locks:  none.
-- Rows:   task run id, attempt, number, level, logger, message, fields as JSON text,
--         created at; in the order of task runs, attempts and numbers.
SELECT
    seen.task_run_id, line.attempt, line.number, line.level, line.logger, line.message,
    line.fields, line.created_at
FROM unnest(%(task_run_ids)s::uuid[]) AS seen (task_run_id)
CROSS JOIN LATERAL (
    SELECT attempt, number, level, logger, message, fields::text, created_at
    FROM orchestrator_log_line
    WHERE task_run_id = seen.task_run_id
      AND id >= %(low)s::uuid AND id <= %(high)s::uuid
    ORDER BY attempt, number
    LIMIT %(limit)s::int
) AS line

-- step: read_chunks
-- Params, besides: attempts, numbers int[]: behind which chunk of each task run.
-- Locks:  none.
-- Rows:   task run id, attempt, number, data as JSON text, created at; in the order of
--         task runs, attempts and numbers.
SELECT
    seen.task_run_id, chunk.attempt, chunk.number, chunk.data, chunk.created_at
FROM unnest(
    %(task_run_ids)s::uuid[], %(attempts)s::int[], %(numbers)s::int[]
) AS seen (task_run_id, attempt, number)
CROSS JOIN LATERAL (
    SELECT attempt, number, data::text, created_at
    FROM orchestrator_stream_chunk
    WHERE run_id = %(run_id)s::uuid AND task_run_id = seen.task_run_id
      AND (attempt, number) > (seen.attempt, seen.number)
      AND id >= %(low)s::uuid AND id <= %(high)s::uuid
    ORDER BY attempt, number
    LIMIT %(limit)s::int
) AS chunk
