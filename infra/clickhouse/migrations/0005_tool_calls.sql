-- One row is one tool call of an agent, filled from the event that makes it and those that answer it,
-- in whatever order and however often they come: every column is a minimum or a maximum.
--
-- The first answer by seq counts; a later one changes nothing, as at the provider. A row without
-- `called_at` is an answer whose call was never recorded: the view leaves it out.
CREATE TABLE IF NOT EXISTS tool_calls
(
    tenant_id LowCardinality(String),
    session_id String CODEC(ZSTD(1)),
    tool_use_id String CODEC(ZSTD(1)),
    turn_id SimpleAggregateFunction(max, String) CODEC(ZSTD(1)),
    user_id SimpleAggregateFunction(max, String) CODEC(ZSTD(1)),
    thread_id SimpleAggregateFunction(max, String) CODEC(ZSTD(1)),
    kind SimpleAggregateFunction(max, LowCardinality(String)),
    tool_name SimpleAggregateFunction(max, LowCardinality(String)),
    called_at SimpleAggregateFunction(min, Nullable(DateTime64(6, 'UTC'))) CODEC(ZSTD(1)),
    answer SimpleAggregateFunction(min, Tuple(seq UInt64, at DateTime64(6, 'UTC'), is_error Bool)) CODEC(ZSTD(1)),
    trace_id SimpleAggregateFunction(max, String) CODEC(ZSTD(1)),
    at SimpleAggregateFunction(max, DateTime64(6, 'UTC')) CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
ORDER BY (tenant_id, session_id, tool_use_id);

CREATE MATERIALIZED VIEW IF NOT EXISTS tool_calls_from_events TO tool_calls AS
SELECT
    tenant_id,
    session_id,
    multiIf(
        called, if(provider_event_id != '', provider_event_id, event_id),
        answers.1 != '', answers.1,
        answers.2 != '', answers.2,
        answers.3
    ) AS tool_use_id,
    if(called, turn_id, '') AS turn_id,
    user_id,
    if(NOT called, '', if(thread_id != '', thread_id, JSONExtractString(readable, 'session_thread_id'))) AS thread_id,
    transform(
        type,
        ['agent.tool_use', 'agent.mcp_tool_use', 'agent.custom_tool_use'],
        ['builtin', 'mcp', 'custom'],
        ''
    ) AS kind,
    tool_name,
    if(called, at, NULL) AS called_at,
    -- What is no answer is later than all answers.
    if(
        called,
        (18446744073709551615, toDateTime64(0, 6, 'UTC'), false),
        (seq, at, is_error)
    ) AS answer,
    if(called, trace_id, '') AS trace_id,
    at
FROM
(
    SELECT
        tenant_id, session_id, seq, event_id, type, turn_id, user_id, thread_id, at, trace_id,
        provider_event_id, tool_name, is_error,
        type IN ('agent.tool_use', 'agent.mcp_tool_use', 'agent.custom_tool_use') AS called,
        if(isValidJSON(data), data, replaceRegexpAll(data, '\\\\u[dD][89a-fA-F][0-9a-fA-F]{2}', '?')) AS readable,
        if(
            called,
            ('', '', ''),
            JSONExtract(readable, 'Tuple(tool_use_id String, custom_tool_use_id String, mcp_tool_use_id String)')
        ) AS answers
    FROM session_events
    WHERE type IN (
        'agent.tool_use', 'agent.mcp_tool_use', 'agent.custom_tool_use',
        'agent.tool_result', 'agent.mcp_tool_result', 'user.tool_result', 'user.custom_tool_result'
    )
)
WHERE tool_use_id != '';

-- The casts take the aggregate functions out of the types that readers see.
--
-- `answer` is read as a whole here: an element of it, read by itself (`answer.seq`), is a column without the
-- aggregate function to FINAL, which then takes any row's.
CREATE VIEW IF NOT EXISTS tool_call_facts AS
WITH identity(answer) AS first_answer
SELECT
    tenant_id,
    session_id,
    CAST(turn_id, 'String') AS turn_id,
    CAST(user_id, 'String') AS user_id,
    CAST(thread_id, 'String') AS thread_id,
    tool_use_id,
    CAST(kind, 'LowCardinality(String)') AS kind,
    CAST(tool_name, 'LowCardinality(String)') AS tool_name,
    assumeNotNull(called_at) AS called_at,
    if(answered, tupleElement(first_answer, 'at'), NULL) AS answered_at,
    if(answered, dateDiff('microsecond', called_at, tupleElement(first_answer, 'at')) / 1e6, NULL) AS seconds,
    answered AND tupleElement(first_answer, 'is_error') AS is_error,
    CAST(tupleElement(first_answer, 'seq') != 18446744073709551615, 'Bool') AS answered,
    CAST(trace_id, 'String') AS trace_id
FROM tool_calls FINAL
WHERE isNotNull(tool_calls.called_at);
