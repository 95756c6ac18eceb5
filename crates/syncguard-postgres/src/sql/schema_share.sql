-- Creates the function that grants a key in shared mode.
--
-- In:  nothing
-- Out: nothing
--
-- The function returns the row of the key as it was decided on, in the columns of `stand`; id_key: the key that
-- the id holds or held, or the key of its tombstone; and the grant (granted_fence, granted_expires_at_ms), if
-- one was made. It returns no row if the statement is not in its own transaction. It fails as `acquire` does if
-- the fence counter cannot be increased, or if the id was abandoned meanwhile.
--
-- Invariant: a shared grant is decided and written under the advisory lock of the key, as an exclusive grant
-- is, on the latest version of the key's row, which is locked.
--
-- Each statement of the function has a snapshot of its own. The first look is without locks, so that a request
-- that is refused writes nothing and waits for no one. The second look is under the advisory lock. From then on
-- no other client makes or extends a grant of the key. Exclusive releases and forced releases do without the
-- advisory lock. They only delete the row, and the lock on the row orders them.
--
-- Locks are taken in the order of all statements of shared mode: the advisory lock of the key, the row of the
-- key (the head), the row of the counter, the row of the id (the member). No client that has a later one waits
-- for an earlier one, so no two of them wait for each other.
CREATE OR REPLACE FUNCTION {share}(
    in_own_transaction boolean,
    in_key text,
    in_lock_id text,
    in_grace_ms bigint,
    in_ttl_ms bigint,
    in_fence_key text,
    in_user_key text,
    in_fence_limit bigint,
    in_owner text,
    in_permits bigint,
    in_head_id text,
    in_member_key text
) RETURNS TABLE (
    lock_id text,
    fence text,
    expires_at_ms bigint,
    owner text,
    notifies boolean,
    shared text,
    now_ms bigint,
    id_key text,
    granted_fence text,
    granted_expires_at_ms bigint
)
LANGUAGE plpgsql
AS $share$
#variable_conflict use_column
DECLARE
    seen record;
    live jsonb;
    is_admitted boolean;
    is_locked boolean := false;
    new_fence bigint;
    head_id text;
BEGIN
    IF NOT in_own_transaction THEN
        RETURN;
    END IF;
    LOOP
        SELECT
            locks.lock_id,
            locks.fence,
            locks.expires_at_ms,
            {owner} AS owner,
            {notifies} AS notifies,
            {shared} AS shared,
            clock.now_ms,
            coalesce(locks.shared_id = locks.lock_id, false) AS is_shared,
            coalesce(locks.expires_at_ms > clock.now_ms - in_grace_ms, false) AS is_live,
            coalesce(locks.announced_until_ms > clock.now_ms, false) AS is_announced,
            locks.permits,
            locks.holders,
            (
                SELECT coalesce(own.head_key, own.key)
                FROM {locks} AS own
                WHERE own.lock_id = in_lock_id
            ) AS id_key
        INTO seen
        FROM (
            SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
        ) AS clock
        LEFT JOIN {locks} AS locks ON locks.key = in_key;
        live := CASE
            WHEN seen.is_shared AND seen.is_live
                THEN {live}(seen.holders, seen.now_ms, in_grace_ms)
            ELSE jsonb_build_object()
        END;
        is_admitted := CASE
            WHEN seen.id_key IS NOT NULL THEN false
            WHEN seen.is_live AND NOT seen.is_shared THEN false
            WHEN seen.is_shared AND seen.is_announced THEN false
            WHEN live = jsonb_build_object() THEN true
            WHEN seen.permits IS DISTINCT FROM in_permits THEN false
            ELSE in_permits IS NULL
                OR (SELECT count(*) FROM jsonb_object_keys(live)) < in_permits
        END;
        EXIT WHEN is_locked OR NOT is_admitted;
        PERFORM pg_advisory_xact_lock(hashtext(in_key));
        PERFORM FROM {locks} AS locks WHERE locks.key = in_key FOR UPDATE;
        is_locked := true;
    END LOOP;

    IF is_admitted THEN
        -- As in `acquire`, a counter that cannot be increased becomes NULL, which its column rejects.
        INSERT INTO {counters} AS counters (fence_key, fence, key_debug)
        SELECT
            in_fence_key,
            CASE
                WHEN length(seen.fence) <> 15 OR seen.fence ~ '[^0-9]' THEN NULL
                WHEN seen.fence::bigint > coalesce(last.fence, 0) THEN NULL
                WHEN last.fence IS NULL THEN 1
                WHEN last.fence >= 0 AND last.fence < in_fence_limit THEN last.fence + 1
            END,
            in_user_key
        FROM (SELECT) AS one
        LEFT JOIN {counters} AS last ON last.fence_key = in_fence_key
        ON CONFLICT (fence_key) DO UPDATE SET fence = excluded.fence
        WHERE counters.fence = excluded.fence - 1
        RETURNING counters.fence INTO new_fence;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the counter was changed without the advisory lock of its key'
                USING ERRCODE = 'serialization_failure';
        END IF;

        granted_fence := lpad(new_fence::text, 15, '0');
        granted_expires_at_ms := seen.now_ms + in_ttl_ms;
        live := live || jsonb_build_object(in_lock_id, jsonb_strip_nulls(jsonb_build_object(
            'fence', granted_fence,
            'acquired_at_ms', seen.now_ms,
            'expires_at_ms', granted_expires_at_ms,
            'owner', in_owner
        )));
        head_id := CASE WHEN seen.is_shared THEN seen.lock_id ELSE in_head_id END;
        INSERT INTO {locks} AS locks (
            key, lock_id, expires_at_ms, acquired_at_ms, fence, user_key, owner_lock_id,
            shared_id, permits, holders
        )
        SELECT
            in_key, head_id, max((holder.value -> 'expires_at_ms')::bigint), seen.now_ms,
            granted_fence, in_user_key, head_id, head_id, in_permits, live
        FROM jsonb_each(live) AS holder
        ON CONFLICT (key) DO UPDATE SET
            lock_id = excluded.lock_id,
            expires_at_ms = excluded.expires_at_ms,
            acquired_at_ms = excluded.acquired_at_ms,
            fence = excluded.fence,
            user_key = excluded.user_key,
            owner = NULL,
            owner_lock_id = excluded.owner_lock_id,
            shared_id = excluded.shared_id,
            permits = excluded.permits,
            holders = excluded.holders,
            announced_by = NULL,
            announced_until_ms = NULL
        WHERE locks.lock_id = seen.lock_id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the lock was changed without the advisory lock of its key'
                USING ERRCODE = 'serialization_failure';
        END IF;

        INSERT INTO {locks} (
            key, lock_id, expires_at_ms, acquired_at_ms, fence, user_key, head_key
        ) VALUES (
            in_member_key, in_lock_id, 0, seen.now_ms, granted_fence, in_user_key, in_key
        );
    END IF;
    lock_id := seen.lock_id;
    fence := seen.fence;
    expires_at_ms := seen.expires_at_ms;
    owner := seen.owner;
    notifies := seen.notifies;
    shared := seen.shared;
    now_ms := seen.now_ms;
    id_key := seen.id_key;
    RETURN NEXT;
END
$share$;

GRANT EXECUTE ON FUNCTION {share} TO PUBLIC;
