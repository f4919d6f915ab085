-- Satisfy the conditions that wait for a time which has come.
-- Params: limit int.

-- step: ripen
-- Locks:  the conditions in id order, SKIP LOCKED.
-- Rows:   one: how many.
WITH due AS MATERIALIZED (
    SELECT condition.id
    FROM orchestrator_wait_condition AS condition
    WHERE condition.due_at <= orchestrator_now() AND condition.satisfied_at IS NULL
    ORDER BY condition.due_at
    LIMIT %(limit)s::int
), locked AS MATERIALIZED (
    SELECT condition.id
    FROM orchestrator_wait_condition AS condition
    WHERE condition.id = ANY (ARRAY(SELECT due.id FROM due))
      AND condition.satisfied_at IS NULL
    ORDER BY condition.id
    FOR UPDATE SKIP LOCKED
), ripe AS (
    UPDATE orchestrator_wait_condition AS condition
    SET satisfied_at = condition.due_at
    WHERE condition.id = ANY (ARRAY(SELECT locked.id FROM locked))
    RETURNING condition.id
)
SELECT count(*) FROM ripe

-- step: next
-- Locks:  none.
-- Rows:   one: seconds until the first condition is due; none where nothing is.
SELECT extract(epoch FROM due_at - orchestrator_now())::float8
FROM orchestrator_wait_condition
WHERE due_at IS NOT NULL AND satisfied_at IS NULL
ORDER BY due_at
LIMIT 1
