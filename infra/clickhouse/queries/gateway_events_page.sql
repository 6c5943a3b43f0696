-- Events `after` + 1 to `after` + `limit` of one session, in order, about `max_bytes` of data at most.
-- The columns are those of an event on the log, so that a client gets the same JSON from either.
SELECT
    seq, event_id, type, turn_id, toString(at), user_id, thread_id, model, trace_id, data
FROM
(
    SELECT
        *,
        sum(length(data)) OVER (ORDER BY seq ASC) - length(data) AS bytes_before
    FROM
    (
        SELECT seq, event_id, type, turn_id, at, user_id, thread_id, model, trace_id, data
        FROM events
        WHERE tenant_id = {tenant_id:String}
          AND session_id = {session_id:String}
          AND seq > {after:UInt64}
          -- Numbers have no gaps: without this bound each page would read the rest of the session.
          AND seq <= {after:UInt64} + {limit:UInt64}
        ORDER BY seq ASC
        LIMIT {limit:UInt64}
    )
)
WHERE bytes_before < {max_bytes:UInt64}
ORDER BY seq ASC
FORMAT JSONCompactEachRow
