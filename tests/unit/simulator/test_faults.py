"""Which request meets a fault, and what a faulty stream lets through."""

from typing import Any

import msgspec
import pytest
from starlette.types import Message

from infra.simulator.errors import ApiError
from infra.simulator.faults.rules import Fault, Faults, decode_rules
from infra.simulator.faults.streams import FaultyStream

pytestmark = pytest.mark.unit


def rules(*bodies: dict[str, Any]) -> Faults:
    return Faults(1, decode_rules(msgspec.json.encode({"rules": list(bodies)})))


def struck(faults: Faults, times: int, path: str = "/v1/sessions/s/events") -> list[int]:
    """The numbers (from 1) of the requests that met a fault."""
    found = []
    for number in range(1, times + 1):
        due = [
            rule for rule in faults.candidates("POST", path) if rule.due(b"body text", {"a": "b"})
        ]
        found += [number] * bool(due)
    return found


def a_rule(**match: Any) -> dict[str, Any]:
    return {"match": match, "fault": {"kind": "respond"}}


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, [1, 2, 3, 4]),
        ({"nth": 2}, [2]),
        ({"every": 2}, [2, 4]),
        ({"times": 1}, [1]),
        ({"method": "GET"}, []),
        ({"path": "events$"}, [1, 2, 3, 4]),
        ({"path": "stream$"}, []),
        ({"body": "text"}, [1, 2, 3, 4]),
        ({"body": "other"}, []),
        ({"session": {"a": "b"}}, [1, 2, 3, 4]),
        ({"session": {"a": "c"}}, []),
    ],
)
def test_a_rule_matches_what_all_its_fields_describe(
    match: dict[str, Any], expected: list[int]
) -> None:
    assert struck(rules(a_rule(**match)), 4) == expected


def test_probability_follows_the_seed() -> None:
    first = struck(rules(a_rule(probability=0.3)), 200)
    assert first == struck(rules(a_rule(probability=0.3)), 200)
    assert 30 < len(first) < 90


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"{", "fault rules"),
        (b'{"rules":[{"fault":{"kind":"explode"}}]}', "kind"),
        (b'{"rules":[{"fault":{"kind":"drop"},"match":{"paht":"x"}}]}', "paht"),
        (b'{"rules":[{"fault":{"kind":"drop"},"match":{"path":"("}}]}', "unterminated"),
    ],
)
def test_wrong_rules_are_named(text: bytes, word: str) -> None:
    with pytest.raises(ApiError, match=word):
        decode_rules(text)


async def spoiled(fault: Fault) -> tuple[bytes, bool]:
    """What a stream of a comment and three records becomes; whether it was ended."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    stream = FaultyStream(fault, {}, send)
    headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    await stream({"type": "http.response.start", "status": 200, "headers": headers})
    for body in (b": connected\n\n", b"data: 1\n\ndata: 2\n\n", b"data: 3\n\n"):
        await stream({"type": "http.response.body", "body": body, "more_body": True})
    ended = any(not m.get("more_body", True) for m in sent[1:])
    return b"".join(m["body"] for m in sent[1:]), ended


async def test_a_cut_ends_cleanly_after_so_many_events() -> None:
    assert await spoiled(Fault("cut", after=1)) == (b": connected\n\ndata: 1\n\n", True)


async def test_silence_swallows_all_and_keeps_the_stream_open() -> None:
    assert await spoiled(Fault("silent", after=2)) == (
        b": connected\n\ndata: 1\n\ndata: 2\n\n",
        False,
    )


async def test_an_error_event_ends_the_stream() -> None:
    body, ended = await spoiled(Fault("error_event", after=1))
    assert ended
    assert body.endswith(b"\n\n")
    assert b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"' in body


async def test_bad_json_comes_once_and_the_stream_goes_on() -> None:
    body, ended = await spoiled(Fault("bad_json", after=1))
    assert not ended
    assert b"data: 3" in body
    data = body.split(b"\n\n")[2].partition(b"data: ")[2]
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(data)


async def test_a_duplicate_is_sent_right_after_its_event() -> None:
    body, _ = await spoiled(Fault("duplicate", after=2))
    assert [body.count(b"data: %d" % n) for n in (1, 2, 3)] == [1, 1, 2]


async def test_an_answer_that_is_no_stream_passes() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    stream = FaultyStream(Fault("cut"), {}, send)
    await stream({"type": "http.response.start", "status": 404, "headers": []})
    await stream({"type": "http.response.body", "body": b"{}"})
    assert sent[-1]["body"] == b"{}"
