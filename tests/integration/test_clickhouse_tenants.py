"""A user bound to a tenant sees its rows and no others, whatever is asked. Real engine, plain HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import pytest

from infra.clickhouse.migrate import migrate
from infra.clickhouse.server.users import UsersFileError, load_users
from tests.clickhouse_rows import SETTINGS, event, turn
from tests.clickhouse_server import Answer, Running, ask, start_clickhouse, stop_clickhouse

pytestmark = pytest.mark.integration
USERS = """
[users.default]
readonly = 0
[users.acme]
readonly = 1
database = "turnstile"
tenants = ["acme"]
[users.both]
readonly = 1
database = "turnstile"
tenants = ["acme", "beta"]
"""
SECRET = "beta-secret"


def a_session(tenant: str, mark: str) -> list[bytes]:
    fields = {"tenant_id": tenant, "session_id": f"{mark}-session", "user_id": f"{mark}-user"}
    data = json.dumps(
        {"id": f"{mark}-call", "name": f"{mark}-tool", "model_usage": {"input_tokens": 5}}
    )
    usage = '{"id": "u", "usage": {"active_seconds": 1.5}}'
    charged = json.dumps({"agent": mark, "lines": [{"kind": "request", "micro_usd": 7}]})
    outcome = json.dumps({"id": "o", "outcome_id": f"{mark}-outcome"})
    thread = json.dumps({"id": "m", "session_thread_id": f"{mark}-thread"})
    run = json.dumps({"id": "w", "workflow_run_id": f"{mark}-run"})
    given = json.dumps({"resources": [{"type": "file", "file_id": f"{mark}-file"}]})
    ended = turn("completed", 0.5, ended_at="2026-11-21T10:00:02Z")
    return [
        event(1, "session.opened", **fields),
        event(2, "span.model_request_start", data, **fields),
        event(3, "agent.tool_use", data, **fields),
        event(4, "span.model_request_end", data, **fields, model=f"{mark}-model"),
        event(5, "session.usage", usage, **fields),
        event(6, "session.charged", charged, **fields),
        event(7, "turn.started", json.dumps({"turn_id": "t1", "agent": mark}), **fields),
        event(8, "span.outcome_evaluation_start", outcome, **fields),
        event(9, "session.thread_created", thread, **fields),
        event(10, "workflow_run.created", run, **fields),
        event(11, "session.updated", json.dumps({"id": "c", "title": mark}), **fields),
        event(12, "turn.accepted", given, **fields),
        event(424242, "turn.completed", ended, **fields, trace_id=f"{mark}-trace"),
    ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Rows of two tenants, in the same parts; `beta-secret` is in every row of beta's."""
    folder = tmp_path_factory.mktemp("tenants")
    (folder / "users.toml").write_text(USERS)
    running = start_clickhouse(folder / "data", "--users", str(folder / "users.toml"))
    migrate(running.url, say=lambda step: None)
    rows = [*a_session("acme", "acme-own"), *a_session(SECRET, SECRET)]
    insert = {"query": "INSERT INTO turnstile.session_events FORMAT JSONEachRow"}
    assert ask(running.base, b"".join(rows), insert | SETTINGS).status == 200
    for tenant, mark in (("acme", "acme-own"), (SECRET, SECRET)):
        sql = (
            "INSERT INTO turnstile.otel_traces (Timestamp, TraceId, SpanName, SpanAttributes) VALUES"
            f" (now(), '{mark}-trace', 'x', {{'turnstile.tenant_id': '{tenant}'}})"
        )
        assert ask(running.base, sql).status == 200
        sql = (
            "INSERT INTO turnstile.erasures (tenant_id, session_id, asked_at, noted_at, version) VALUES"
            f" ('{tenant}', '{mark}-erased', now(), now(), 1)"
        )
        assert ask(running.base, sql).status == 200
    made = "CREATE VIEW turnstile.own_view AS SELECT user_id, count() AS n FROM turnstile.events GROUP BY 1"
    assert ask(running.base, made).status == 200
    yield running
    stop_clickhouse(running)


def as_acme(server: Running, sql: str, **more: object) -> Answer:
    return ask(server.base, sql, {"user": "acme", **more})


def relations(server: Running) -> list[str]:
    sql = "SELECT name FROM system.tables WHERE database = 'turnstile'"
    return ask(server.base, sql).body.decode().split()


def test_every_table_and_view_shows_its_own_rows(server: Running) -> None:
    closed = {"otel_traces_trace_id_ts", "otel_traces_trace_id_ts_mv", "schema_migrations"}
    for name in relations(server):
        sql = f"SELECT * FROM turnstile.{name} FORMAT JSONEachRow"
        everything = ask(server.base, sql).body
        answer = as_acme(server, sql)
        assert answer.status == 200, (name, answer.body)
        assert SECRET.encode() not in answer.body, name
        if name in closed:
            assert answer.body == b"", name
        else:
            assert SECRET.encode() in everything, f"{name}: nothing to hide, so this shows nothing"
            assert b"acme" in answer.body, name
        for count in ("count()", "count(*), max(1)"):
            sql = f"SELECT {count} FROM turnstile.{name} SETTINGS optimize_trivial_count_query = 1"
            counted = as_acme(server, sql.split(" SETTINGS")[0]).body.split()[0]
            assert int(counted) == len(answer.body.splitlines()), name


ASKED = [
    "SELECT * FROM session_events AS a JOIN turns AS b ON true",
    "SELECT * FROM turns AS a FULL JOIN tool_calls AS b ON a.session_id = b.session_id",
    "SELECT (SELECT groupArray(session_id) FROM session_events)",
    "WITH x AS (SELECT * FROM session_events) SELECT * FROM x UNION ALL SELECT * FROM x",
    "SELECT * FROM turns UNION DISTINCT SELECT * FROM turns",
    "SELECT session_id FROM turns INTERSECT SELECT session_id FROM session_events",
    "SELECT * FROM view(SELECT * FROM session_events)",
    "SELECT * FROM (SELECT tenant_id FROM session_events GROUP BY tenant_id WITH TOTALS)",
    "SELECT DISTINCT user_id FROM session_events FINAL",
    "SELECT * FROM own_view",
    "SELECT max(session_id), min(at), max(at), groupUniqArray(tenant_id) FROM session_events",
    "SELECT * FROM session_events WHERE tenant_id = 'beta-secret' OR 1",
    "SELECT * FROM session_events AS turns",
    "SELECT * FROM `turnstile`.`session_events` AS `turnstile.turns`",
    "SELECT * FROM session_events LIMIT 1 BY session_id",
    "SELECT * FROM merge('turnstile', '.*')",
    "SELECT * FROM mergeTreeIndex('turnstile', 'session_events')",
    "SELECT * FROM remote('127.0.0.1', 'turnstile', 'session_events')",
    "SELECT * FROM loop('turnstile', 'session_events') LIMIT 20",
    "SELECT * FROM system.processes",
    "SHOW PROCESSLIST",
    "SELECT * FROM system.parts",
    "SELECT * FROM system.mutations",
    "SELECT * FROM system.parts_columns",
]


@pytest.mark.parametrize("sql", ASKED)
def test_no_question_gets_others_rows(server: Running, sql: str) -> None:
    answer = as_acme(server, f"{sql} FORMAT JSONEachRow")
    assert SECRET.encode() not in answer.body, sql
    assert answer.status == 200 or answer.code in (164, 62, 46), answer.body


LEAKS = [
    "SELECT count() FROM session_events WHERE throwIf(tenant_id = 'beta-secret')",
    "SELECT count() FROM session_events WHERE intDiv(1, session_id != 'beta-secret-session') >= 0",
    "SELECT count() FROM session_events PREWHERE throwIf(user_id = 'beta-secret-user')",
    "SELECT count() FROM session_events PREWHERE throwIf(data LIKE '%beta-secret%') WHERE seq > 0",
    "SELECT sum(throwIf(session_id = 'beta-secret-session')) FROM session_events",
    "SELECT throwIf(user_id = 'beta-secret-user') FROM events",
    "SELECT count() FROM turn_facts WHERE throwIf(tenant_id = 'beta-secret') AND cost_usd > 0",
    "SELECT count() FROM tool_call_facts WHERE throwIf(tool_name = 'beta-secret-tool')",
    "SELECT count() FROM session_facts WHERE throwIf(user_id = 'beta-secret-user')",
    "SELECT count() FROM turns AS a JOIN session_events AS b ON throwIf(b.user_id = 'beta-secret-user') = 0",
    "SELECT 'beta-secret-session' IN (SELECT session_id FROM turns) AS x WHERE throwIf(x)",
    "SELECT * FROM (SELECT throwIf(session_id = 'beta-secret-session') AS t, data FROM session_events) WHERE t = 0",
    "SELECT 1 WHERE 'x' IN (SELECT session_id FROM events WHERE throwIf(user_id = 'beta-secret-user') = 0)",
    "SELECT count() FROM (SELECT * FROM turns WHERE throwIf(user_id = 'beta-secret-user') = 0) AS a, turns",
    "SELECT count() FROM otel_traces WHERE throwIf(TraceId = 'beta-secret-trace')",
]


@pytest.mark.parametrize("sql", LEAKS)
def test_no_condition_is_asked_of_others_rows(server: Running, sql: str) -> None:
    """An error would tell that such a row is there."""
    wide = ask(server.base, sql, user="default", database="turnstile")
    assert wide.status != 200, "the condition shows nothing"
    answer = as_acme(server, sql)
    assert answer.status == 200 or (answer.code == 164 and "PREWHERE" in sql), answer.body


LIFTS = [
    "SELECT count() FROM turns SETTINGS additional_table_filters = {}",
    "SELECT count() FROM (SELECT * FROM turns SETTINGS additional_table_filters = {})",
    "SET additional_table_filters = {}",
    "SET readonly = 0",
    "SET profile = 'default'",
    "SELECT count() FROM turns SETTINGS readonly = 0, additional_table_filters = {}",
    "SELECT count() FROM turns SETTINGS allow_experimental_analyzer = 0",
    "CREATE TABLE mine (a Int8) ENGINE = Memory",
    "INSERT INTO turns (tenant_id) VALUES ('beta-secret')",
    "ALTER TABLE turns DELETE WHERE 1",
]


@pytest.mark.parametrize("sql", LIFTS)
def test_the_row_filter_cannot_be_lifted_by_words(server: Running, sql: str) -> None:
    answer = as_acme(server, sql, session_id="one")
    assert answer.status != 200 or answer.body in (b"", b"1\n"), "refused, or in vain"
    assert as_acme(server, "SELECT count() FROM turns", session_id="one").body == b"1\n"


@pytest.mark.parametrize(
    "parameters",
    [
        {"additional_table_filters": "{}"},
        {"additional_table_filters": "{'turnstile.turns':'1'}"},
        {"readonly": "0"},
        {"readonly": "2"},
        {"allow_experimental_analyzer": "0"},
        {"profile": "default"},
    ],
)
def test_the_row_filter_cannot_be_lifted_by_url(
    server: Running, parameters: dict[str, str]
) -> None:
    sql = "SELECT count() FROM turns"
    for more in (parameters, {**parameters, "session_id": "two"}):
        answer = as_acme(server, sql, **more)
        assert answer.status != 200 or answer.body == b"1\n", answer.body
    assert as_acme(server, sql, session_id="two").body == b"1\n"


def test_a_session_of_another_user_does_not_lift_the_row_filter(server: Running) -> None:
    made = ask(server.base, "SET max_threads = 1", session_id="shared", user="default")
    assert made.status == 200
    assert as_acme(server, "SELECT count() FROM turns", session_id="shared").body == b"1\n"


def test_a_table_made_later_is_filtered_too(server: Running) -> None:
    assert as_acme(server, "SELECT 1", session_id="kept").status == 200
    made = "CREATE TABLE turnstile.later ENGINE = MergeTree ORDER BY tenant_id AS SELECT * FROM turnstile.turns"
    assert ask(server.base, made).status == 200
    assert as_acme(server, "SELECT tenant_id FROM later", session_id="kept").body == b"acme\n"
    assert ask(server.base, "DROP TABLE turnstile.later").status == 200


def test_the_client_works_with_sessions(server: Running) -> None:
    client = clickhouse_connect.get_client(
        host=server.host, port=server.port, username="acme", database="turnstile"
    )
    for _ in range(2):
        rows = client.query("SELECT tenant_id, turns FROM tenant_days").result_rows
        assert rows == [("acme", 1)]
    client.close()


def test_a_user_of_several_tenants_sees_the_rows_of_each(server: Running) -> None:
    sql = "SELECT uniqExact(tenant_id) FROM session_events"
    assert ask(server.base, sql, user="both").body == b"1\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('tenants = ["acme"]', r"users.x.readonly: must be 1 for a user with tenants"),
        ("readonly = 1\ntenants = []", r'users.x.tenants: a list of tenants, such as \["acme"\]'),
        ('readonly = 1\ntenants = "acme"', r"users.x.tenants: a list"),
        ('readonly = 1\ntenants = ["a\' OR 1"]', r"users.x.tenants: a list"),
        (
            'readonly = 1\ntenants = ["a"]\n[users.x.settings]\nadditional_table_filters = "{}"',
            r"additional_table_filters: is made from tenants",
        ),
    ],
)
def test_a_faulty_users_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "users.toml").write_text(f"[users.x]\n{text}\n")
    with pytest.raises(UsersFileError, match=said):
        load_users(tmp_path / "users.toml")
