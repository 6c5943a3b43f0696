-- When the first token delta came and when the agent first finished an output are two times. Turns of before knew one,
-- the second.
ALTER TABLE turns ADD COLUMN IF NOT EXISTS first_output_at Nullable(DateTime64(6, 'UTC')) DEFAULT first_token_at
    CODEC(Delta, ZSTD(1)) AFTER first_token_at;

ALTER TABLE turns_from_events MODIFY QUERY
SELECT
    tenant_id,
    session_id,
    if(turn_id != '', turn_id, turn.turn_id) AS turn_id,
    user_id,
    turn.status AS status,
    coalesce(parseDateTime64BestEffortOrNull(turn.submitted_at, 6, 'UTC'), at) AS submitted_at,
    parseDateTime64BestEffortOrNull(turn.started_at, 6, 'UTC') AS started_at,
    parseDateTime64BestEffortOrNull(turn.first_token_at, 6, 'UTC') AS first_token_at,
    parseDateTime64BestEffortOrNull(
        if(JSONHas(readable, 'first_output_at'), turn.first_output_at, turn.first_token_at), 6, 'UTC'
    ) AS first_output_at,
    parseDateTime64BestEffortOrNull(turn.ended_at, 6, 'UTC') AS ended_at,
    turn.attempts AS attempts,
    turn.usage.input_tokens AS input_tokens,
    turn.usage.output_tokens AS output_tokens,
    turn.usage.cache_read_tokens AS cache_read_tokens,
    turn.usage.cache_write_tokens AS cache_write_tokens,
    toDecimal64OrZero(trim(BOTH '"' FROM JSONExtractRaw(readable, 'cost_usd')), 6) AS cost_usd,
    turn.tool_calls AS tool_calls,
    turn.stop_reason AS stop_reason,
    turn.error.type AS error_type,
    trace_id,
    seq,
    at AS updated_at
FROM
(
    SELECT
        tenant_id,
        session_id,
        turn_id,
        user_id,
        at,
        trace_id,
        seq,
        if(isValidJSON(data), data, replaceRegexpAll(data, '\\\\u[dD][89a-fA-F][0-9a-fA-F]{2}', '?')) AS readable,
        JSONExtract(readable, 'Tuple(
            turn_id String,
            status String,
            submitted_at String,
            started_at String,
            first_token_at String,
            first_output_at String,
            ended_at String,
            attempts UInt16,
            usage Tuple(input_tokens UInt64, output_tokens UInt64, cache_read_tokens UInt64, cache_write_tokens UInt64),
            tool_calls UInt32,
            stop_reason String,
            error Tuple(type String)
        )') AS turn
    FROM session_events
    WHERE type LIKE 'turn.%'
);

CREATE OR REPLACE VIEW turn_facts AS
SELECT
    tenant_id, session_id, turn_id, user_id, status, submitted_at, started_at, first_token_at,
    first_output_at, ended_at, attempts, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    cost_usd, tool_calls, stop_reason, error_type, trace_id, seq, updated_at,
    if(started_at < submitted_at, 0, dateDiff('microsecond', submitted_at, started_at) / 1e6) AS queue_seconds,
    if(first_token_at < submitted_at, 0, dateDiff('microsecond', submitted_at, first_token_at) / 1e6) AS first_token_seconds,
    if(first_output_at < submitted_at, 0, dateDiff('microsecond', submitted_at, first_output_at) / 1e6) AS first_output_seconds,
    if(ended_at < submitted_at, 0, dateDiff('microsecond', submitted_at, ended_at) / 1e6) AS total_seconds
FROM turns FINAL;
