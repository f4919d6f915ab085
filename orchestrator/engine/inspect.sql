-- Look for what must never be.
-- Params: none.
-- Locks:  none. Whole tables are read: a check, not a query for a hot path.
-- Rows:   one for each violation: a sentence.

-- step: one_place
WITH place AS (
    SELECT task_run_id, 'queue item' AS name FROM orchestrator_queue_item
    UNION ALL
    SELECT task_run_id, 'delayed item' FROM orchestrator_delayed_item
    UNION ALL
    SELECT task_run_id, 'lease' FROM orchestrator_lease
    UNION ALL
    SELECT task_run_id, 'wait' FROM orchestrator_wait
)
SELECT format(
    'Task run %%s has not ended and is in %%s.', task_run.id,
    coalesce(string_agg(place.name, ' and '), 'no live table')
)
FROM orchestrator_task_run AS task_run
LEFT JOIN place ON place.task_run_id = task_run.id
WHERE task_run.status IS NULL
GROUP BY task_run.id
HAVING count(place.name) <> 1

-- step: left_over
WITH place AS (
    SELECT task_run_id, 'queue item' AS name FROM orchestrator_queue_item
    UNION ALL
    SELECT task_run_id, 'delayed item' FROM orchestrator_delayed_item
    UNION ALL
    SELECT task_run_id, 'lease' FROM orchestrator_lease
    UNION ALL
    SELECT task_run_id, 'wait' FROM orchestrator_wait
)
SELECT format(
    'A %%s is left over of task run %%s, which %%s.', place.name, place.task_run_id,
    coalesce('is ' || task_run.status, 'does not exist')
)
FROM place
LEFT JOIN orchestrator_task_run AS task_run ON task_run.id = place.task_run_id
WHERE task_run.id IS NULL OR task_run.status IS NOT NULL

-- step: conditions
SELECT format(
    'A condition (%%s %%s) is left over of task run %%s, which %%s.', condition.kind,
    condition.key, condition.task_run_id,
    coalesce('is ' || task_run.status, 'does not exist')
)
FROM orchestrator_wait_condition AS condition
LEFT JOIN orchestrator_task_run AS task_run ON task_run.id = condition.task_run_id
WHERE task_run.id IS NULL OR task_run.status IS NOT NULL

-- step: held
SELECT format('Task run %%s is held, and nothing that it waits for is open.', task_run_id)
FROM orchestrator_wait AS wait
WHERE wait.judged AND wait.remaining > 0 AND wait.opened_at IS NOT NULL
  AND NOT wait.suspended
  AND NOT EXISTS (
    SELECT
    FROM orchestrator_wait_condition AS condition
    WHERE condition.task_run_id = wait.task_run_id
      AND (condition.satisfied_at IS NULL OR NOT condition.judged)
  )

-- step: coordinates
SELECT format('Queue item of task run %%s is not at its coordinates.', task_run.id)
FROM orchestrator_queue_item AS item
JOIN orchestrator_task_run AS task_run ON task_run.id = item.task_run_id
WHERE (item.queue_id, item.lane, item.position)
   <> (task_run.queue_id, task_run.lane, task_run.position)

-- step: run_status
WITH task AS (
    SELECT
        run_id, count(*) AS tasks, count(*) FILTER (WHERE status IS NULL) AS open,
        count(*) FILTER (WHERE status = 'FAILED') AS failed,
        count(*) FILTER (WHERE status = 'CANCELLED') AS cancelled
    FROM orchestrator_task_run
    GROUP BY run_id
), expected AS (
    SELECT
        task.*,
        CASE
            WHEN open > 0 THEN NULL
            WHEN failed > 0 THEN 'FAILED'
            WHEN cancelled > 0 THEN 'CANCELLED'
            ELSE 'COMPLETED'
        END AS status
    FROM task
)
SELECT format(
    'Run %%s is %%s, but %%s of its %%s tasks have not ended, %%s failed and %%s are '
    'cancelled.', run.id, coalesce(run.status, 'unfinished'), coalesce(open, 0),
    coalesce(tasks, 0), coalesce(failed, 0), coalesce(cancelled, 0)
)
FROM orchestrator_run AS run
LEFT JOIN expected ON expected.run_id = run.id
WHERE expected.run_id IS NULL
   OR (expected.status IS DISTINCT FROM run.status
       -- An operator may cancel what is left of a run of which a task has failed.
       AND NOT (run.status = 'CANCELLED' AND expected.status = 'FAILED'
                AND expected.cancelled > 0))

-- step: open_run
WITH task AS (
    SELECT
        run_id, count(*) AS tasks, count(*) FILTER (WHERE status IS NULL) AS open
    FROM orchestrator_task_run
    GROUP BY run_id
)
SELECT format(
    'Run %%s counts %%s open tasks; %%s of %%s are.', task.run_id,
    coalesce(open_run.remaining::text, 'no'), task.open, task.tasks
)
FROM task
FULL JOIN orchestrator_open_run AS open_run ON open_run.run_id = task.run_id
WHERE coalesce(open_run.remaining, CASE WHEN task.tasks = 1 THEN task.open ELSE 0 END)
   <> coalesce(task.open, 0)
   OR (open_run.run_id IS NOT NULL AND coalesce(task.open, 0) = 0)

-- step: attempts
WITH made AS (
    SELECT
        task_run_id, count(*) AS attempts, max(number) AS last,
        count(*) FILTER (WHERE outcome = 'COMPLETED') AS completed
    FROM orchestrator_attempt
    GROUP BY task_run_id
)
SELECT format(
    'Task run %%s (%%s, generation %%s, %%s attempts) has %%s attempts on record, the '
    'last one is number %%s, %%s completed.', task_run.id,
    coalesce(task_run.status, 'unfinished'), task_run.generation, task_run.attempts,
    coalesce(made.attempts, 0), coalesce(made.last, 0), coalesce(made.completed, 0)
)
FROM orchestrator_task_run AS task_run
LEFT JOIN made ON made.task_run_id = task_run.id
WHERE coalesce(made.attempts, 0) <> coalesce(made.last, 0)
   OR coalesce(made.completed, 0) > task_run.generation
   OR (task_run.status IS NOT NULL
       AND coalesce(made.attempts, 0) <> task_run.attempts)
   OR (task_run.status = 'COMPLETED' AND coalesce(made.completed, 0) = 0)

-- step: rest
-- What a system at rest has none of.
SELECT format('%%s rows are left in %%s.', count, name)
FROM (
    SELECT count(*), 'orchestrator_queue_item' AS name FROM orchestrator_queue_item
    UNION ALL
    SELECT count(*), 'orchestrator_delayed_item' FROM orchestrator_delayed_item
    UNION ALL
    SELECT count(*), 'orchestrator_lease' FROM orchestrator_lease
    UNION ALL
    SELECT count(*), 'orchestrator_wait' FROM orchestrator_wait
    UNION ALL
    SELECT count(*), 'orchestrator_wait_condition' FROM orchestrator_wait_condition
    UNION ALL
    SELECT count(*), 'orchestrator_event_item' FROM orchestrator_event_item
    UNION ALL
    SELECT count(*), 'orchestrator_open_run' FROM orchestrator_open_run
    UNION ALL
    SELECT count(*), 'orchestrator_run (unfinished)'
    FROM orchestrator_run
    WHERE status IS NULL
) AS live
WHERE count > 0
