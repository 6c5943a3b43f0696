"""Ways of reading a table that may hold a row twice: the same questions, spelled in four ways."""

from __future__ import annotations

KEY = "tenant_id, session_id, seq"

# What is asked: select, where (applied inside of {source}), columns besides the key.
READS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "events by type, all tenants": ("type, count() FROM {source} GROUP BY type", "1", ("type",)),
    "tokens of one tenant": ("sum(output_tokens) FROM {source}", "tenant_id = 'acme'", ("output_tokens",)),
    "events of one day, all tenants": (
        "type, count() FROM {source} GROUP BY type", "toDate(at) = '2026-11-10'", ("type", "at"),
    ),
    "tool calls of one tenant": (
        "tool_name, count() FROM {source} WHERE tool_name != '' GROUP BY tool_name",
        "tenant_id = 'acme'", ("tool_name",),
    ),
    "one session, whole": (
        "seq, type, data FROM {source} ORDER BY seq",
        "tenant_id = 'acme' AND session_id = (SELECT min(session_id) FROM session_events WHERE tenant_id = 'acme')",
        ("type", "data"),
    ),
    "length of all bodies of one tenant": ("sum(length(data)) FROM {source}", "tenant_id = 'acme'", ("data",)),
}  # fmt: skip


def spelled(question: tuple[str, str, tuple[str, ...]]) -> tuple[str, str, str, str]:
    """The statement: raw, by the view `events`, by LIMIT 1 BY, by argMax."""
    select, where, columns = question
    named = ", ".join(columns)
    latest = ", ".join(f"argMax(e.{name}, e.recorded_at) AS {name}" for name in columns)
    sources = (
        f"(SELECT {KEY}, {named} FROM session_events WHERE {where})",
        f"(SELECT {KEY}, {named} FROM events WHERE {where})",
        f"(SELECT {KEY}, {named} FROM session_events WHERE {where} LIMIT 1 BY {KEY})",
        f"(SELECT {KEY}, {latest} FROM session_events AS e WHERE {where} GROUP BY {KEY})",
    )
    raw, final, limited, grouped = (
        # In WHERE a name is the column, not what SELECT makes of it.
        f"SELECT {select.format(source=source)} SETTINGS prefer_column_name_to_alias = 1"
        for source in sources
    )
    return raw, final, limited, grouped
