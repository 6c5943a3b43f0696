-- No duration is below zero: events of before may have a publisher's clock at one end, and a clock can be set back.
CREATE OR REPLACE VIEW turn_facts AS
SELECT
    tenant_id, session_id, turn_id, user_id, status, submitted_at, started_at, first_token_at,
    ended_at, attempts, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    cost_usd, tool_calls, stop_reason, error_type, trace_id, seq, updated_at,
    if(started_at < submitted_at, 0, dateDiff('microsecond', submitted_at, started_at) / 1e6) AS queue_seconds,
    if(first_token_at < submitted_at, 0, dateDiff('microsecond', submitted_at, first_token_at) / 1e6) AS first_token_seconds,
    if(ended_at < submitted_at, 0, dateDiff('microsecond', submitted_at, ended_at) / 1e6) AS total_seconds
FROM turns FINAL;

CREATE OR REPLACE VIEW tool_call_facts AS
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
    if(answered, greatest(0, dateDiff('microsecond', called_at, tupleElement(first_answer, 'at'))) / 1e6, NULL) AS seconds,
    answered AND tupleElement(first_answer, 'is_error') AS is_error,
    CAST(tupleElement(first_answer, 'seq') != 18446744073709551615, 'Bool') AS answered,
    CAST(trace_id, 'String') AS trace_id
FROM tool_calls FINAL
WHERE isNotNull(tool_calls.called_at);

CREATE OR REPLACE VIEW model_request_facts AS
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
    if(r.ended_at < r.started_at, 0, dateDiff('microsecond', r.started_at, r.ended_at) / 1e6) AS seconds,
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
