-- A session that was archived because no turn came for long, or because it has its result, takes turns again: it is
-- `archived` until then, and not closed for good.
ALTER TABLE session_days_from_events MODIFY QUERY
SELECT
    tenant_id,
    session_id,
    day,
    max(of_user) AS user_id,
    minOrNullIf(moment, type = 'session.opened') AS opened_at,
    min(moment) AS first_at,
    max(moment) AS at,
    max(seq) AS last_seq,
    max((state IN ('archived', 'erased') AND NOT resumable, if(state = '', 0, seq), state)) AS status,
    groupBitmapState(seq) AS seqs
FROM
(
    SELECT
        tenant_id, session_id, seq, type, user_id AS of_user, at AS moment, toDate(at) AS day,
        type = 'session.archived' AND JSONExtractString(data, 'reason') IN ('idle', 'done') AS resumable,
        multiIf(
            type = 'session.archived', 'archived',
            type = 'session.erased', 'erased',
            type = 'turn.requires_action', 'requires_action',
            type IN ('turn.started', 'turn.retrying') OR (type = 'session.status_running' AND turn_id != ''), 'running',
            type IN ('session.opened', 'session.idled', 'turn.completed', 'turn.interrupted', 'turn.failed'), 'idle',
            ''
        ) AS state
    FROM session_events
)
GROUP BY tenant_id, session_id, day;
