"""Checks that the archive's tables of turns, tool calls, model requests, sessions and days add up to the events.

The same figures are taken twice: from the views that analysts read, and from the events themselves, each counted
once whatever the table holds of it. The second way shares only the columns of `session_events` with the first.
What came between turns is the session's own cost and in no turn's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

# A query's rows by column name, for one tenant (`{tenant:String}`).
Ask = Callable[[str], Sequence[Mapping[str, Any]]]

_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in _TOKENS)
_ONCE = "SELECT * FROM session_events WHERE tenant_id = {tenant:String} LIMIT 1 BY session_id, seq"
_REQUEST = """if(
    type = 'span.model_request_end' AND JSONExtractString(data, 'model_request_start_id') != '',
    JSONExtractString(data, 'model_request_start_id'),
    provider_event_id
)"""
_TOOLS = "'agent.tool_use', 'agent.mcp_tool_use', 'agent.custom_tool_use'"
_ENDED = "status IN ('completed', 'interrupted', 'refused', 'failed')"
_MINE = "WHERE tenant_id = {tenant:String}"

EVENTS = f"""
SELECT
    count() AS events,
    uniqExact(session_id) AS sessions,
    uniqExactIf((session_id, turn_id), type LIKE 'turn.%') AS turns,
    countIf(type = 'turn.completed') AS completed,
    countIf(type = 'turn.failed') AS failed,
    countIf(type IN ({_TOOLS})) AS tool_calls,
    uniqExactIf((session_id, {_REQUEST}), type LIKE 'span.model_request_%') AS model_requests,
    {_SUMS}, sum(cost_usd) AS cost_usd, sumIf(once.cost_usd, once.type != 'session.charged') AS cost_of_turns
FROM ({_ONCE}) AS once
"""
# The last account of the provider before each change to another provider session, and before the end.
RUNNING = f"""
SELECT sum(arraySum(
    (place, one) -> if(
        one.2 = 'session.usage' AND (place = length(all) OR all[place + 1].2 = 'session.rotated'), one.3, 0
    ),
    arrayEnumerate(all), all
)) AS active_seconds
FROM
(
    SELECT arraySort(groupArray((
        seq, type, toDecimal64(toString(JSONExtractFloat(data, 'usage', 'active_seconds')), 3)
    ))) AS all
    FROM ({_ONCE})
    WHERE type = 'session.rotated'
        OR (type = 'session.usage' AND thread_id = '' AND JSONHas(data, 'usage', 'active_seconds'))
    GROUP BY session_id
)
"""
_ANSWERED = " || ".join(
    f"JSONExtractString(data, '{name}')"
    for name in ("tool_use_id", "custom_tool_use_id", "mcp_tool_use_id")
)
ANSWERED = f"""
SELECT count() AS answered
FROM ({_ONCE})
WHERE type IN ({_TOOLS}) AND (session_id, provider_event_id) IN (
    SELECT session_id, {_ANSWERED} FROM session_events {_MINE} AND match(type, 'tool_result$')
)
"""
VIEWS = {
    "events": f"SELECT count() AS events, {_SUMS}, sum(cost_usd) AS cost_usd FROM events {_MINE}",
    "turn_facts": f"""
        SELECT count() AS turns, countIf(status = 'completed') AS completed, countIf(status = 'failed') AS failed,
            sumIf(cost_usd, {_ENDED}) AS cost_of_turns
        FROM turn_facts {_MINE}""",
    "tool_call_facts": f"""
        SELECT count() AS tool_calls, countIf(answered) AS answered FROM tool_call_facts {_MINE}""",
    "model_request_facts": f"SELECT count() AS model_requests, {_SUMS} FROM model_request_facts {_MINE}",
    "session_facts": f"""
        SELECT sum(events) AS events, count() AS sessions, sum(turns) AS turns, sum(failed_turns) AS failed,
            sum(tool_calls) AS tool_calls, {_SUMS}, sum(cost_usd) AS cost_usd, sum(active_seconds) AS active_seconds
        FROM session_facts {_MINE}""",
    "tenant_days": f"""
        SELECT sum(turns) AS turns, sum(completed) AS completed, sum(failed) AS failed, {_SUMS},
            sum(cost_usd) AS cost_usd, sum(active_seconds) AS active_seconds
        FROM tenant_days {_MINE}""",
}
# Day by day, what an event's own time decides.
_DAY = f"sessions, users, completed, failed, {', '.join(_TOKENS)}, cost_usd"
EVENT_DAYS = f"""
SELECT toString(toDate(at)) AS day, uniqExact(session_id) AS sessions, uniqExactIf(user_id, user_id != '') AS users,
    countIf(type = 'turn.completed') AS completed, countIf(type = 'turn.failed') AS failed,
    {_SUMS}, sum(cost_usd) AS cost_usd
FROM ({_ONCE}) GROUP BY day
"""
TENANT_DAYS = f"SELECT toString(day) AS day, {_DAY} FROM tenant_days {_MINE}"


def wrong_sums(ask: Ask) -> list[str]:
    """Every figure of a view that is not what the events come to, in words."""
    true = {**ask(EVENTS)[0], **ask(RUNNING)[0], **ask(ANSWERED)[0]}
    found = [line for view, sql in VIEWS.items() for line in _differences(view, ask(sql)[0], true)]
    # A turn may have been submitted on a day that has no event: such days are no row of the events.
    shown = {row["day"]: row for row in ask(TENANT_DAYS)}
    for row in ask(EVENT_DAYS):
        day = {name: shown.get(row["day"], {}).get(name) for name in row}
        found += _differences(f"tenant_days of {row['day']}", day, row)
    return found


def _differences(view: str, got: Mapping[str, Any], true: Mapping[str, Any]) -> Iterator[str]:
    for name, value in got.items():
        if value != true[name]:
            yield f"{view}: {name} is {value}, over distinct events it is {true[name]}"
