-- Read the database's clock.
-- Params: none.
-- Locks:  none.
-- Rows:   one: milliseconds since 1970.
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8
