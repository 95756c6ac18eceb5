-- Creates the function that ends the shared grant of an id, and the announcement of the id.
--
-- In:  nothing
-- Out: nothing
--
-- The function returns whether the grant was live. `in_key` is the key of a request that may be in flight; with
-- NULL, only the grant that the id has is ended. It notifies the waiters of the key if the last holder leaves,
-- a permit becomes free, or an announcement ends; see `release` for how. The row of the key stays, because it
-- may contain an announcement.
--
-- See `schema_share.sql` for the order of the locks. The tombstone of an abandoned id, which has the place of the
-- member in the index, is written after this function has returned.
CREATE OR REPLACE FUNCTION {leave}(
    in_lock_id text,
    in_key text,
    in_grace_ms bigint,
    in_channel text,
    in_class integer
) RETURNS boolean
LANGUAGE plpgsql
AS $leave$
#variable_conflict use_column
DECLARE
    the_key text;
    is_member boolean;
    head record;
    live jsonb;
    was_live boolean;
BEGIN
    SELECT member.head_key INTO the_key
    FROM {locks} AS member
    WHERE member.lock_id = in_lock_id;
    the_key := coalesce(the_key, in_key);
    IF the_key IS NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext(the_key));
    PERFORM FROM {locks} AS locks WHERE locks.key = the_key FOR UPDATE;
    DELETE FROM {locks} AS member
    WHERE member.lock_id = in_lock_id AND member.head_key = the_key;
    is_member := FOUND;

    SELECT
        clock.now_ms,
        locks.holders,
        locks.permits,
        coalesce(locks.announced_by = in_lock_id, false) AS is_announcer,
        coalesce(locks.announced_until_ms > clock.now_ms, false) AS is_announced
    INTO head
    FROM (
        SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
    ) AS clock
    JOIN {locks} AS locks ON locks.key = the_key AND locks.shared_id = locks.lock_id;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- The row of a member may be missing: earlier versions of the client prune it as an old tombstone.
    is_member := is_member OR coalesce(jsonb_exists(head.holders, in_lock_id), false);
    IF NOT (is_member OR head.is_announcer) THEN
        RETURN false;
    END IF;
    live := {live}(head.holders, head.now_ms, in_grace_ms);
    was_live := jsonb_exists(live, in_lock_id);
    live := live - in_lock_id;
    UPDATE {locks} AS locks
    SET
        holders = live,
        expires_at_ms = coalesce(
            (SELECT max((holder.value -> 'expires_at_ms')::bigint) FROM jsonb_each(live) AS holder),
            0
        ),
        announced_by = CASE WHEN head.is_announcer THEN NULL ELSE locks.announced_by END,
        announced_until_ms = CASE WHEN head.is_announcer THEN NULL ELSE locks.announced_until_ms END
    WHERE locks.key = the_key;
    IF (live = jsonb_build_object() OR head.permits IS NOT NULL OR head.is_announcer)
        AND NOT pg_try_advisory_xact_lock(in_class, hashtext(the_key) & 255)
    THEN
        PERFORM pg_notify(in_channel, {next}(
            the_key,
            CASE WHEN live <> jsonb_build_object() THEN 1 END,
            head.is_announced AND NOT head.is_announcer
        ));
    END IF;
    RETURN was_live;
END
$leave$;

GRANT EXECUTE ON FUNCTION {leave} TO PUBLIC;
