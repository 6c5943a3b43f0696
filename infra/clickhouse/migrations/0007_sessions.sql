-- One row is what one session did on one day (UTC, by the events' own time): from these, what is known of a
-- session and of a tenant's day. Minima, maxima and a set of seqs: a repeat adds nothing.
--
-- `status` is that of the latest event which changes it, and a closed session stays closed; `seqs` has one bit an
-- event.
CREATE TABLE IF NOT EXISTS session_days
(
    tenant_id LowCardinality(String),
    session_id String CODEC(ZSTD(1)),
    day Date,
    user_id SimpleAggregateFunction(max, String) CODEC(ZSTD(1)),
    opened_at SimpleAggregateFunction(min, Nullable(DateTime64(6, 'UTC'))) CODEC(ZSTD(1)),
    first_at SimpleAggregateFunction(min, DateTime64(6, 'UTC')) CODEC(ZSTD(1)),
    at SimpleAggregateFunction(max, DateTime64(6, 'UTC')) CODEC(ZSTD(1)),
    last_seq SimpleAggregateFunction(max, UInt64) CODEC(ZSTD(1)),
    status SimpleAggregateFunction(max, Tuple(closed Bool, seq UInt64, name String)) CODEC(ZSTD(1)),
    seqs AggregateFunction(groupBitmap, UInt64) CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
ORDER BY (tenant_id, session_id, day);

CREATE MATERIALIZED VIEW IF NOT EXISTS session_days_from_events TO session_days AS
SELECT
    tenant_id,
    session_id,
    day,
    max(of_user) AS user_id,
    minOrNullIf(moment, type = 'session.opened') AS opened_at,
    min(moment) AS first_at,
    max(moment) AS at,
    max(seq) AS last_seq,
    max((state IN ('archived', 'erased'), if(state = '', 0, seq), state)) AS status,
    groupBitmapState(seq) AS seqs
FROM
(
    SELECT
        tenant_id, session_id, seq, type, user_id AS of_user, at AS moment, toDate(at) AS day,
        multiIf(
            type = 'session.archived', 'archived',
            type = 'session.erased', 'erased',
            type = 'turn.requires_action', 'requires_action',
            -- The provider's says that a wait is over; outside of a turn it says nothing of ours.
            type IN ('turn.started', 'turn.retrying') OR (type = 'session.status_running' AND turn_id != ''), 'running',
            type IN ('session.opened', 'session.idled', 'turn.completed', 'turn.interrupted', 'turn.failed'), 'idle',
            ''
        ) AS state
    FROM session_events
)
GROUP BY tenant_id, session_id, day;

-- One row is one account the provider gave of a session's running time (`session.usage`), or a change to
-- another provider session (`session.rotated`), whose account starts at nothing.
CREATE TABLE IF NOT EXISTS session_usage
(
    tenant_id LowCardinality(String),
    session_id String CODEC(ZSTD(1)),
    seq UInt64 CODEC(Delta, ZSTD(1)),
    user_id String CODEC(ZSTD(1)),
    at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    rotated Bool,
    -- Seconds the provider session has been running so far.
    active_seconds Decimal(18, 3) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(seq)
ORDER BY (tenant_id, session_id, seq);

CREATE MATERIALIZED VIEW IF NOT EXISTS session_usage_from_events TO session_usage AS
SELECT
    tenant_id,
    session_id,
    seq,
    user_id,
    at,
    type = 'session.rotated' AS rotated,
    if(rotated, toDecimal64(0, 3), toDecimal64OrZero(JSONExtractRaw(data, 'usage', 'active_seconds'), 3)) AS active_seconds
FROM session_events
WHERE type = 'session.rotated'
    OR (type = 'session.usage' AND thread_id = '' AND JSONHas(data, 'usage', 'active_seconds'));

-- One row is a piece of running time: what an account has more than the one before it. The provider's clock
-- may go back a little, so a piece can be below zero; the sum of a session's pieces is its last account.
CREATE VIEW IF NOT EXISTS active_times AS
SELECT
    tenant_id,
    session_id,
    at,
    if(rotated, toDecimal64(0, 3), active_seconds - before) AS active_seconds
FROM
(
    SELECT
        tenant_id, session_id, at, rotated, active_seconds,
        lagInFrame(active_seconds, 1, toDecimal64(0, 3)) OVER
            (PARTITION BY tenant_id, session_id ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS before
    FROM session_usage FINAL
);
