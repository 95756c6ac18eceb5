-- Creates the table of fence counters.
--
-- In:  nothing
-- Out: nothing
--
-- A row for each key that was ever granted, for ever: its fence must never repeat. Only the number
-- changes, which no index holds, so with room in its page a row is rewritten in place.
CREATE TABLE {if_not_exists} {counters} (
    fence_key text PRIMARY KEY,
    fence bigint NOT NULL DEFAULT 0,
    key_debug text
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);
