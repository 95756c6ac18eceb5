-- Creates the table of fence counters.
--
-- In:  nothing
-- Out: nothing
--
-- It has a row for each key that was ever granted, because a fence must never repeat. Only seeded counters are ever
-- deleted (see `retire.sql`). Only the
-- number changes, and no index contains it. Therefore a row is rewritten in place if its page has room.
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
