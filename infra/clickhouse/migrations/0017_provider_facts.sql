-- Outcomes, child threads, workflow runs, and what changed in a session: views of the events, since they are few
-- beside the rest. Each is right whatever is repeated: all columns are minima, maxima and sets.
--
-- `readable`: see session_events, halves of surrogate pairs.
CREATE VIEW IF NOT EXISTS outcome_facts AS
SELECT
    e.tenant_id AS tenant_id,
    e.session_id AS session_id,
    e.turn_id AS turn_id,
    e.user_id AS user_id,
    e.outcome_id AS outcome_id,
    e.iteration AS iteration,
    d.description AS description,
    d.max_iterations AS max_iterations,
    e.started_at AS started_at,
    e.last_seen_at AS last_seen_at,
    e.ended_at AS ended_at,
    if(e.started_at IS NULL, NULL, dateDiff('microsecond', e.started_at, e.ended_at) / 1e6) AS seconds,
    e.result AS result,
    e.explanation AS explanation,
    e.input_tokens AS input_tokens,
    e.output_tokens AS output_tokens,
    e.trace_id AS trace_id
FROM
(
    SELECT
        tenant_id,
        session_id,
        JSONExtractString(readable, 'outcome_id') AS outcome_id,
        toUInt32(JSONExtractUInt(readable, 'iteration')) AS iteration,
        max(turn_id) AS turn_id,
        max(user_id) AS user_id,
        minOrNullIf(at, type = 'span.outcome_evaluation_start') AS started_at,
        max(at) AS last_seen_at,
        maxOrNullIf(at, type = 'span.outcome_evaluation_end') AS ended_at,
        max(JSONExtractString(readable, 'result')) AS result,
        max(JSONExtractString(readable, 'explanation')) AS explanation,
        max(JSONExtractUInt(readable, 'usage', 'input_tokens')) AS input_tokens,
        max(JSONExtractUInt(readable, 'usage', 'output_tokens')) AS output_tokens,
        max(trace_id) AS trace_id
    FROM
    (
        SELECT
            tenant_id, session_id, turn_id, user_id, type, at, trace_id,
            if(isValidJSON(data), data, replaceRegexpAll(data, '\\\\u[dD][89a-fA-F][0-9a-fA-F]{2}', '?')) AS readable
        FROM session_events
        WHERE type IN (
            'span.outcome_evaluation_start', 'span.outcome_evaluation_ongoing', 'span.outcome_evaluation_end'
        )
    )
    GROUP BY tenant_id, session_id, outcome_id, iteration
) AS e
LEFT ANY JOIN
(
    SELECT
        tenant_id,
        session_id,
        JSONExtractString(readable, 'outcome_id') AS outcome_id,
        max(JSONExtractString(readable, 'description')) AS description,
        toUInt32(max(JSONExtractUInt(readable, 'max_iterations'))) AS max_iterations
    FROM
    (
        SELECT
            tenant_id, session_id,
            if(isValidJSON(data), data, replaceRegexpAll(data, '\\\\u[dD][89a-fA-F][0-9a-fA-F]{2}', '?')) AS readable
        FROM session_events
        WHERE type = 'user.define_outcome'
    )
    GROUP BY tenant_id, session_id, outcome_id
) AS d
USING (tenant_id, session_id, outcome_id);

-- One row is one child thread. Its status events are on its own log and on the primary's, under one id.
CREATE VIEW IF NOT EXISTS thread_facts AS
SELECT
    t.tenant_id AS tenant_id,
    t.session_id AS session_id,
    t.turn_id AS turn_id,
    t.user_id AS user_id,
    t.thread_id AS thread_id,
    t.agent_name AS agent_name,
    t.workflow_run_id AS workflow_run_id,
    assumeNotNull(t.created_at) AS created_at,
    t.status AS status,
    t.status_at AS status_at,
    t.runs AS runs,
    t.reschedules AS reschedules,
    t.messages_to AS messages_to,
    t.messages_from AS messages_from,
    r.requests AS requests,
    r.input_tokens AS input_tokens,
    r.output_tokens AS output_tokens,
    r.cache_read_tokens AS cache_read_tokens,
    r.cache_write_tokens AS cache_write_tokens,
    c.cost_usd AS cost_usd
FROM
(
    SELECT
        tenant_id,
        session_id,
        multiIf(
            type = 'agent.thread_message_sent', JSONExtractString(readable, 'to_session_thread_id'),
            type = 'agent.thread_message_received', JSONExtractString(readable, 'from_session_thread_id'),
            JSONExtractString(readable, 'session_thread_id')
        ) AS thread_id,
        maxIf(turn_id, created) AS turn_id,
        max(user_id) AS user_id,
        maxIf(JSONExtractString(readable, 'agent_name'), created) AS agent_name,
        maxIf(JSONExtractString(readable, 'workflow_run_id'), created) AS workflow_run_id,
        minOrNullIf(at, created) AS created_at,
        argMaxIf(replaceOne(type, 'session.thread_status_', ''), (at, seq), stands) AS status,
        maxOrNullIf(at, stands) AS status_at,
        uniqExactIf(provider_event_id, type = 'session.thread_status_running') AS runs,
        uniqExactIf(provider_event_id, type = 'session.thread_status_rescheduled') AS reschedules,
        uniqExactIf(provider_event_id, type = 'agent.thread_message_sent') AS messages_to,
        uniqExactIf(provider_event_id, type = 'agent.thread_message_received') AS messages_from
    FROM
    (
        SELECT
            tenant_id, session_id, turn_id, user_id, seq, type, at, provider_event_id,
            type = 'session.thread_created' AS created,
            type LIKE 'session.thread_status_%' AS stands,
            if(isValidJSON(data), data, replaceRegexpAll(data, '\\\\u[dD][89a-fA-F][0-9a-fA-F]{2}', '?')) AS readable
        FROM session_events
        WHERE type IN (
            'session.thread_created', 'session.thread_status_running', 'session.thread_status_idle',
            'session.thread_status_rescheduled', 'session.thread_status_terminated'
        )
        -- What a child says or hears stands on its own log too, with the primary thread's id in it.
        OR (type IN ('agent.thread_message_sent', 'agent.thread_message_received') AND thread_id = '')
    )
    GROUP BY tenant_id, session_id, thread_id
) AS t
LEFT ANY JOIN
(
    SELECT
        tenant_id, session_id, thread_id, count() AS requests,
        sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
        sum(cache_read_tokens) AS cache_read_tokens, sum(cache_write_tokens) AS cache_write_tokens
    FROM model_request_facts
    WHERE thread_id != '' AND ended_at IS NOT NULL
    GROUP BY tenant_id, session_id, thread_id
) AS r
USING (tenant_id, session_id, thread_id)
LEFT ANY JOIN
(
    SELECT tenant_id, session_id, thread_id, sum(cost_usd) AS cost_usd
    FROM cost_facts
    WHERE thread_id != ''
    GROUP BY tenant_id, session_id, thread_id
) AS c
USING (tenant_id, session_id, thread_id)
WHERE t.created_at IS NOT NULL;

CREATE VIEW IF NOT EXISTS workflow_run_facts AS
SELECT
    w.tenant_id AS tenant_id,
    w.session_id AS session_id,
    w.turn_id AS turn_id,
    w.user_id AS user_id,
    w.workflow_run_id AS workflow_run_id,
    w.name AS name,
    w.phases AS phases,
    w.phases_started AS phases_started,
    w.phases_ended AS phases_ended,
    w.created_at AS created_at,
    w.ended_at AS ended_at,
    if(w.created_at IS NULL, NULL, dateDiff('microsecond', w.created_at, w.ended_at) / 1e6) AS seconds,
    w.status AS status,
    w.result AS result,
    w.error_type AS error_type,
    w.error_message AS error_message,
    t.threads AS threads,
    t.cost_usd AS cost_usd
FROM
(
    SELECT
        tenant_id,
        session_id,
        JSONExtractString(readable, 'workflow_run_id') AS workflow_run_id,
        max(turn_id) AS turn_id,
        max(user_id) AS user_id,
        max(JSONExtractString(readable, 'name')) AS name,
        max(JSONLength(readable, 'phases')) AS phases,
        uniqExactIf(provider_event_id, type = 'workflow_run.phase_started') AS phases_started,
        uniqExactIf(provider_event_id, type = 'workflow_run.phase_ended') AS phases_ended,
        minOrNullIf(at, type = 'workflow_run.created') AS created_at,
        maxOrNullIf(at, type = 'workflow_run.status_ended') AS ended_at,
        argMaxIf(replaceOne(type, 'workflow_run.status_', ''), (at, seq), type LIKE 'workflow_run.status_%') AS status,
        max(JSONExtractString(readable, 'result', 'type')) AS result,
        max(if(type = 'workflow_run.error', JSONExtractString(readable, 'error', 'type'), '')) AS error_type,
        max(if(type = 'workflow_run.error', JSONExtractString(readable, 'error', 'message'), '')) AS error_message
    FROM
    (
        SELECT
            tenant_id, session_id, turn_id, user_id, seq, type, at, provider_event_id,
            if(isValidJSON(data), data, replaceRegexpAll(data, '\\\\u[dD][89a-fA-F][0-9a-fA-F]{2}', '?')) AS readable
        FROM session_events
        WHERE type LIKE 'workflow_run.%'
    )
    -- An error that kept a run from being created names none: `session_changes` has it.
    WHERE workflow_run_id != ''
    GROUP BY tenant_id, session_id, workflow_run_id
) AS w
LEFT ANY JOIN
(
    SELECT tenant_id, session_id, workflow_run_id, count() AS threads, sum(cost_usd) AS cost_usd
    FROM thread_facts
    WHERE workflow_run_id != ''
    GROUP BY tenant_id, session_id, workflow_run_id
) AS t
USING (tenant_id, session_id, workflow_run_id);

-- One row is one event that tells of the session itself: changed, compacted, rescheduled, in error, at its end.
CREATE VIEW IF NOT EXISTS session_changes AS
SELECT
    tenant_id, session_id, seq, turn_id, user_id, thread_id, at, type,
    if(
        type = 'session.updated',
        arrayFilter(key -> key NOT IN ('id', 'type', 'processed_at'), JSONExtractKeys(readable)),
        []
    ) AS changed,
    JSONExtractString(readable, 'error', 'type') AS error_type,
    JSONExtractString(readable, 'error', 'retry_status', 'type') AS retry_status,
    if(
        type = 'system.message',
        JSONExtractString(readable, 'content', 1, 'text'),
        JSONExtractString(readable, 'error', 'message')
    ) AS message,
    trace_id
FROM
(
    SELECT
        tenant_id, session_id, seq, turn_id, user_id, thread_id, at, type, trace_id,
        if(isValidJSON(data), data, replaceRegexpAll(data, '\\\\u[dD][89a-fA-F][0-9a-fA-F]{2}', '?')) AS readable
    FROM events
    WHERE type IN (
        'session.updated', 'session.error', 'session.status_rescheduled', 'session.status_terminated',
        'session.deleted', 'agent.thread_context_compacted', 'system.message', 'workflow_run.error'
    )
);

-- How well each version of an agent does: one row is one version on one day. A turn belongs to the agent that it was
-- last started on, and to the day on which it ended. Turns that were never started belong to none.
CREATE VIEW IF NOT EXISTS agent_version_days AS
SELECT
    t.tenant_id AS tenant_id,
    toDate(assumeNotNull(t.ended_at)) AS day,
    s.agent AS agent,
    s.agent_version AS agent_version,
    count() AS turns,
    countIf(t.status = 'completed') AS completed,
    countIf(t.status = 'interrupted') AS interrupted,
    countIf(t.status = 'refused') AS refused,
    countIf(t.status = 'failed') AS failed,
    completed / turns AS success_rate,
    sum(e.tool_errors) AS tool_errors,
    countIf(e.tool_errors > 0) AS turns_with_tool_errors,
    countIf(e.tool_errors > 0 AND t.status = 'completed') AS got_over_tool_errors,
    countIf(t.attempts > 1) AS retried,
    countIf(t.attempts > 1 AND t.status = 'completed') AS completed_when_retried,
    countIf(s.stalls > 0) AS stalled,
    countIf(s.stalls > 0 AND t.status = 'completed') AS resumed_after_stall,
    sum(t.cost_usd) AS cost_usd,
    quantileExact(0.5)(t.total_seconds) AS p50_seconds,
    quantileExact(0.95)(t.total_seconds) AS p95_seconds,
    quantileExact(0.5)(t.first_token_seconds) AS p50_first_token_seconds
FROM turn_facts AS t
INNER JOIN
(
    SELECT
        tenant_id, session_id, turn_id,
        argMaxIf(JSONExtractString(data, 'agent'), seq, type = 'turn.started') AS agent,
        argMaxIf(toUInt32(JSONExtractUInt(data, 'agent_version')), seq, type = 'turn.started') AS agent_version,
        uniqExactIf(seq, type = 'turn.stalled') AS stalls,
        countIf(type = 'turn.started') AS starts
    FROM session_events
    WHERE type IN ('turn.started', 'turn.stalled')
    GROUP BY tenant_id, session_id, turn_id
    HAVING starts > 0
) AS s
USING (tenant_id, session_id, turn_id)
LEFT ANY JOIN
(
    SELECT tenant_id, session_id, turn_id, countIf(is_error) AS tool_errors
    FROM tool_call_facts
    GROUP BY tenant_id, session_id, turn_id
) AS e
USING (tenant_id, session_id, turn_id)
WHERE t.ended_at IS NOT NULL
GROUP BY tenant_id, day, agent, agent_version;
