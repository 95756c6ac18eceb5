-- Drops the functions of these names that have other signatures, such as another version creates. Beside them, the
-- name alone would be ambiguous.
--
-- In:  nothing
-- Out: nothing
--
-- The functions of this version stay, so that clients that run meanwhile are not affected. No one who calls a
-- function locks it, so this waits for no one.
DO $stale$
DECLARE
    stale text;
BEGIN
    FOR stale IN
        SELECT pg_proc.oid::regprocedure
        FROM pg_proc
        JOIN unnest({functions}) AS signature
            ON split_part(signature, '(', 1) = '"' || pg_proc.proname || '"'
        WHERE pg_proc.pronamespace = current_schema()::regnamespace
            AND pg_proc.oid IS DISTINCT FROM to_regprocedure(signature)::oid
    LOOP
        EXECUTE 'DROP FUNCTION ' || stale;
    END LOOP;
END
$stale$;

