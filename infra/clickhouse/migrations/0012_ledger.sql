-- One row is one line of the ledger: what the session cost for one thing the provider told, in millionths of a US
-- dollar, out of the `lines` of `session.charged`. The agent-worker's table `worker_ledger` has the same rows.
CREATE TABLE IF NOT EXISTS ledger
(
    tenant_id LowCardinality(String),
    session_id String CODEC(ZSTD(1)),
    seq UInt64 CODEC(Delta, ZSTD(1)),
    line UInt32,
    at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    -- Empty for what is the session's own: it came between turns.
    turn_id String CODEC(ZSTD(1)),
    user_id String CODEC(ZSTD(1)),
    agent LowCardinality(String),
    provider_session_id String CODEC(ZSTD(1)),
    kind LowCardinality(String),
    source String CODEC(ZSTD(1)),
    thread_id String CODEC(ZSTD(1)),
    model LowCardinality(String),
    price LowCardinality(String),
    input_tokens Int64 CODEC(ZSTD(1)),
    output_tokens Int64 CODEC(ZSTD(1)),
    cache_read_tokens Int64 CODEC(ZSTD(1)),
    cache_write_tokens Int64 CODEC(ZSTD(1)),
    cache_hour_tokens Int64 CODEC(ZSTD(1)),
    active_ms Int64 CODEC(ZSTD(1)),
    micro_usd Int64 CODEC(ZSTD(1)),
    estimate Bool
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant_id, session_id, seq, line);

-- As the other tables (0011): a small part is one file, where the server knows the setting.
ALTER TABLE ledger MODIFY SETTING min_bytes_for_full_part_storage = 67108864;

CREATE MATERIALIZED VIEW IF NOT EXISTS ledger_from_events TO ledger AS
SELECT
    tenant_id,
    session_id,
    seq,
    toUInt32(place - 1) AS line,
    at,
    turn_id,
    user_id,
    agent,
    provider_session_id,
    JSONExtractString(entry, 'kind') AS kind,
    JSONExtractString(entry, 'source') AS source,
    JSONExtractString(entry, 'thread_id') AS thread_id,
    JSONExtractString(entry, 'model') AS model,
    JSONExtractString(entry, 'price') AS price,
    JSONExtractInt(entry, 'tokens', 'input_tokens') AS input_tokens,
    JSONExtractInt(entry, 'tokens', 'output_tokens') AS output_tokens,
    JSONExtractInt(entry, 'tokens', 'cache_read_tokens') AS cache_read_tokens,
    JSONExtractInt(entry, 'tokens', 'cache_write_tokens') AS cache_write_tokens,
    JSONExtractInt(entry, 'cache_hour_tokens') AS cache_hour_tokens,
    JSONExtractInt(entry, 'active_ms') AS active_ms,
    JSONExtractInt(entry, 'micro_usd') AS micro_usd,
    JSONExtractBool(entry, 'estimate') AS estimate
FROM
(
    SELECT
        tenant_id, session_id, seq, at, turn_id, user_id,
        JSONExtractString(data, 'agent') AS agent,
        JSONExtractString(data, 'provider_session_id') AS provider_session_id,
        JSONExtractArrayRaw(data, 'lines') AS entries
    FROM session_events
    WHERE type = 'session.charged'
)
ARRAY JOIN entries AS entry, arrayEnumerate(entries) AS place;

CREATE VIEW IF NOT EXISTS cost_facts AS
SELECT
    tenant_id, session_id, seq, line, at, turn_id, user_id, agent, provider_session_id, kind, source, thread_id,
    model, price, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cache_hour_tokens,
    active_ms / 1000 AS active_seconds, micro_usd,
    CAST(toDecimal128(micro_usd, 6) / 1000000, 'Decimal(18, 6)') AS cost_usd, estimate
FROM ledger FINAL;

-- What came between turns is on the event that tells of it: a sum over events counts each dollar once.
ALTER TABLE session_events MODIFY COLUMN cost_usd Decimal(18, 6) DEFAULT multiIf(
    type IN ('turn.completed', 'turn.interrupted', 'turn.refused', 'turn.failed'),
    toDecimal64OrZero(trim(BOTH '"' FROM JSONExtractRaw(data, 'cost_usd')), 6),
    type = 'session.charged' AND turn_id = '',
    CAST(toDecimal128(arraySum(
        one -> if(JSONExtractString(one, 'kind') = 'brought_forward', 0, JSONExtractInt(one, 'micro_usd')),
        JSONExtractArrayRaw(data, 'lines')
    ), 6) / 1000000, 'Decimal(18, 6)'),
    toDecimal64(0, 6)
) CODEC(ZSTD(1));

