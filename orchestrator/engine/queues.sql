-- Read the ids of all queues, those that no definition names among them.
-- Params: none.
-- Locks:  none.
-- Rows:   id.
SELECT id FROM orchestrator_queue ORDER BY id
