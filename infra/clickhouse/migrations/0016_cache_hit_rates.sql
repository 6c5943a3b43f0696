-- How much of the input each version of an agent gets from the prompt cache, by day and model. A request belongs to
-- the agent that its turn was last started on.
CREATE VIEW IF NOT EXISTS cache_hit_rates AS
SELECT
    tenant_id,
    toDate(assumeNotNull(r.ended_at)) AS day,
    s.agent AS agent,
    s.agent_version AS agent_version,
    r.model AS model,
    count() AS requests,
    sum(r.input_tokens) AS input_tokens,
    sum(r.cache_read_tokens) AS cache_read_tokens,
    sum(r.cache_write_tokens) AS cache_write_tokens,
    if(
        input_tokens + cache_read_tokens + cache_write_tokens = 0,
        NULL,
        cache_read_tokens / (input_tokens + cache_read_tokens + cache_write_tokens)
    ) AS cache_hit_rate
FROM model_request_facts AS r
LEFT ANY JOIN
(
    SELECT
        tenant_id, session_id, turn_id,
        argMax(JSONExtractString(data, 'agent'), seq) AS agent,
        argMax(toUInt32(JSONExtractUInt(data, 'agent_version')), seq) AS agent_version
    FROM session_events
    WHERE type = 'turn.started'
    GROUP BY tenant_id, session_id, turn_id
) AS s
USING (tenant_id, session_id, turn_id)
WHERE r.ended_at IS NOT NULL AND NOT r.is_error
GROUP BY tenant_id, day, agent, agent_version, model;
