-- Lists sessions of this user, or of all users if it may see them.
--
-- In:  $1 which: CONNECTION_ID() for the session of the connection, ID for all sessions
-- Out: rows: id, host: the client's end of the connection
SELECT CAST(ID AS SIGNED) AS id, HOST AS host
FROM information_schema.PROCESSLIST
WHERE ID = $1
