-- Sessions and days as before, and with what came between turns: cost is that of the turns that ended and of the
-- session's own lines, which is the sum of `cost_usd` in `events`.
CREATE OR REPLACE VIEW session_facts AS
SELECT
    tenant_id,
    session_id,
    CAST(max(user_id), 'String') AS user_id,
    assumeNotNull(coalesce(min(opened_at), min(first_at))) AS opened_at,
    CAST(assumeNotNull(max(last_event_at)), 'DateTime64(6, \'UTC\')') AS last_event_at,
    max(status).3 AS status,
    max(last_seq) AS last_seq,
    sum(events) AS events,
    sum(turns) AS turns,
    sum(failed_turns) AS failed_turns,
    sum(tool_calls) AS tool_calls,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(cache_read_tokens) AS cache_read_tokens,
    sum(cache_write_tokens) AS cache_write_tokens,
    sum(cost_usd) AS cost_usd,
    sum(active_seconds) AS active_seconds
FROM
(
    SELECT
        tenant_id, session_id, user_id, opened_at, toNullable(first_at) AS first_at, toNullable(at) AS last_event_at,
        status, last_seq,
        finalizeAggregation(seqs) AS events, 0 AS turns, 0 AS failed_turns, 0 AS tool_calls,
        0 AS input_tokens, 0 AS output_tokens, 0 AS cache_read_tokens, 0 AS cache_write_tokens,
        toDecimal64(0, 6) AS cost_usd, toDecimal64(0, 3) AS active_seconds
    FROM session_days FINAL
    UNION ALL
    SELECT
        tenant_id, session_id, '', NULL, NULL, NULL, (false, 0, ''), 0,
        0, 1, status = 'failed', 0,
        0, 0, 0, 0,
        if(status IN ('completed', 'interrupted', 'refused', 'failed'), cost_usd, toDecimal64(0, 6)), toDecimal64(0, 3)
    FROM turns FINAL
    UNION ALL
    SELECT
        tenant_id, session_id, '', NULL, NULL, NULL, (false, 0, ''), 0,
        0, 0, 0, 0,
        0, 0, 0, 0, cost_usd, toDecimal64(0, 3)
    FROM cost_facts
    WHERE turn_id = '' AND kind != 'brought_forward'
    UNION ALL
    SELECT
        tenant_id, session_id, '', NULL, NULL, NULL, (false, 0, ''), 0,
        0, 0, 0, called_at IS NOT NULL,
        0, 0, 0, 0, toDecimal64(0, 6), toDecimal64(0, 3)
    FROM tool_calls FINAL
    UNION ALL
    SELECT
        tenant_id, session_id, '', NULL, NULL, NULL, (false, 0, ''), 0,
        0, 0, 0, 0,
        input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, toDecimal64(0, 6), toDecimal64(0, 3)
    FROM model_requests FINAL
    UNION ALL
    SELECT
        tenant_id, session_id, '', NULL, NULL, NULL, (false, 0, ''), 0,
        0, 0, 0, 0,
        0, 0, 0, 0, toDecimal64(0, 6), active_seconds
    FROM active_times
)
GROUP BY tenant_id, session_id;

-- `runtime_fee_usd` is running time's part of `cost_usd`, never to be added to it: $0.08 an hour, by the provider's
-- list price as of 2026-08-22. Six digits, since a product of decimals has the digits of its factors, and a quotient
-- no more.
CREATE OR REPLACE VIEW tenant_days AS
WITH toDecimal64('0.08', 6) AS usd_per_session_hour
SELECT
    tenant_id,
    day,
    uniqExactIf(session_id, session_id != '') AS sessions,
    sum(turns) AS turns,
    sum(completed) AS completed,
    sum(failed) AS failed,
    uniqExactIf(user_id, user_id != '') AS users,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(cache_read_tokens) AS cache_read_tokens,
    sum(cache_write_tokens) AS cache_write_tokens,
    sum(cost_usd) AS cost_usd,
    sum(active_seconds) AS active_seconds,
    toDecimal64(active_seconds * usd_per_session_hour / 3600, 6) AS runtime_fee_usd
FROM
(
    SELECT
        tenant_id, day, session_id, user_id, 0 AS turns, 0 AS completed, 0 AS failed,
        0 AS input_tokens, 0 AS output_tokens, 0 AS cache_read_tokens, 0 AS cache_write_tokens,
        toDecimal64(0, 6) AS cost_usd, toDecimal64(0, 3) AS active_seconds
    FROM session_days FINAL
    UNION ALL
    SELECT tenant_id, toDate(submitted_at), '', '', 1, 0, 0, 0, 0, 0, 0, toDecimal64(0, 6), toDecimal64(0, 3)
    FROM turns FINAL
    UNION ALL
    SELECT
        tenant_id, toDate(updated_at), '', '', 0, status = 'completed', status = 'failed',
        0, 0, 0, 0, cost_usd, toDecimal64(0, 3)
    FROM turns FINAL
    WHERE status IN ('completed', 'interrupted', 'refused', 'failed')
    UNION ALL
    SELECT tenant_id, toDate(at), '', '', 0, 0, 0, 0, 0, 0, 0, cost_usd, toDecimal64(0, 3)
    FROM cost_facts
    WHERE turn_id = '' AND kind != 'brought_forward'
    UNION ALL
    SELECT
        tenant_id, toDate(assumeNotNull(ended_at)), '', '', 0, 0, 0,
        input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, toDecimal64(0, 6), toDecimal64(0, 3)
    FROM model_requests FINAL
    WHERE ended_at IS NOT NULL
    UNION ALL
    SELECT tenant_id, toDate(at), '', '', 0, 0, 0, 0, 0, 0, 0, toDecimal64(0, 6), active_seconds
    FROM active_times
)
GROUP BY tenant_id, day;
