-- What partitions a table has.
-- Params: parent text, the partitioned table; name text, a partition.
-- Locks:  none.

-- step: partitions
-- Rows:   one: now; how many there are; the upper bound of the last one (uuid), null
--         where there are none or the last one has no end.
SELECT
    statement_timestamp(),
    count(child.oid),
    CASE
        WHEN NOT bool_or(bound.text LIKE '%%TO (MAXVALUE)')
        THEN max(substring(bound.text FROM 'TO \(''([0-9a-f-]+)''\)'))::uuid
    END
FROM pg_class AS parent
LEFT JOIN pg_inherits AS link ON link.inhparent = parent.oid
LEFT JOIN pg_class AS child ON child.oid = link.inhrelid
LEFT JOIN LATERAL pg_get_expr(child.relpartbound, child.oid) AS bound (text) ON true
WHERE parent.oid = to_regclass(%(parent)s::text)

-- step: exists
-- Rows:   one where the partition is there.
SELECT 1
FROM pg_inherits AS link
JOIN pg_class AS child ON child.oid = link.inhrelid
WHERE link.inhparent = to_regclass(%(parent)s::text) AND child.relname = %(name)s::text
