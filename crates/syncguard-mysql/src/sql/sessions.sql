-- Names sessions of this user, or of all where it may see them.
--
-- In:  $1 which: CONNECTION_ID() for that of the connection, ID for all
-- Out: rows: id, host: the client's end of the connection
SELECT CAST(ID AS SIGNED) AS id, HOST AS host
FROM information_schema.PROCESSLIST
WHERE ID = $1
