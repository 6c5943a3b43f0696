-- What each turn was given: its session's resources, and the files that its content names. One row is one of them.
--
-- `readable`: see session_events, halves of surrogate pairs. A view, since few turns have any.
CREATE VIEW IF NOT EXISTS turn_resources AS
SELECT
    tenant_id,
    session_id,
    turn_id,
    user_id,
    coalesce(parseDateTime64BestEffortOrNull(JSONExtractString(readable, 'submitted_at'), 6, 'UTC'), at) AS submitted_at,
    JSONExtractString(resource, 'type') AS kind,
    coalesce(
        nullIf(JSONExtractString(resource, 'file_id'), ''),
        nullIf(JSONExtractString(resource, 'memory_store_id'), ''),
        JSONExtractString(resource, 'url')
    ) AS resource_id,
    JSONExtractString(resource, 'mount_path') AS mount_path,
    if(
        JSONHas(resource, 'checkout', 'sha'),
        JSONExtractString(resource, 'checkout', 'sha'),
        JSONExtractString(resource, 'checkout', 'name')
    ) AS checkout,
    if(kind = 'memory_store', coalesce(nullIf(JSONExtractString(resource, 'access'), ''), 'read_write'), '') AS access,
    CAST(kind = 'file' AND mount_path = '', 'Bool') AS in_content,
    trace_id
FROM
(
    SELECT
        tenant_id, session_id, turn_id, user_id, at, trace_id,
        if(isValidJSON(data), data, replaceRegexpAll(data, '\\\\u[dD][89a-fA-F][0-9a-fA-F]{2}', '?')) AS readable,
        arrayJoin(JSONExtractArrayRaw(readable, 'resources')) AS resource
    FROM events
    WHERE type = 'turn.accepted'
);
