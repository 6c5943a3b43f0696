-- A part below 64 MiB (uncompressed) is one file. What an insert of 25,000 events makes are seven parts, and as files of
-- their own those were a hundred and more: making them was a fifth of the insert. Merges make larger parts of them,
-- with a file for each column as before.
--
-- A ClickHouse that does not know the setting goes without it; it could not read such parts either.
ALTER TABLE session_events MODIFY SETTING min_bytes_for_full_part_storage = 67108864;
ALTER TABLE turns MODIFY SETTING min_bytes_for_full_part_storage = 67108864;
ALTER TABLE tool_calls MODIFY SETTING min_bytes_for_full_part_storage = 67108864;
ALTER TABLE model_requests MODIFY SETTING min_bytes_for_full_part_storage = 67108864;
ALTER TABLE agent_outputs MODIFY SETTING min_bytes_for_full_part_storage = 67108864;
ALTER TABLE session_days MODIFY SETTING min_bytes_for_full_part_storage = 67108864;
ALTER TABLE session_usage MODIFY SETTING min_bytes_for_full_part_storage = 67108864;
ALTER TABLE otel_traces MODIFY SETTING min_bytes_for_full_part_storage = 67108864;
ALTER TABLE otel_traces_trace_id_ts MODIFY SETTING min_bytes_for_full_part_storage = 67108864;
