-- What analysts read: the tables without repeats. FINAL merges while reading; it takes each
-- partition by itself, which is right since a repeat lands in the partition of the first.
CREATE VIEW IF NOT EXISTS events AS
SELECT
    tenant_id, session_id, seq, event_id, type, turn_id, user_id, thread_id, at, recorded_at,
    trace_id, provider_event_id, model, input_tokens, output_tokens, cache_read_tokens,
    cache_write_tokens, cost_usd, tool_name, is_error, data
FROM session_events FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE VIEW IF NOT EXISTS turn_facts AS
SELECT
    tenant_id, session_id, turn_id, user_id, status, submitted_at, started_at, first_token_at,
    ended_at, attempts, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    cost_usd, tool_calls, stop_reason, error_type, trace_id, seq, updated_at,
    dateDiff('microsecond', submitted_at, started_at) / 1e6 AS queue_seconds,
    dateDiff('microsecond', submitted_at, first_token_at) / 1e6 AS first_token_seconds,
    dateDiff('microsecond', submitted_at, ended_at) / 1e6 AS total_seconds
FROM turns FINAL;
