-- One row is one model request, filled from `span.model_request_start` and `span.model_request_end`.
-- Its id is that of the start; an end that names no start has its own.
CREATE TABLE IF NOT EXISTS model_requests
(
    tenant_id LowCardinality(String),
    session_id String CODEC(ZSTD(1)),
    request_id String CODEC(ZSTD(1)),
    turn_id SimpleAggregateFunction(max, String) CODEC(ZSTD(1)),
    user_id SimpleAggregateFunction(max, String) CODEC(ZSTD(1)),
    thread_id SimpleAggregateFunction(max, String) CODEC(ZSTD(1)),
    model SimpleAggregateFunction(max, LowCardinality(String)),
    started_at SimpleAggregateFunction(min, Nullable(DateTime64(6, 'UTC'))) CODEC(ZSTD(1)),
    ended_at SimpleAggregateFunction(max, Nullable(DateTime64(6, 'UTC'))) CODEC(ZSTD(1)),
    input_tokens SimpleAggregateFunction(max, UInt32) CODEC(ZSTD(1)),
    output_tokens SimpleAggregateFunction(max, UInt32) CODEC(ZSTD(1)),
    cache_read_tokens SimpleAggregateFunction(max, UInt32) CODEC(ZSTD(1)),
    cache_write_tokens SimpleAggregateFunction(max, UInt32) CODEC(ZSTD(1)),
    is_error SimpleAggregateFunction(max, Bool),
    trace_id SimpleAggregateFunction(max, String) CODEC(ZSTD(1)),
    at SimpleAggregateFunction(max, DateTime64(6, 'UTC')) CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
ORDER BY (tenant_id, session_id, request_id);

CREATE MATERIALIZED VIEW IF NOT EXISTS model_requests_from_events TO model_requests AS
SELECT
    tenant_id,
    session_id,
    if(begins OR start_id = '', if(provider_event_id != '', provider_event_id, event_id), start_id) AS request_id,
    turn_id,
    user_id,
    thread_id,
    model,
    if(begins, at, NULL) AS started_at,
    if(begins, NULL, at) AS ended_at,
    input_tokens,
    output_tokens,
    cache_read_tokens,
    cache_write_tokens,
    is_error,
    trace_id,
    at
FROM
(
    SELECT
        tenant_id, session_id, event_id, turn_id, user_id, thread_id, at, trace_id, model,
        provider_event_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, is_error,
        type = 'span.model_request_start' AS begins,
        if(begins, '', JSONExtractString(data, 'model_request_start_id')) AS start_id
    FROM session_events
    WHERE type IN ('span.model_request_start', 'span.model_request_end')
);

-- When did the agent put something out? One row is one turn on one thread, with the times of its messages,
-- thoughts and tool calls: a set, so that a repeat adds nothing. Times of requests lie between them.
CREATE TABLE IF NOT EXISTS agent_outputs
(
    tenant_id LowCardinality(String),
    session_id String CODEC(ZSTD(1)),
    turn_id String CODEC(ZSTD(1)),
    thread_id String CODEC(ZSTD(1)),
    user_id SimpleAggregateFunction(max, String) CODEC(ZSTD(1)),
    times SimpleAggregateFunction(groupUniqArrayArray, Array(DateTime64(6, 'UTC'))) CODEC(ZSTD(1)),
    at SimpleAggregateFunction(max, DateTime64(6, 'UTC')) CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
ORDER BY (tenant_id, session_id, turn_id, thread_id);

CREATE MATERIALIZED VIEW IF NOT EXISTS agent_outputs_from_events TO agent_outputs AS
SELECT tenant_id, session_id, turn_id, thread_id, user_id, [at] AS times, at
FROM session_events
WHERE type IN (
    'agent.message', 'agent.thinking', 'agent.tool_use', 'agent.mcp_tool_use', 'agent.custom_tool_use'
);

-- The first token's time is that of the first output the request made: the provider records a message or
-- a thought when it is complete, so this is the latest the first token can have come.
CREATE VIEW IF NOT EXISTS model_request_facts AS
SELECT
    r.tenant_id AS tenant_id,
    r.session_id AS session_id,
    CAST(r.turn_id, 'String') AS turn_id,
    CAST(r.user_id, 'String') AS user_id,
    CAST(r.thread_id, 'String') AS thread_id,
    r.request_id AS request_id,
    CAST(r.model, 'LowCardinality(String)') AS model,
    CAST(r.started_at, 'Nullable(DateTime64(6, \'UTC\'))') AS started_at,
    CAST(r.ended_at, 'Nullable(DateTime64(6, \'UTC\'))') AS ended_at,
    dateDiff('microsecond', r.started_at, r.ended_at) / 1e6 AS seconds,
    CAST(r.input_tokens, 'UInt32') AS input_tokens,
    CAST(r.output_tokens, 'UInt32') AS output_tokens,
    CAST(r.cache_read_tokens, 'UInt32') AS cache_read_tokens,
    CAST(r.cache_write_tokens, 'UInt32') AS cache_write_tokens,
    if(
        r.input_tokens + r.cache_read_tokens + r.cache_write_tokens = 0,
        NULL,
        r.cache_read_tokens / (r.input_tokens + r.cache_read_tokens + r.cache_write_tokens)
    ) AS cache_hit_rate,
    if(
        arrayExists(t -> t >= r.started_at AND t <= r.ended_at, o.times),
        dateDiff('microsecond', r.started_at, arrayMin(arrayFilter(t -> t >= r.started_at, o.times))) / 1e6,
        NULL
    ) AS first_token_seconds,
    CAST(r.is_error, 'Bool') AS is_error,
    CAST(r.trace_id, 'String') AS trace_id
FROM (SELECT * FROM model_requests FINAL) AS r
LEFT ANY JOIN (SELECT tenant_id, session_id, turn_id, thread_id, times FROM agent_outputs FINAL) AS o
ON r.tenant_id = o.tenant_id AND r.session_id = o.session_id AND r.turn_id = o.turn_id AND r.thread_id = o.thread_id;
