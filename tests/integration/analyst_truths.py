"""The right results of the questions of docs/analysts.md, computed from the events by a plain program.

Each truth has the first words of its question as key and gives the rows of the answer, in JSON's terms.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import date, timedelta

from tests.integration.analyst_log import (
    NOTHING,
    TURN_ENDS,
    Json,
    Log,
    Rows,
    grouped,
    moment,
    quantiles,
    seconds,
    usd,
)

# US dollars a second of running time.
FEE = 0.08 / 3600


def last_week(log: Log) -> Rows:
    since = log.now - timedelta(days=7)
    turns = [turn for turn in log.turns if moment(turn["submitted_at"]) > since]
    found = grouped(turns, lambda turn: (turn["submitted_at"][:10], turn["status"]))
    return [[*key, len(some), usd(some)] for key, some in found.items()]


def waiting(log: Log) -> Rows:
    done = [turn for turn in log.turns if turn["status"] == "completed"]
    rows = []
    for hour, some in grouped(done, lambda turn: turn["submitted_at"][:13]).items():
        took = [
            [seconds(turn["submitted_at"], turn[end]) for turn in some]
            for end in ("first_token_at", "ended_at", "started_at")
        ]
        levels = (0.5, 0.95, 0.99)
        first, whole = quantiles(levels, took[0]), quantiles(levels, took[1])
        rows.append(
            [
                f"{hour.replace('T', ' ')}:00:00",
                len(some),
                first,
                whole,
                *quantiles([0.95], took[2]),
            ]
        )
    return rows


def dearest_users(log: Log) -> Rows:
    rows = []
    for user, some in grouped(log.turns, lambda turn: turn["user_id"]).items():
        used = [turn["usage"] for turn in some]
        into = sum(
            u["input_tokens"] + u["cache_read_tokens"] + u["cache_write_tokens"] for u in used
        )
        rows.append(
            [user, len(some), round(usd(some), 2), into, sum(u["output_tokens"] for u in used)]
        )
    return sorted(rows, key=lambda row: (-row[2], row[0]))[:20]


def tools(log: Log) -> Rows:
    rows = []
    for (kind, name), some in grouped(log.calls, lambda call: (call["kind"], call["name"])).items():
        failed = sum(call.get("is_error", False) for call in some)
        took = quantiles((0.5, 0.95), (call.get("seconds") for call in some))
        rows.append([kind, name, len(some), failed, round(failed / len(some), 3), took])
    return sorted(rows, key=lambda row: (-row[2], row[1]))


def unanswered(log: Log) -> Rows:
    open_calls = [call for call in log.calls if "seconds" not in call]
    rows = [
        [
            name,
            len(some),
            len({call["session_id"] for call in some}),
            min(call["at"] for call in some),
        ]
        for name, some in grouped(open_calls, lambda call: call["name"]).items()
    ]
    return [[*row[:3], _shown(row[3])] for row in sorted(rows, key=lambda row: (-row[1], row[0]))]


def cache(log: Log) -> Rows:
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    rows = []
    for model, some in grouped(log.requests, lambda request: request["model"]).items():
        sums = [sum(request[name] for request in some) for name in names]
        rows.append([model, *sums, round(sums[2] / max(sum(sums), 1), 3)])
    return rows


def speed(log: Log) -> Rows:
    rows = []
    for model, some in grouped(log.requests, lambda request: request["model"]).items():
        failed = sum(request["data"]["is_error"] for request in some)
        rate = sum(r["output_tokens"] for r in some) / sum(r["took"] for r in some)
        first = quantiles((0.5, 0.95), (request["first"] for request in some))
        rows.append([model, len(some), failed, first, round(rate, 1)])
    return rows


def wrong(log: Log) -> Rows:
    def key(turn: Json) -> tuple[str, str, str]:
        return turn["status"], (turn["error"] or {}).get("type", ""), turn["stop_reason"] or ""

    found = grouped((turn for turn in log.turns if turn["status"] in NOTHING), key)
    rows = [
        [*k, len(some), sum(t["attempts"] for t in some) / len(some)] for k, some in found.items()
    ]
    return sorted(rows, key=lambda row: -row[3])


def retried(log: Log) -> Rows:
    ends = {(turn["session_id"], turn["turn_id"]): turn for turn in log.turns}
    since = log.now - timedelta(days=7)
    tried = [
        {"turn": (e["session_id"], e["turn_id"]), "reason": e["data"]["reason"]}
        for e in log.events
        if e["type"] == "turn.retrying" and moment(e["at"]) > since
    ]
    rows = []
    for reason, some in grouped(tried, lambda row: row["reason"]).items():
        turns = {row["turn"] for row in some if ends[row["turn"]]["attempts"] > 1}
        rows.append(
            [reason, len(turns), sum(ends[turn]["status"] == "completed" for turn in turns)]
        )
    return sorted(rows, key=lambda row: -row[1])


def for_nothing(log: Log) -> Rows:
    rows = []
    for month, some in grouped(log.turns, lambda turn: turn["submitted_at"][:7]).items():
        lost = usd(turn for turn in some if turn["status"] in NOTHING)
        rows.append([f"{month}-01", usd(some), lost, round(lost / max(usd(some), 0.01), 4)])
    return rows


def days(log: Log) -> Rows:
    active: dict[str, float] = defaultdict(float)
    for events in log.sessions.values():
        for day, some in log.active(events).items():
            active[day] += some
    rows = []
    for day, events in grouped(log.events, lambda event: event["at"][:10]).items():
        types = Counter(event["type"] for event in events)
        used = [e["data"]["model_usage"] for e in events if e["type"] == "span.model_request_end"]
        into = sum(sum(u.values()) - u["output_tokens"] for u in used)
        ends = [event["data"] for event in events if event["type"] in TURN_ENDS]
        counted = len({e["session_id"] for e in events}), len({e["user_id"] for e in events})
        hours = round(active[day] / 3600, 2)
        turns = types["turn.accepted"], types["turn.failed"]
        out = sum(u["output_tokens"] for u in used)
        rows.append([day, *counted, *turns, into, out, hours, usd(ends), active[day] * FEE])
    return rows


def dearest_sessions(log: Log) -> Rows:
    turns = grouped(log.turns, lambda turn: turn["session_id"])
    calls = Counter(call["session_id"] for call in log.calls)
    rows = []
    for session, events in log.sessions.items():
        cost = usd(event["data"] for event in events if event["type"] in TURN_ENDS)
        status = (
            "archived" if any(e["type"] == "session.archived" for e in events) else _status(events)
        )
        rows.append(
            [session, events[0]["user_id"], _shown(events[0]["at"]), status, len(turns.get(session, [])),
             calls[session], round(cost, 2), sum(log.active(events).values())]
        )  # fmt: skip
    return sorted(rows, key=lambda row: (-row[6], row[0]))[:20]


def lengths(log: Log) -> Rows:
    turns = Counter(turn["session_id"] for turn in log.turns)
    cost, hours = [], []
    for events in log.sessions.values():
        cost.append(usd(event["data"] for event in events if event["type"] in TURN_ENDS))
        first, last = (moment(events[place]["at"]).replace(microsecond=0) for place in (0, -1))
        hours.append((last - first).total_seconds() / 3600)
    levels = (0.5, 0.9, 0.99)
    counted = [turns[session] for session in log.sessions]
    return [
        [
            len(counted),
            quantiles(levels, counted),
            quantiles(levels, cost),
            quantiles(levels, hours),
        ]
    ]


def comers_back(log: Log) -> Rows:
    seen: dict[str, set[date]] = defaultdict(set)
    for turn in log.turns:
        day = moment(turn["submitted_at"]).date()
        seen[turn["user_id"]].add(day - timedelta(days=day.weekday()))
    pairs = Counter(
        (str(min(weeks)), (week - min(weeks)).days // 7)
        for weeks in seen.values()
        for week in weeks
    )
    return [[*pair, count] for pair, count in sorted(pairs.items())]


def busy(log: Log) -> Rows:
    at = Counter(
        (moment(turn["submitted_at"]).isoweekday(), moment(turn["submitted_at"]).hour)
        for turn in log.turns
    )
    return [[*when, count] for when, count in sorted(at.items())]


def answered(log: Log) -> Rows:
    kinds = {"user.tool_confirmation": "confirmation", "user.custom_tool_result": "custom tool"}
    waited: dict[str, list[float | None]] = defaultdict(list)
    for events in log.sessions.values():
        asked = None
        for event in events:
            if event["type"] in kinds and asked:
                waited[kinds[event["type"]]].append(seconds(asked, event["at"]))
            if event["type"] in kinds or event["type"] == "turn.requires_action":
                asked = event["at"] if event["type"] == "turn.requires_action" else None
    return [
        [kind, len(some), quantiles((0.5, 0.95), some)] for kind, some in sorted(waited.items())
    ]


def children(log: Log) -> Rows:
    found = grouped(log.requests, lambda request: "child" if request["thread_id"] else "main")
    open_ones = Counter(
        "child" if e["thread_id"] else "main"
        for e in log.events
        if e["type"] == "span.model_request_start"
    )
    return [
        [kind, open_ones[kind], sum(r["output_tokens"] for r in some)]
        for kind, some in found.items()
    ]


def _status(events: list[Json]) -> str:
    """Of a session that is not archived, as far as these logs go."""
    turn = [e["type"] for e in events if e["type"].startswith("turn.")][-1]
    return {"turn.requires_action": "requires_action"}.get(
        turn, "idle" if turn in TURN_ENDS else "running"
    )


def _shown(at: str) -> str:
    return at.replace("T", " ").replace("Z", "")


TRUTHS: dict[str, Callable[[Log], Rows]] = {
    "Turns of the last week by day": last_week,
    "How long users wait": waiting,
    "Users who cost most": dearest_users,
    "Tools: how often": tools,
    "Tool calls that never": unanswered,
    "How much of the input": cache,
    "How fast each model": speed,
    "What went wrong": wrong,
    "Why turns of the last week": retried,
    "Money spent on turns": for_nothing,
    "What each day came to": days,
    "Sessions that cost most": dearest_sessions,
    "How long conversations go on": lengths,
    "Users who come back": comers_back,
    "When it is busy": busy,
    "How long agents wait": answered,
    "What the agent and its child": children,
    "Sessions with a gap": lambda log: [],
}
