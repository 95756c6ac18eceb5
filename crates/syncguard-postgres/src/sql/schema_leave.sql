-- Creates the function that ends the shared grants of ids of one key, and the announcement of one of the ids.
--
-- In:  nothing
-- Out: nothing
--
-- The function returns for each id whether its grant was live, or NULL if it has another grant than one of the
-- key, or a tombstone; that stays. `in_key` is the key of the grants, or that of a request that may be in flight.
-- If none of the ids has a grant of that key, another key of theirs takes its place. With NULL, only a grant
-- that exists is ended. It notifies the waiters of the key if the last holder leaves, a permit becomes free, or
-- an announcement ends; see `release` for how. The row of the key stays, because it may contain an announcement.
--
-- See `schema_share.sql` for the order of the locks. The tombstone of an abandoned id, which has the place of the
-- member in the index, is written after this function has returned.
CREATE OR REPLACE FUNCTION {leave}(
    in_lock_ids text[],
    in_key text,
    in_grace_ms bigint,
    in_channel text,
    in_class integer
) RETURNS boolean[]
LANGUAGE plpgsql
AS $leave$
#variable_conflict use_column
DECLARE
    the_key text;
    are_members boolean;
    head record;
    live jsonb;
    were_live jsonb := jsonb_build_object();
BEGIN
    the_key := coalesce(
        (
            SELECT member.head_key
            FROM {locks} AS member
            WHERE member.lock_id = ANY (in_lock_ids) AND member.head_key IS NOT NULL
            ORDER BY member.head_key IS DISTINCT FROM in_key
            LIMIT 1
        ),
        in_key
    );
    IF the_key IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(hashtext(the_key));
        PERFORM FROM {locks} AS locks WHERE locks.key = the_key FOR UPDATE;
        DELETE FROM {locks} AS member
        WHERE member.lock_id = ANY (in_lock_ids) AND member.head_key = the_key;
        are_members := FOUND;
    END IF;

    SELECT
        clock.now_ms,
        locks.holders,
        locks.permits,
        coalesce(locks.announced_by = ANY (in_lock_ids), false) AS is_announcer,
        coalesce(locks.announced_until_ms > clock.now_ms, false) AS is_announced
    INTO head
    FROM (
        SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
    ) AS clock
    JOIN {locks} AS locks ON locks.key = the_key AND locks.shared_id = locks.lock_id;
    -- The row of a member may be missing: earlier versions of the client prune it as an old tombstone.
    IF FOUND AND (
        are_members
        OR head.is_announcer
        OR coalesce(jsonb_exists_any(head.holders, in_lock_ids), false)
    ) THEN
        were_live := {live}(head.holders, head.now_ms, in_grace_ms);
        live := were_live - in_lock_ids;
        UPDATE {locks} AS locks
        SET
            holders = live,
            expires_at_ms = coalesce(
                (
                    SELECT max(expiry::bigint)
                    FROM jsonb_path_query(live, '$.*.expires_at_ms') AS expiry
                ),
                0
            ),
            announced_by = CASE WHEN head.is_announcer THEN NULL ELSE locks.announced_by END,
            announced_until_ms = CASE WHEN head.is_announcer THEN NULL ELSE locks.announced_until_ms END
        WHERE locks.key = the_key;
        IF (live = jsonb_build_object() OR head.permits IS NOT NULL OR head.is_announcer)
            AND (
                NOT pg_try_advisory_xact_lock(in_class, hashtext(the_key) & 255)
                OR EXISTS (SELECT FROM pg_listening_channels())
            )
        THEN
            PERFORM pg_notify(in_channel, {next}(
                the_key,
                CASE WHEN live <> jsonb_build_object() THEN (
                    SELECT greatest(count(*), 1)
                    FROM unnest(in_lock_ids) AS lock_id
                    WHERE jsonb_exists(were_live, lock_id)
                ) END,
                head.is_announced AND NOT head.is_announcer
            ));
        END IF;
    END IF;
    RETURN (
        SELECT array_agg(
            CASE
                WHEN (SELECT own.key FROM {locks} AS own WHERE own.lock_id = asked.lock_id) IS NULL
                    THEN jsonb_exists(were_live, asked.lock_id)
            END
            ORDER BY asked.position
        )
        FROM unnest(in_lock_ids) WITH ORDINALITY AS asked (lock_id, position)
    );
END
$leave$;

GRANT EXECUTE ON FUNCTION {leave} TO PUBLIC;
