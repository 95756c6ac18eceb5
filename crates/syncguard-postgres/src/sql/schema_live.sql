-- Creates the function that selects the live holders of a key in shared mode.
--
-- In:  nothing
-- Out: nothing
--
-- The function returns the holders whose expiry and grace have not passed. Holders that cannot be read are an
-- error, so that nothing is granted beside them.
--
-- Mostly all holders are live. One pass then shows it, and the argument is returned as it is. In the path, a
-- comparison with what is missing or is not a number is unknown.
CREATE OR REPLACE FUNCTION {live}(in_holders jsonb, in_now_ms bigint, in_grace_ms bigint)
RETURNS jsonb
LANGUAGE plpgsql
AS $live$
BEGIN
    IF jsonb_typeof(in_holders) = 'object' AND NOT jsonb_path_exists(
        in_holders,
        'strict $.* ? (!(@.expires_at_ms > $past) || (@.expires_at_ms > $past) is unknown)',
        jsonb_build_object('past', in_now_ms - in_grace_ms)
    ) THEN
        RETURN in_holders;
    END IF;
    IF jsonb_typeof(in_holders) IS DISTINCT FROM 'object' OR EXISTS (
        SELECT
        FROM jsonb_each(in_holders) AS holder
        WHERE jsonb_typeof(holder.value -> 'expires_at_ms') IS DISTINCT FROM 'number'
    ) THEN
        RAISE EXCEPTION 'the stored holders cannot be read' USING ERRCODE = 'data_exception';
    END IF;
    RETURN (
        SELECT coalesce(jsonb_object_agg(holder.key, holder.value), jsonb_build_object())
        FROM jsonb_each(in_holders) AS holder
        WHERE (holder.value -> 'expires_at_ms')::bigint > in_now_ms - in_grace_ms
    );
END
$live$;

GRANT EXECUTE ON FUNCTION {live} TO PUBLIC;
