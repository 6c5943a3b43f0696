-- Events `after` + 1 to `until` of one session as a client of a stream gets them, each one record (`id`, `event`,
-- `data`, an empty line) with the event's JSON as it was on the log. It ends before the first event that is missing:
-- the number of a row beyond a gap is not that of its place.
--
-- `text` writes what msgspec does. toJSONString differs from it in control characters and two separators, which
-- names hardly ever have: then the text is longer by more than its quotes.
WITH
    (s -> if(
        length(toJSONString(s)) = length(s) + 2,
        toJSONString(s),
        concat('"', arrayStringConcat(arrayMap(c -> multiIf(
            c = '"', '\\"', c = '\\', '\\\\', c = '\b', '\\b', c = '\t', '\\t', c = '\n', '\\n', c = '\f', '\\f',
            c = '\r', '\\r', c < ' ', concat('\\u00', lower(hex(c))), c
        ), splitByString('', s))), '"')
    )) AS text
SELECT
    concat(
        'id: ', toString(seq),
        '\nevent: ', translate(toString(type), '\r\n', '  '),
        '\ndata: {"tenant_id":', text({tenant_id:String}),
        ',"session_id":', text({session_id:String}),
        ',"seq":', toString(seq),
        ',"event_id":', text(event_id),
        ',"type":', text(toString(type)),
        ',"turn_id":', if(turn_id = '', 'null', text(turn_id)),
        ',"at":"', replaceOne(toString(at), ' ', 'T'),
        'Z","user_id":', text(user_id),
        ',"thread_id":', if(thread_id = '', 'null', text(thread_id)),
        ',"model":', if(model = '', 'null', text(toString(model))),
        ',"trace_id":', text(trace_id),
        ',"data":'
    ),
    -- A line break between tokens would end the record's line; inside strings there is none.
    if(position(data, '\n') = 0 AND position(data, '\r') = 0, data, translate(data, '\r\n', '  ')),
    '}\n\n'
FROM
(
    SELECT seq, event_id, type, turn_id, at, user_id, thread_id, model, trace_id, data
    FROM events
    WHERE tenant_id = {tenant_id:String}
      AND session_id = {session_id:String}
      AND seq > {after:UInt64}
      AND seq <= {until:UInt64}
    ORDER BY seq ASC
)
WHERE seq = {after:UInt64} + 1 + rowNumberInAllBlocks()
-- Columns one after the other, with nothing in between.
FORMAT RawBLOB
