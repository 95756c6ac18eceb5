-- Creates the table of the waiters in line, and the functions that use it.
--
-- In:  nothing
-- Out: nothing
--
-- The line only decides whom a release notifies first, never whom a key is granted to. It may be wrong, and may be
-- emptied at any time: the table is not logged, so a crash of the server empties it. A waiter is in line at most
-- once for each key: `waiter` is its client.
--
-- A role needs privileges to use the line, because one that locks its rows delays releases. A role without them
-- acquires and releases as well; its releases notify everyone. The length of `waiter` is fixed, because that of a
-- notification is limited.
CREATE UNLOGGED TABLE IF NOT EXISTS {line} (
    key text NOT NULL,
    waiter text NOT NULL CHECK (length(waiter) = 22),
    -- The order in the line: when the waiter first entered it, in ms.
    place bigint NOT NULL,
    -- How many such waiters may be granted a free key at once: 1 for a writer.
    room bigint NOT NULL,
    until_ms bigint NOT NULL,
    PRIMARY KEY (key, waiter)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_cost_delay = 0
);

CREATE INDEX IF NOT EXISTS {locks_line} ON {line} (until_ms);

-- Enters the line, or stays in it for longer, and returns the place. A waiter that comes back with its place is
-- in front of those that came later. Some waiters that have died are removed, of any key.
CREATE OR REPLACE FUNCTION {enter}(
    in_key text,
    in_waiter text,
    in_place bigint,
    in_room bigint,
    in_time_ms bigint
) RETURNS bigint
LANGUAGE plpgsql
AS $enter$
#variable_conflict use_column
DECLARE
    now_ms CONSTANT bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);
    the_place bigint;
BEGIN
    DELETE FROM {line} AS line
    USING (
        SELECT dead.key, dead.waiter
        FROM {line} AS dead
        WHERE dead.until_ms <= now_ms
        ORDER BY dead.until_ms
        LIMIT 4
        FOR UPDATE SKIP LOCKED
    ) AS dead
    WHERE line.key = dead.key AND line.waiter = dead.waiter;
    INSERT INTO {line} AS line (key, waiter, place, room, until_ms)
    VALUES (in_key, in_waiter, coalesce(in_place, now_ms), in_room, now_ms + in_time_ms)
    ON CONFLICT (key, waiter) DO UPDATE SET room = excluded.room, until_ms = excluded.until_ms
    RETURNING line.place INTO the_place;
    RETURN the_place;
END
$enter$;

-- Takes the first waiters out of the line, and returns a notification for the channel: the hash of the key, the
-- waiters, and those behind them, who take their turn if none of the first does.
--
-- If the whole key is free (`in_free` is NULL), all who can hold it together leave the line at once: several
-- readers, several permits, or one writer. If a writer has announced itself, readers are behind writers.
CREATE OR REPLACE FUNCTION {next}(
    in_key text,
    in_free bigint,
    in_writers_first boolean
) RETURNS text
LANGUAGE plpgsql
AS $next$
#variable_conflict use_column
DECLARE
    now_ms CONSTANT bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);
    waiters text[];
    rooms bigint[];
    count bigint := 0;
BEGIN
    IF NOT (has_table_privilege('{line}', 'SELECT') AND has_table_privilege('{line}', 'DELETE')) THEN
        RETURN hashtext(in_key)::text;
    END IF;
    SELECT array_agg(ahead.waiter), array_agg(ahead.room) INTO waiters, rooms
    FROM (
        SELECT line.waiter, line.room
        FROM {line} AS line
        WHERE line.key = in_key AND line.until_ms > now_ms
        ORDER BY in_writers_first AND line.room > 1, line.place, line.waiter
        LIMIT {max_notified} + {substitutes}
    ) AS ahead;
    IF waiters IS NULL THEN
        RETURN hashtext(in_key)::text;
    END IF;
    WHILE count < least(rooms[1], coalesce(in_free, rooms[1]), {max_notified})
        AND rooms[count + 1] = rooms[1]
    LOOP
        count := count + 1;
    END LOOP;
    DELETE FROM {line} AS line
    WHERE line.key = in_key AND line.waiter = ANY(waiters[1:count]);
    RETURN concat_ws(
        ' ',
        hashtext(in_key),
        array_to_string(waiters[1:count], ','),
        array_to_string(waiters[count + 1:count + {substitutes}], ',')
    );
END
$next$;

GRANT EXECUTE ON FUNCTION {enter}, {next} TO PUBLIC;
