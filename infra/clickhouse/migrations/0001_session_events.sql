-- One row is one event of a session, as it was published on turnstile.events.v1.
--
-- The recorder inserts the values of Kafka as they are (JSONEachRow); what can be read out of `data`
-- is read out here, so that no Python touches a row. Each of those columns looks only at the types
-- that carry its value: everything else costs no parse.
--
-- A repeat has the same tenant, session and seq, and the same `at`, so it lands in the same
-- partition and the last one inserted stays. No deduplication of blocks: ADR 0016.
CREATE TABLE IF NOT EXISTS session_events
(
    tenant_id LowCardinality(String),
    session_id String CODEC(ZSTD(1)),
    seq UInt64 CODEC(Delta, ZSTD(1)),
    event_id String CODEC(ZSTD(1)),
    type LowCardinality(String),
    turn_id String CODEC(ZSTD(1)),
    user_id String CODEC(ZSTD(1)),
    thread_id String CODEC(ZSTD(1)),
    at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    recorded_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    model LowCardinality(String),
    -- The object's own bytes, neither parsed nor written anew.
    data String CODEC(ZSTD(1)),
    -- The engine's JSON reader refuses a text with half a surrogate pair, which a cut emoji leaves
    -- behind; such a text is read with its surrogates replaced.
    provider_event_id String DEFAULT multiIf(
        type LIKE 'turn.%', '',
        type IN ('session.opened', 'session.rotated', 'session.idled', 'session.archived', 'session.erased'), '',
        isValidJSON(data), JSONExtractString(data, 'id'),
        JSONExtractString(replaceRegexpAll(data, '\\\\u[dD][89a-fA-F][0-9a-fA-F]{2}', '?'), 'id')
    ) CODEC(ZSTD(1)),
    input_tokens UInt32 DEFAULT if(type = 'span.model_request_end', JSONExtractUInt(data, 'model_usage', 'input_tokens'), 0) CODEC(ZSTD(1)),
    output_tokens UInt32 DEFAULT if(type = 'span.model_request_end', JSONExtractUInt(data, 'model_usage', 'output_tokens'), 0) CODEC(ZSTD(1)),
    cache_read_tokens UInt32 DEFAULT if(type = 'span.model_request_end', JSONExtractUInt(data, 'model_usage', 'cache_read_input_tokens'), 0) CODEC(ZSTD(1)),
    cache_write_tokens UInt32 DEFAULT if(type = 'span.model_request_end', JSONExtractUInt(data, 'model_usage', 'cache_creation_input_tokens'), 0) CODEC(ZSTD(1)),
    -- Only the event that ends a turn carries its cost: a sum over events counts each turn once.
    cost_usd Decimal(18, 6) DEFAULT if(
        type IN ('turn.completed', 'turn.interrupted', 'turn.refused', 'turn.failed'),
        toDecimal64OrZero(trim(BOTH '"' FROM JSONExtractRaw(data, 'cost_usd')), 6),
        toDecimal64(0, 6)
    ) CODEC(ZSTD(1)),
    tool_name LowCardinality(String) DEFAULT multiIf(
        type NOT IN ('agent.tool_use', 'agent.mcp_tool_use', 'agent.custom_tool_use'), '',
        isValidJSON(data), JSONExtractString(data, 'name'),
        JSONExtractString(replaceRegexpAll(data, '\\\\u[dD][89a-fA-F][0-9a-fA-F]{2}', '?'), 'name')
    ),
    is_error Bool DEFAULT multiIf(
        position(data, '"is_error"') = 0, false,
        isValidJSON(data), JSONExtractBool(data, 'is_error'),
        JSONExtractBool(replaceRegexpAll(data, '\\\\u[dD][89a-fA-F][0-9a-fA-F]{2}', '?'), 'is_error')
    ),
    INDEX by_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (tenant_id, session_id, seq)
-- Reading one session touches a granule or two: half the usual size, since rows are large.
-- A month that nobody has written to for a day is merged into one part, as far as merges may be large (150 GB):
-- FINAL has nothing to do there and costs what the raw read does.
SETTINGS index_granularity = 4096,
    min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1,
    enable_max_bytes_limit_for_min_age_to_force_merge = 1;
