"""Retention rules, written as the TTL of each table of the archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clickhouse_connect.driver.client import Client

from shared.retention import ANY, Rule

# Column that says how old a row is, of the tables of spans, which know no tenant.
SPANS = {"otel_traces": "Timestamp", "otel_traces_trace_id_ts": "Start"}
EVENTS = "session_events"
# What is derived is kept as long as the events of the type that says most of it: its column of time, and that type.
DERIVED = {
    "turns": ("updated_at", "turn.completed"),
    "tool_calls": ("at", "agent.tool_use"),
    "model_requests": ("at", "span.model_request_end"),
    "agent_outputs": ("at", "agent.message"),
    "session_days": ("at", "session.opened"),
    "session_usage": ("at", "session.usage"),
    "ledger": ("at", "session.charged"),
}
TABLES = (EVENTS, *DERIVED, *SPANS)


def rules_for(table: str, rules: Sequence[Rule]) -> list[Rule]:
    """Those that can hold for a row of the table, the one that holds first. A derived table knows no kinds."""
    if table == EVENTS:
        return _up_to_any(list(rules))
    if table in SPANS:
        return [rule for rule in rules if rule.tenant == rule.kind == ANY]
    _, kind = DERIVED[table]
    return _up_to_any([Rule(rule.tenant, ANY, rule.hours) for rule in rules if rule.takes(kind)])


def ttl(table: str, rules: Sequence[Rule]) -> str:
    """What stands after TTL in the table's definition; "" keeps every row for ever."""
    column = {EVENTS: "at", **SPANS, **{name: at for name, (at, _) in DERIVED.items()}}[table]
    return ", ".join(_clauses(column, rules_for(table, rules)))


def words(table: str, rules: Sequence[Rule]) -> str:
    """The retention in words, for people."""
    found = rules_for(table, rules)
    return ", ".join(map(str, found)) if found else "for ever"


def set_retention(server: Client, table: str, rules: Sequence[Rule], *, dry_run: bool) -> bool:
    """Give the table of the client's database this retention; returns whether it had another one. A table that is
    not there has none."""
    wanted = ttl(table, rules)
    if _normal(server, table, wanted) == _now(server, table):
        return False
    if not dry_run:
        server.command(f"ALTER TABLE {table} {f'MODIFY TTL {wanted}' if wanted else 'REMOVE TTL'}")
    return True


def _up_to_any(rules: list[Rule]) -> list[Rule]:
    """Without those that nothing gets to, because one before them fits every row they do."""
    kept: list[Rule] = []
    for rule in rules:
        if not any(one.tenant in (ANY, rule.tenant) and one.kind == ANY for one in kept):
            kept.append(rule)
    return kept


def _clauses(column: str, rules: Sequence[Rule]) -> Iterator[str]:
    """Every rule for the rows that none before it fits."""
    before: list[str] = []
    for rule in rules:
        mine = _fits(rule)
        if rule.hours is not None:
            where = " AND ".join(filter(None, [mine, *(f"NOT ({other})" for other in before)]))
            when = f"toDateTime({column}) + toIntervalHour({rule.hours})"
            yield f"{when} DELETE WHERE {where}" if where else when
        before.append(mine)


def _fits(rule: Rule) -> str:
    conditions = [f"tenant_id = '{rule.tenant}'"] if rule.tenant != ANY else []
    if rule.kind == ANY:
        return " AND ".join(conditions)
    if rule.kind.endswith(ANY):
        conditions.append(f"startsWith(type, '{rule.kind[:-1]}')")
    else:
        conditions.append(f"type = '{rule.kind}'")
    return " AND ".join(conditions)


def _now(server: Client, table: str) -> str:
    sql = """SELECT extract(create_table_query, ' TTL (.*?)(?: SETTINGS | COMMENT |$)')
        FROM system.tables WHERE database = currentDatabase() AND name = {table:String}"""
    found = server.query(sql, parameters={"table": table}).result_rows
    return str(found[0][0]) if found else ""


def _normal(server: Client, table: str, wanted: str) -> str:
    """As the server writes it."""
    if not wanted:
        return ""
    sql = "SELECT extract(formatQuerySingleLine({text:String}), ' TTL (.*)$')"
    text = f"CREATE TABLE {table} (a Int8) ENGINE = MergeTree ORDER BY a TTL {wanted}"
    return str(server.query(sql, parameters={"text": text}).result_rows[0][0])
