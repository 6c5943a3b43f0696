"""The row filter of users who are bound to tenants.

Every table of the engine gets a filter, which the engine applies wherever the table is read: behind views, in
joins, subqueries and unions. They are made anew for each request, so that a table that was added a moment ago has
one too. Tables without tenants are closed, unless they say nothing of anybody.

A condition of the user's own must not be asked of other rows either: an error in it (a division by zero, throwIf)
would tell what is in them. PREWHERE comes before the filter, so the engine is told to make none, and the user's own
is refused (`guard.check_bound`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from infra.clickhouse.server.engine import Handle
from infra.clickhouse.server.errors import engine_errors
from infra.clickhouse.server.sessions import quoted

SETTING = "additional_table_filters"
FILTER_FIRST = (
    "optimize_move_to_prewhere = 0, query_plan_optimize_prewhere = 0, query_plan_merge_filters = 0"
)
CLOSED = "0"
# What clients ask about the server and about tables. The others tell what other users do or what lies on the disk.
OPEN_SYSTEM = frozenset(
    {"one", "numbers", "numbers_mt", "zeros", "zeros_mt", "functions", "settings", "formats"}
    | {"tables", "columns", "databases", "data_type_families", "time_zones", "build_options"}
    | {"table_functions", "aggregate_function_combinators", "table_engines", "keywords"}
)
_TABLES = """
SELECT
    database, name, engine,
    (database, name) IN (
        SELECT database, table FROM system.columns WHERE database != 'system' AND name = 'tenant_id'
    )
FROM system.tables
WHERE lower(database) != 'information_schema'
"""


def bind(handle: Handle, tenants: Sequence[str]) -> None:
    """Show only rows of these tenants on the handle from now on. To be called before it is made read-only."""
    pairs = ", ".join(f"{quoted(name)}: {quoted(rows)}" for name, rows in _filters(handle, tenants))
    with engine_errors():
        handle.query(f"SET {SETTING} = {{{pairs}}}, {FILTER_FIRST}", "Null")


def _filters(handle: Handle, tenants: Sequence[str]) -> Iterator[tuple[str, str]]:
    mine = f"IN ({', '.join(map(quoted, tenants))})"
    with engine_errors():
        found = handle.query(_TABLES, "JSONCompactEachRow").bytes()
    for line in found.splitlines():
        database, name, engine, has_tenant = json.loads(line)
        if database == "system":
            if name not in OPEN_SYSTEM:
                yield f"{database}.{name}", CLOSED
        elif has_tenant:
            yield f"{database}.{name}", f"tenant_id {mine}"
        elif name == "otel_traces":
            yield f"{database}.{name}", f"SpanAttributes['turnstile.tenant_id'] {mine}"
        elif engine != "View":  # a view reads tables, which have filters of their own
            yield f"{database}.{name}", CLOSED
