-- `answer` is read as a whole here: an element of it, read by itself (`answer.seq`), is a column without the
-- aggregate function to FINAL, which then takes any row's.
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
    if(answered, dateDiff('microsecond', called_at, tupleElement(first_answer, 'at')) / 1e6, NULL) AS seconds,
    answered AND tupleElement(first_answer, 'is_error') AS is_error,
    CAST(tupleElement(first_answer, 'seq') != 18446744073709551615, 'Bool') AS answered,
    CAST(trace_id, 'String') AS trace_id
FROM tool_calls FINAL
WHERE isNotNull(tool_calls.called_at);

-- The fee with six digits: a product of decimals has the digits of its factors, and a quotient no more.
--
-- `usd_per_session_hour` is the provider's list price of running time, metered to the millisecond: Anthropic's
-- pricing page for Managed Agents as of 2026-08-22.
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
