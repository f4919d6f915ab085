-- Begin another branch of a journal with what the one in use has before a position.
-- Params: task_run_id uuid; entry_ids uuid[], positions int[]: the new
--         entries, one element each.
-- Locks:  the caller holds the Run.

-- step: read
-- Rows:   branch, position of each entry of the branch in use; one with a null
--         position where it has none.
SELECT task_run.branch, entry.position
FROM orchestrator_task_run AS task_run
LEFT JOIN orchestrator_journal_entry AS entry
    ON entry.task_run_id = task_run.id AND entry.branch = task_run.branch
WHERE task_run.id = %(task_run_id)s::uuid
ORDER BY entry.position

-- step: copy
-- Rows:   none.
INSERT INTO orchestrator_journal_entry (
    id, task_run_id, branch, position, kind, name, asked, attempt, child_run_id,
    output, error, completed_order, created_at, completed_at
)
SELECT
    new.id, entry.task_run_id, entry.branch + 1, entry.position, entry.kind,
    entry.name, entry.asked, entry.attempt, entry.child_run_id, entry.output,
    entry.error, entry.completed_order, entry.created_at, entry.completed_at
FROM unnest(%(entry_ids)s::uuid[], %(positions)s::int[]) AS new (id, position)
JOIN orchestrator_task_run AS task_run ON task_run.id = %(task_run_id)s::uuid
JOIN orchestrator_journal_entry AS entry
    ON entry.task_run_id = task_run.id AND entry.branch = task_run.branch
    AND entry.position = new.position

-- step: use
-- Rows:   none.
--
-- A first attempt has no journal to read: it is on the first branch.
UPDATE orchestrator_task_run SET branch = branch + 1
WHERE id = %(task_run_id)s::uuid AND status IS NOT NULL AND attempts > 0
