-- Events `after` + 1 to `until` of one session as a client of a stream gets them, each one record (`id`, `event`,
-- `data`, an empty line) with the event's JSON as it was on the log.
--
-- It ends before the first event that is missing: the number of a row beyond a gap is not that of its place. An event
-- with a name that JSON would have to escape is left out as if it were missing. No name of ours or the provider's
-- is such a one; writing them all so that any could be costs an eighth of this query.
SELECT
    concat(
        'id: ', toString(seq),
        '\nevent: ', type,
        '\ndata: {"tenant_id":', toJSONString({tenant_id:String}),
        ',"session_id":', toJSONString({session_id:String}),
        ',"seq":', toString(seq),
        ',"event_id":"', event_id,
        '","type":"', type,
        '","turn_id":', if(turn_id = '', 'null', concat('"', turn_id, '"')),
        ',"at":"', replaceOne(toString(at), ' ', 'T'),
        'Z","user_id":"', user_id,
        '","thread_id":', if(thread_id = '', 'null', concat('"', thread_id, '"')),
        ',"model":', if(model = '', 'null', concat('"', model, '"')),
        ',"trace_id":"', trace_id,
        '","data":'
    ),
    -- A line break between tokens would end the record's line; inside strings there is none.
    if(position(data, '\n') = 0 AND position(data, '\r') = 0, data, translate(data, '\r\n', '  ')),
    '}\n\n'
FROM
(
    SELECT
        seq, event_id, type, turn_id, at, user_id, thread_id, model, trace_id, data,
        concat(event_id, type, turn_id, user_id, thread_id, model, trace_id) AS names
    FROM events
    WHERE tenant_id = {tenant_id:String}
      AND session_id = {session_id:String}
      AND seq > {after:UInt64}
      AND seq <= {until:UInt64}
      AND length(toJSONString(names)) = length(names) + 2
    ORDER BY seq ASC
)
WHERE seq = {after:UInt64} + 1 + rowNumberInAllBlocks()
-- Columns one after the other, with nothing in between.
FORMAT RawBLOB
