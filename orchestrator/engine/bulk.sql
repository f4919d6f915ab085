-- Tell whether operators have asked for something that is not worked off yet.
-- Params: none.
-- Locks:  none.
-- Rows:   one: whether there is an unfinished bulk operation.
SELECT EXISTS (
    SELECT
    FROM orchestrator_bulk_operation AS operation
    WHERE operation.finished_at IS NULL
)
