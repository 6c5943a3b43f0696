-- One row is one turn as it stands: the turn's event with the highest seq wins, in whatever order
-- batches come. Filled by a view from the turn.* events, each of which carries the whole turn.
--
-- Not partitioned: the time of a turn's events moves, and its rows must meet to be replaced.
CREATE TABLE IF NOT EXISTS turns
(
    tenant_id LowCardinality(String),
    session_id String CODEC(ZSTD(1)),
    turn_id String CODEC(ZSTD(1)),
    user_id String CODEC(ZSTD(1)),
    status LowCardinality(String),
    submitted_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    started_at Nullable(DateTime64(6, 'UTC')) CODEC(Delta, ZSTD(1)),
    first_token_at Nullable(DateTime64(6, 'UTC')) CODEC(Delta, ZSTD(1)),
    ended_at Nullable(DateTime64(6, 'UTC')) CODEC(Delta, ZSTD(1)),
    attempts UInt16 CODEC(ZSTD(1)),
    input_tokens UInt64 CODEC(ZSTD(1)),
    output_tokens UInt64 CODEC(ZSTD(1)),
    cache_read_tokens UInt64 CODEC(ZSTD(1)),
    cache_write_tokens UInt64 CODEC(ZSTD(1)),
    cost_usd Decimal(18, 6) CODEC(ZSTD(1)),
    tool_calls UInt32 CODEC(ZSTD(1)),
    stop_reason LowCardinality(String),
    error_type LowCardinality(String),
    trace_id String CODEC(ZSTD(1)),
    seq UInt64 CODEC(ZSTD(1)),
    updated_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    INDEX by_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ReplacingMergeTree(seq)
ORDER BY (tenant_id, session_id, turn_id);

CREATE MATERIALIZED VIEW IF NOT EXISTS turns_from_events TO turns AS
SELECT
    tenant_id,
    session_id,
    if(turn_id != '', turn_id, turn.turn_id) AS turn_id,
    user_id,
    turn.status AS status,
    coalesce(parseDateTime64BestEffortOrNull(turn.submitted_at, 6, 'UTC'), at) AS submitted_at,
    parseDateTime64BestEffortOrNull(turn.started_at, 6, 'UTC') AS started_at,
    parseDateTime64BestEffortOrNull(turn.first_token_at, 6, 'UTC') AS first_token_at,
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
