"""What a client may ask over HTTP another service may ask through Kafka, and nothing else: one table for both."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from services.agent_worker.inbox.validate import validated
from services.agent_worker.ports import InputRecord
from shared.bus.envelope import Envelope
from shared.errors import Corrupt
from shared.session.content import MAX_CONTENT
from shared.session.inputs import REQUESTS, read_request
from tests.unit.gateway.desk import Desk
from tests.unit.resources import BAD_RESOURCES, FILE, REPOSITORY, STORE

pytestmark = pytest.mark.unit
AT = "2026-11-21T12:00:00Z"
WHOSE = {"tenant_id": "acme", "session_id": "ses_1", "at": AT}
GOOD: dict[str, dict[str, Any]] = {
    "session.requested": {"user_id": "u1"},
    "turn.requested": {"user_id": "u1", "turn_id": "t1", "content": "hello"},
    "interrupt.requested": {},
    "tool.confirmed": {"tool_use_id": "sevt_1", "result": "deny"},
    "tool.answered": {"custom_tool_use_id": "sevt_1", "content": "42"},
    "budget.raised": {"budget_usd": 5.0},
    "session.archive_requested": {},
    "session.erase_requested": {},
    "turn.dropped": {"turn_id": "t1"},
}
PATHS = {
    "session.requested": "/v1/sessions",
    "turn.requested": "/v1/sessions/ses_1/turns",
    "interrupt.requested": "/v1/sessions/ses_1/interrupt",
    "tool.confirmed": "/v1/sessions/ses_1/tool_confirmations",
    "tool.answered": "/v1/sessions/ses_1/tool_results",
    "budget.raised": "/v1/sessions/ses_1/budget",
    "session.archive_requested": "/v1/sessions/ses_1/archive",
}
# What the gateway knows by itself.
OURS = {"turn.requested": ("user_id",)}
GONE = object()
EITHER = ("turn.requested", "content")
OUTCOME = {"description": "a page", "rubric": {"type": "text", "content": "one page"}}
PNG = base64.b64encode(b"\x89PNG").decode()


def asked(**change: Any) -> dict[str, Any]:
    """An outcome in place of a content, with this changed; `on_busy` is the turn's own."""
    more = {"on_busy": change.pop("on_busy")} if "on_busy" in change else {}
    wanted = {name: value for name, value in {**OUTCOME, **change}.items() if value is not GONE}
    return {"content": GONE, "outcome": wanted, **more}


def image(**source: Any) -> list[dict[str, Any]]:
    return [{"type": "image", "source": source}]


def document(source: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return [{"type": "document", "source": source, **more}]


def result(**change: Any) -> list[dict[str, Any]]:
    block = {
        "type": "search_result",
        "source": "https://a.example",
        "title": "A",
        "content": [{"type": "text", "text": "a"}],
        "citations": {"enabled": True},
    }
    return [{name: value for name, value in (block | change).items() if value is not GONE}]


# name: the content, the field that is wrong, a word of how to put it right
BAD_CONTENT: dict[str, tuple[Any, str, str]] = {
    "a number": (7, "content", "a text or a list"),
    "null": (None, "content", "a text or a list"),
    "an object": ({"text": "a"}, "content", "a text or a list"),
    "no blocks": ([], "content", "must not be empty"),
    "a block that is none": ([5], "content[0]", "an object"),
    "a block without type": ([{"text": "a"}], "content[0].type", "required"),
    "an unknown block": ([{"type": "video"}], "content[0].type", "text, image or document"),
    "a type that is no text": ([{"type": 5}], "content[0].type", "a text"),
    "a redacted block": ([{"type": "redacted"}], "content[0].type", "text, image or document"),
    "a text that is none": ([{"type": "text", "text": 5}], "content[0].text", "a text"),
    "a text without text": ([{"type": "text"}], "content[0].text", "required"),
    "an empty text": ([{"type": "text", "text": ""}], "content[0].text", "must not be empty"),
    "a field too many": (
        [{"type": "text", "text": "a", "cache_contrl": {}}],
        "content[0].cache_contrl",
        "spelling",
    ),
    "an image without source": ([{"type": "image"}], "content[0].source", "required"),
    "a source that is none": (
        [{"type": "image", "source": "x"}],
        "content[0].source",
        "an object",
    ),
    "an unknown source": (image(type="ftp"), "content[0].source.type", "base64, url or file"),
    "no media type": (image(type="base64", data=PNG), "content[0].source.media_type", "required"),
    "a page for an image": (
        image(type="base64", media_type="text/html", data=PNG),
        "content[0].source.media_type",
        "image/png",
    ),
    "no data": (image(type="base64", media_type="image/png"), "content[0].source.data", "required"),
    "bad base64": (
        image(type="base64", media_type="image/png", data="%%%"),
        "content[0].source.data",
        "base64",
    ),
    "base64 cut short": (
        image(type="base64", media_type="image/png", data=PNG[:-1]),
        "content[0].source.data",
        "padding",
    ),
    "a data address": (
        image(type="base64", media_type="image/png", data=f"data:image/png;base64,{PNG}"),
        "content[0].source.data",
        "data: prefix",
    ),
    "no address": (image(type="url"), "content[0].source.url", "required"),
    "an address nobody fetches": (
        image(type="url", url="file:///etc/passwd"),
        "content[0].source.url",
        "https",
    ),
    "no file": (image(type="file", file_id=""), "content[0].source.file_id", "must not be empty"),
    "a web page for a document": (
        document({"type": "text", "media_type": "text/html", "data": "<p>"}),
        "content[0].source.media_type",
        "text/plain",
    ),
    "an image for a document": (
        document({"type": "base64", "media_type": "image/png", "data": PNG}),
        "content[0].source.media_type",
        "application/pdf",
    ),
    "bad base64 of a document": (
        document({"type": "base64", "media_type": "application/pdf", "data": "a b"}),
        "content[0].source.data",
        "base64",
    ),
    "a title that is none": (
        document({"type": "file", "file_id": "file_1"}, title=5),
        "content[0].title",
        "a text",
    ),
    "the second block": (
        [{"type": "text", "text": "a"}, {"type": "image"}],
        "content[1].source",
        "required",
    ),
}
BAD: list[tuple[str, str, dict[str, Any], str, str]] = [
    *(
        (f"{kind}: {name}", kind, {"content": content}, field, word)
        for kind in ("turn.requested", "tool.answered")
        for name, (content, field, word) in BAD_CONTENT.items()
    ),
    ("nothing said", "turn.requested", {"content": ""}, "content", ""),
    ("white space", "turn.requested", {"content": " \n\u3000"}, "content", "say something"),
    (
        "a blank block",
        "turn.requested",
        {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": " "}]},
        "content[1].text",
        "say something",
    ),
    ("a result", "turn.requested", {"content": result()}, "content[0].type", "document"),
    ("an empty result", "tool.answered", {"content": ""}, "content", "must not be empty"),
    (
        "a result of no page",
        "tool.answered",
        {"content": result(source=GONE)},
        "content[0].source",
        "required",
    ),
    (
        "a result's block",
        "tool.answered",
        {"content": result(content=[{"type": "text", "text": 1}])},
        "content[0].content[0].text",
        "a text",
    ),
    (
        "citations",
        "tool.answered",
        {"content": result(citations={})},
        "content[0].citations.enabled",
        "required",
    ),
    ("no content", "turn.requested", {"content": GONE}, "content", "required"),
    ("both", "turn.requested", {"outcome": OUTCOME}, "outcome", "in place of content"),
    ("coalesced outcome", "turn.requested", asked(on_busy="coalesce"), "on_busy", "by itself"),
    ("steering outcome", "turn.requested", asked(on_busy="steer"), "on_busy", "by itself"),
    ("no description", "turn.requested", asked(description=" "), "outcome.description", "empty"),
    ("no rubric", "turn.requested", asked(rubric=GONE), "outcome.rubric", "required"),
    (
        "blank rubric",
        "turn.requested",
        asked(rubric={"type": "text", "content": "\n"}),
        "outcome.rubric.content",
        "empty",
    ),
    ("iterations", "turn.requested", asked(max_iterations=21), "outcome.max_iterations", "20"),
    (
        "odd rubric",
        "turn.requested",
        asked(rubric={"type": "url"}),
        "outcome.rubric.type",
        "text or file",
    ),
    ("bad turn id", "turn.requested", {"turn_id": "a b"}, "turn_id", "1 to 128"),
    ("long turn id", "turn.requested", {"turn_id": "t" * 129}, "turn_id", "1 to 128"),
    ("unknown on_busy", "turn.requested", {"on_busy": "wait"}, "on_busy", "enqueue, interrupt"),
    ("a misspelt field", "turn.requested", {"contnet": "a"}, "contnet", "spelling"),
    ("no user", "session.requested", {"user_id": GONE}, "user_id", "required"),
    ("null user", "session.requested", {"user_id": None}, "user_id", "a text"),
    ("bad user", "session.requested", {"user_id": "a/b"}, "user_id", "1 to 128"),
    ("no agent's name", "session.requested", {"agent": ""}, "agent", "must not be empty"),
    ("long agent", "session.requested", {"agent": "a" * 129}, "agent", "at most 128"),
    ("long title", "session.requested", {"title": "t" * 257}, "title", "at most 256"),
    ("negative budget", "session.requested", {"budget_usd": -1}, "budget_usd", "more than 0"),
    ("no budget", "session.requested", {"budget_usd": 0}, "budget_usd", "more than 0"),
    (
        "too large a budget",
        "session.requested",
        {"budget_usd": 1e7},
        "budget_usd",
        "at most 1000000",
    ),
    ("budget in words", "session.requested", {"budget_usd": "5"}, "budget_usd", "a number"),
    ("unknown mode", "session.requested", {"mode": "fast"}, "mode", "interactive or background"),
    (
        "too much metadata",
        "session.requested",
        {"metadata": {str(number): "x" for number in range(17)}},
        "metadata",
        "at most 16 entries",
    ),
    ("metadata no text", "session.requested", {"metadata": {"a": 1}}, "metadata[...]", "a text"),
    (
        "metadata too long",
        "session.requested",
        {"metadata": {"a": "x" * 513}},
        "metadata[...]",
        "at most 512",
    ),
    (
        "metadata's key too long",
        "session.requested",
        {"metadata": {"a" * 65: "x"}},
        "metadata",
        "a key of it must have at most 64",
    ),
    ("too many vaults", "session.requested", {"vault_ids": ["v"] * 51}, "vault_ids", "at most 50"),
    ("bad vault", "session.requested", {"vault_ids": ["v", 1]}, "vault_ids[1]", "a text"),
    *(
        (f"resources: {name}", "session.requested", {"resources": resources}, field, word)
        for name, (resources, field, word) in BAD_RESOURCES.items()
    ),
    ("no call", "tool.confirmed", {"tool_use_id": GONE}, "tool_use_id", "required"),
    ("no call's name", "tool.confirmed", {"tool_use_id": ""}, "tool_use_id", "must not be empty"),
    ("no verdict", "tool.confirmed", {"result": GONE}, "result", "required"),
    ("bad verdict", "tool.confirmed", {"result": "maybe"}, "result", "allow or deny"),
    (
        "a reason to allow",
        "tool.confirmed",
        {"result": "allow", "deny_message": "no"},
        "deny_message",
        "denial",
    ),
    (
        "too long a reason",
        "tool.confirmed",
        {"deny_message": "n" * 10_001},
        "deny_message",
        "at most 10000",
    ),
    ("no custom call", "tool.answered", {"custom_tool_use_id": GONE}, "custom_tool_use_id", ""),
    ("is_error in words", "tool.answered", {"is_error": "no"}, "is_error", "true or false"),
    ("interrupt of what", "interrupt.requested", {"turn_id": "t"}, "turn_id", "spelling"),
    ("archive of what", "session.archive_requested", {"turn_id": "t"}, "turn_id", "spelling"),
]
FINE: list[tuple[str, dict[str, Any]]] = [
    *(
        (kind, {"content": content})
        for kind in ("turn.requested", "tool.answered")
        for content in (
            "👩‍👩‍👧 \0",
            [{"type": "text", "text": "a"}],
            image(type="base64", media_type="image/webp", data=PNG),
            image(type="url", url="HTTP://a.example/b?c"),
            image(type="file", file_id="file_1"),
            document({"type": "base64", "media_type": "application/pdf", "data": PNG}, title="T"),
            document({"type": "text", "media_type": "text/plain", "data": "x"}, context="c"),
            document({"type": "url", "url": "https://a.example"}, title=None),
        )
    ),
    ("tool.answered", {"content": " "}),
    ("tool.answered", {"content": result(), "is_error": True}),
    ("tool.confirmed", {"result": "allow"}),
    ("tool.confirmed", {"result": "deny", "deny_message": "no"}),
    ("session.requested", {"title": "a\0b", "metadata": {"a": "b"}, "budget_usd": 0.01}),
    ("session.requested", {"agent": "a", "vault_ids": ["v"], "mode": "background"}),
    ("session.requested", {"resources": []}),
    (
        "session.requested",
        {
            "resources": [
                FILE,
                {**FILE, "mount_path": "/data/ü b.csv"},
                REPOSITORY,
                {
                    **REPOSITORY,
                    "mount_path": "/workspace/other",
                    "checkout": {"type": "branch", "name": "main"},
                },
                {
                    "type": "github_repository",
                    "url": "https://github.example:8443/acme/.github",
                    "checkout": {"type": "commit", "sha": "0A1b" * 10},
                },
                {**STORE, "access": "read_only", "instructions": "the customer's wishes"},
            ]
        },
    ),
    ("turn.requested", {"on_busy": "coalesce"}),
    ("turn.requested", {"on_busy": "steer"}),
    ("turn.requested", asked()),
    ("turn.requested", asked(rubric={"type": "file", "file_id": "file_1"}, max_iterations=20)),
    ("interrupt.requested", {}),
    ("session.archive_requested", {}),
]


def changed(fields: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (fields | change).items() if value is not GONE}


def refused_by_intake(kind: str, value: dict[str, Any]) -> Corrupt | None:
    """Why a record with this value becomes a dead letter; None for one that is filed."""
    envelope = Envelope("id-1", "/tests", kind, AT, "ses_1")
    record = InputRecord(b"ses_1", msgspec.json.encode(value), envelope.headers(), "t/0/0")
    try:
        validated(record, lambda _: True)
    except Corrupt as error:
        return error
    return None


async def answered(kind: str, fields: dict[str, Any]) -> Any:
    desk = Desk()
    if kind != "session.requested":
        await desk.open()
    body = {name: value for name, value in fields.items() if name not in OURS.get(kind, ())}
    async with desk.client() as client:
        method = "PUT" if kind == "budget.raised" else "POST"
        answer = await client.request(method, PATHS[kind], json=body)
    return answer, desk.inputs.published[-1] if desk.inputs.published else None


@pytest.mark.parametrize(
    ("kind", "change", "field", "word"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
async def test_what_one_refuses_the_other_does_and_both_name_field_and_fix(
    kind: str, change: dict[str, Any], field: str, word: str
) -> None:
    fields = changed(GOOD[kind], change)
    dead = refused_by_intake(kind, {**WHOSE, **fields})
    assert dead is not None, "intake files it"
    assert dead.reason == "invalid_field"
    assert str(dead).endswith(f" - at `$.{field}`")
    assert word in str(dead)
    assert "s3cret" not in str(dead)
    answer, _ = await answered(kind, fields)
    assert answer.status_code == 400, "the gateway accepts it"
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert f"{answer.json()['errors'][0]['message']} - at `$.{field}`" == str(dead)


@pytest.mark.parametrize(("kind", "change"), FINE)
async def test_what_one_takes_the_other_does_and_it_is_the_same(
    kind: str, change: dict[str, Any]
) -> None:
    fields = changed(GOOD[kind], change)
    assert refused_by_intake(kind, {**WHOSE, **fields}) is None
    answer, published = await answered(kind, fields)
    assert answer.status_code in (201, 202), answer.text
    envelope, value = published
    asked = msgspec.to_builtins(read_request(envelope.type, value))
    for name, given in changed(fields, dict.fromkeys(OURS.get(kind, ()), GONE)).items():
        assert without_nulls(asked[name]) == without_nulls(given)
    assert refused_by_intake(envelope.type, msgspec.json.decode(value)) is None


def without_nulls(value: Any) -> Any:
    """An optional field that says null is one that is left out."""
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


async def test_as_much_may_be_said_either_way() -> None:
    room = MAX_CONTENT - len('{"content":""}')
    for kind in ("turn.requested", "tool.answered"):
        asked = {**WHOSE, **GOOD[kind]}
        assert refused_by_intake(kind, {**asked, "content": "x" * room}) is None
        dead = refused_by_intake(kind, {**asked, "content": "x" * (MAX_CONTENT + 1)})
        assert dead is not None
        assert str(dead).endswith("- at `$.content`")
        assert "send less" in str(dead)
    desk = Desk()
    await desk.open()
    async with desk.client() as client:
        for size, status in ((room, 202), (room + 1, 413)):
            content = b'{"content":"%b"}' % (b"x" * size)
            answer = await client.post(PATHS["turn.requested"], content=content)
            assert answer.status_code == status


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_missing_member_is_named_in_every_kind_of_input(kind: str) -> None:
    whole = {**WHOSE, **GOOD[kind]}
    assert refused_by_intake(kind, whole) is None
    for name in whole:
        dead = refused_by_intake(kind, changed(whole, {name: GONE}))
        assert dead is not None, name
        instead = ", or an outcome in its place" if (kind, name) == EITHER else ""
        assert str(dead) == f"is missing: it is required{instead} - at `$.{name}`"
        null = refused_by_intake(kind, {**whole, name: None})
        assert null is not None, name
        assert str(null).startswith("must be ")
        assert str(null).endswith(f" - at `$.{name}`")


@pytest.mark.parametrize("kind", REQUESTS)
def test_every_field_of_every_kind_of_input_is_checked(kind: str) -> None:
    for name in REQUESTS[kind].__struct_fields__:
        dead = refused_by_intake(kind, {**WHOSE, **GOOD[kind], name: {"no": ["such"]}})
        assert dead is not None, name
        assert f"- at `$.{name}" in str(dead)


@pytest.mark.parametrize(
    ("kind", "body", "field"),
    [
        ("session.requested", r'{"user_id": "u1", "title": "a\ud800b"}', "title"),
        ("session.requested", r'{"user_id": "u1", "metadata": {"k": "\udc00"}}', "metadata.k"),
        ("session.requested", r'{"user_id": "u1", "metadata": {"\udc00": "v"}}', "metadata"),
        ("turn.requested", r'{"content": "\ud83d"}', "content"),
        (
            "turn.requested",
            r'{"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "\ud83d"}]}',
            "content[1].text",
        ),
        (
            "tool.confirmed",
            r'{"tool_use_id": "sevt_1", "result": "deny", "deny_message": "\ud83d"}',
            "deny_message",
        ),
        ("tool.answered", r'{"custom_tool_use_id": "sevt_1", "content": "\udfff"}', "content"),
    ],
)
async def test_half_a_character_is_refused_and_its_field_named(
    kind: str, body: str, field: str
) -> None:
    desk = Desk()
    await desk.open()
    async with desk.client() as client:
        answer = await client.post(PATHS[kind], content=body.encode())
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    whole = {**WHOSE, **GOOD[kind]}
    whole.pop(field.partition("[")[0].partition(".")[0], None)
    value = msgspec.json.encode(whole)[:-1] + b"," + body.encode()[1:]
    headers = Envelope("e1", "/other", kind, "", "ses_1").headers()
    with pytest.raises(Corrupt, match="half of a character") as caught:
        validated(InputRecord(b"ses_1", value, headers, "t/0/0"), lambda tenant: True)
    assert f"`$.{field}`" in str(caught.value)
