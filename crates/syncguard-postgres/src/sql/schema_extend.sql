-- Creates the function that sets the expiry of a live shared grant to now plus the ttl.
--
-- In:  nothing
-- Out: nothing
--
-- The function returns the expiry; NULL if the id has no live shared grant; 0 if it is not to wait and another
-- client is working on the head. A caller that is not to wait has the advisory lock of the key already. See
-- `schema_share.sql` for the order of the locks.
CREATE OR REPLACE FUNCTION {extend}(
    in_lock_id text,
    in_ttl_ms bigint,
    in_grace_ms bigint,
    in_waits boolean
) RETURNS bigint
LANGUAGE plpgsql
AS $extend$
#variable_conflict use_column
DECLARE
    the_key text;
    head record;
    live jsonb;
    new_expiry bigint;
BEGIN
    SELECT member.head_key INTO the_key
    FROM {locks} AS member
    WHERE member.lock_id = in_lock_id;
    IF the_key IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext(the_key));
    IF in_waits THEN
        PERFORM FROM {locks} AS locks WHERE locks.key = the_key FOR UPDATE;
    ELSE
        PERFORM FROM {locks} AS locks WHERE locks.key = the_key FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            RETURN 0;
        END IF;
    END IF;

    SELECT clock.now_ms, locks.holders INTO head
    FROM (
        SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
    ) AS clock
    JOIN {locks} AS locks ON locks.key = the_key AND locks.shared_id = locks.lock_id;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    live := {live}(head.holders, head.now_ms, in_grace_ms);
    IF NOT jsonb_exists(live, in_lock_id) THEN
        RETURN NULL;
    END IF;
    new_expiry := head.now_ms + in_ttl_ms;
    live := jsonb_set(live, ARRAY[in_lock_id, 'expires_at_ms'], to_jsonb(new_expiry));
    UPDATE {locks} AS locks
    SET
        holders = live,
        expires_at_ms = (
            SELECT max((holder.value -> 'expires_at_ms')::bigint) FROM jsonb_each(live) AS holder
        )
    WHERE locks.key = the_key;
    RETURN new_expiry;
END
$extend$;

GRANT EXECUTE ON FUNCTION {extend} TO PUBLIC;
