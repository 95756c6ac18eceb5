-- Creates the function that grants a key in shared mode, to one request or to several.
--
-- In:  nothing
-- Out: nothing
--
-- The arrays have an element for each request: a lock id, none twice; a ttl; and an owner, '' for none. The
-- function returns one row: the row of the key as it is after the decision, in the columns of `stand`, `shared`
-- only if a request is not granted; and arrays with an element for each request. known: NULL if the id was new,
-- otherwise whether the key that it holds or held, or was abandoned for, is this one; granted_fence and
-- granted_expires_at_ms: the grant, if one was made. It returns no row if the statement is not in its own
-- transaction. It fails as `acquire` does if the fence counter cannot be increased by the number of grants, or
-- if an id was abandoned meanwhile. Then nothing is granted to any of the requests.
--
-- Invariant: a shared grant is decided and written under the advisory lock of the key, as an exclusive grant
-- is, on the latest version of the key's row, which is locked.
--
-- Each statement of the function has a snapshot of its own. The first look is without locks, so that requests
-- that are refused write nothing and wait for no one. The second look is under the advisory lock. From then on
-- no other client makes or extends a grant of the key. Exclusive releases and forced releases do without the
-- advisory lock. They only delete the row, and the lock on the row orders them. The requests are admitted in
-- their order, as many as there are permits, and their fences are consecutive.
--
-- Locks are taken in the order of all statements of shared mode: the advisory lock of the key, the row of the
-- key (the head), the row of the counter, the rows of the ids (the members). No client that has a later one waits
-- for an earlier one, so no two of them wait for each other. Of the members, none waits for another: requests
-- for one key take turns by its advisory lock, and so does an abandon of one of their ids. If an id is asked for
-- under several keys, which is a mistake, or abandoned under another key, a client that has inserted one member
-- may wait for the entry of another. The members are inserted in the order of their ids, so that no two clients
-- wait for each other; an abandon has one entry, and waits for nothing once it has it.
CREATE OR REPLACE FUNCTION {share}(
    in_own_transaction boolean,
    in_key text,
    in_lock_ids text[],
    in_ttls_ms bigint[],
    in_owners text[],
    in_grace_ms bigint,
    in_fence_key text,
    in_user_key text,
    in_fence_limit bigint,
    in_permits bigint,
    in_head_id text
) RETURNS TABLE (
    lock_id text,
    fence text,
    expires_at_ms bigint,
    owner text,
    notifies boolean,
    shared text,
    now_ms bigint,
    known boolean[],
    granted_fence bigint[],
    granted_expires_at_ms bigint[]
)
LANGUAGE plpgsql
AS $share$
#variable_conflict use_column
DECLARE
    seen record;
    live jsonb;
    free bigint;
    admitted bigint[];
    is_locked boolean := false;
    last_fence bigint;
    last_fence_text text;
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
            clock.now_ms,
            coalesce(locks.shared_id = locks.lock_id, false) AS is_shared,
            coalesce(locks.expires_at_ms > clock.now_ms - in_grace_ms, false) AS is_live,
            coalesce(locks.announced_until_ms > clock.now_ms, false) AS is_announced,
            locks.shared_id,
            locks.permits,
            locks.holders,
            locks.announced_by,
            locks.announced_until_ms,
            (
                SELECT array_agg(
                    (
                        SELECT coalesce(own.head_key, own.key) = in_key
                        FROM {locks} AS own
                        WHERE own.lock_id = asked.lock_id
                    ) ORDER BY asked.position
                )
                FROM unnest(in_lock_ids) WITH ORDINALITY AS asked (lock_id, position)
            ) AS known
        INTO seen
        FROM (
            SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
        ) AS clock
        LEFT JOIN {locks} AS locks ON locks.key = in_key;
        -- NULL at the first look if it is not needed there: no permits are counted.
        live := CASE
            WHEN NOT (seen.is_shared AND seen.is_live) THEN jsonb_build_object()
            WHEN is_locked OR seen.permits IS NOT NULL OR in_permits IS NOT NULL
                THEN {live}(seen.holders, seen.now_ms, in_grace_ms)
        END;
        -- NULL if any number may hold the key.
        free := CASE
            WHEN seen.is_live AND NOT seen.is_shared THEN 0
            WHEN seen.is_shared AND seen.is_announced THEN 0
            WHEN live = jsonb_build_object() THEN in_permits
            WHEN seen.permits IS DISTINCT FROM in_permits THEN 0
            WHEN in_permits IS NOT NULL
                THEN greatest(in_permits - (SELECT count(*) FROM jsonb_object_keys(live)), 0)
        END;
        admitted := ARRAY(
            SELECT asked.position
            FROM unnest(seen.known) WITH ORDINALITY AS asked (known, position)
            WHERE asked.known IS NULL
            ORDER BY asked.position
            LIMIT free
        );
        EXIT WHEN is_locked OR cardinality(admitted) = 0;
        PERFORM pg_advisory_xact_lock(hashtext(in_key));
        PERFORM FROM {locks} AS locks WHERE locks.key = in_key FOR UPDATE;
        is_locked := true;
    END LOOP;

    IF cardinality(admitted) > 0 THEN
        -- As in `acquire`, a counter that cannot be increased becomes NULL, which its column rejects.
        INSERT INTO {counters} AS counters (fence_key, fence, key_debug)
        SELECT
            in_fence_key,
            CASE
                WHEN length(seen.fence) <> 15 OR seen.fence ~ '[^0-9]' THEN NULL
                WHEN seen.fence::bigint > coalesce(last.fence, 0) THEN NULL
                WHEN last.fence IS NULL THEN cardinality(admitted)
                WHEN last.fence >= 0 AND last.fence <= in_fence_limit - cardinality(admitted)
                    THEN last.fence + cardinality(admitted)
            END,
            in_user_key
        FROM (SELECT) AS one
        LEFT JOIN {counters} AS last ON last.fence_key = in_fence_key
        ON CONFLICT (fence_key) DO UPDATE SET fence = excluded.fence
        WHERE counters.fence = excluded.fence - cardinality(admitted)
        RETURNING counters.fence INTO last_fence;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the counter was changed without the advisory lock of its key'
                USING ERRCODE = 'serialization_failure';
        END IF;

        SELECT
            array_agg(
                last_fence - cardinality(admitted) + turn.number ORDER BY asked.position
            ),
            array_agg(
                CASE WHEN turn.number IS NOT NULL THEN seen.now_ms + asked.ttl_ms END
                ORDER BY asked.position
            )
        INTO granted_fence, granted_expires_at_ms
        FROM unnest(in_ttls_ms) WITH ORDINALITY AS asked (ttl_ms, position)
        LEFT JOIN unnest(admitted) WITH ORDINALITY AS turn (position, number)
            ON turn.position = asked.position;
        last_fence_text := lpad(last_fence::text, 15, '0');
        head_id := CASE WHEN seen.is_shared THEN seen.lock_id ELSE in_head_id END;
        INSERT INTO {locks} AS locks (
            key, lock_id, expires_at_ms, acquired_at_ms, fence, user_key, owner_lock_id,
            shared_id, permits, holders
        )
        SELECT
            in_key,
            head_id,
            -- The row of a key expires with the last of its holders.
            greatest(
                max(asked.expires_at_ms),
                CASE WHEN live <> jsonb_build_object() THEN seen.expires_at_ms END
            ),
            seen.now_ms,
            last_fence_text,
            in_user_key,
            head_id,
            head_id,
            in_permits,
            live || jsonb_object_agg(asked.lock_id, jsonb_strip_nulls(jsonb_build_object(
                'fence', lpad(asked.fence::text, 15, '0'),
                'acquired_at_ms', seen.now_ms,
                'expires_at_ms', asked.expires_at_ms,
                'owner', nullif(asked.owner, '')
            )))
        FROM unnest(in_lock_ids, granted_fence, granted_expires_at_ms, in_owners)
            AS asked (lock_id, fence, expires_at_ms, owner)
        WHERE asked.fence IS NOT NULL
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
        WHERE locks.lock_id = seen.lock_id
        RETURNING locks.holders INTO live;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the lock was changed without the advisory lock of its key'
                USING ERRCODE = 'serialization_failure';
        END IF;

        INSERT INTO {locks} (
            key, lock_id, expires_at_ms, acquired_at_ms, fence, user_key, head_key
        )
        SELECT
            'shared:' || asked.lock_id || ':' || repeat('.', {max_key_bytes}),
            asked.lock_id,
            0,
            seen.now_ms,
            lpad(asked.fence::text, 15, '0'),
            in_user_key,
            in_key
        FROM unnest(in_lock_ids, granted_fence) AS asked (lock_id, fence)
        WHERE asked.fence IS NOT NULL
        ORDER BY asked.lock_id;

        -- A request that finds no permit left is refused by those that were admitted before it.
        seen.lock_id := head_id;
        seen.shared_id := head_id;
        seen.permits := in_permits;
        seen.holders := live;
        seen.announced_by := NULL;
        seen.announced_until_ms := NULL;
    END IF;
    IF cardinality(admitted) < cardinality(in_lock_ids) THEN
        SELECT {shared} INTO shared FROM (
            SELECT
                seen.lock_id,
                seen.shared_id,
                seen.permits,
                seen.holders,
                seen.announced_by,
                seen.announced_until_ms
        ) AS locks;
    END IF;
    lock_id := seen.lock_id;
    fence := seen.fence;
    expires_at_ms := seen.expires_at_ms;
    owner := seen.owner;
    notifies := seen.notifies;
    now_ms := seen.now_ms;
    known := seen.known;
    RETURN NEXT;
END
$share$;

GRANT EXECUTE ON FUNCTION {share} TO PUBLIC;
