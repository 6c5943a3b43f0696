"""A secret shows nothing, whatever is done with it, and what is said about one is told only without it."""

from __future__ import annotations

import base64
import copy
import json
import pickle
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from services.gateway.vault_bodies import NewCredential
from shared.secret import MOST, Secret, read_secret, revealed, safe_words, secrets_in

pytestmark = pytest.mark.unit
VALUE = 'sk-live-"ü"-4711/+='
SECRET = Secret(VALUE)
BODY = {
    "auth": {
        "type": "mcp_oauth",
        "access_token": VALUE,
        "mcp_server_url": "https://mcp.example/sse",
        "refresh": {
            "client_id": "c",
            "refresh_token": "a-refresh",
            "token_endpoint": "https://auth.example/token",
            "token_endpoint_auth": {"type": "client_secret_basic", "client_secret": "a-client"},
        },
    }
}


@pytest.mark.parametrize(
    "written", [str, repr, "{}".format, lambda one: f"{one!r}", lambda one: f"{[one]}"]
)
def test_it_prints_as_stars(written: Callable[[Any], str]) -> None:
    assert VALUE not in written(SECRET)


@pytest.mark.parametrize(
    "written",
    [
        json.dumps,
        pickle.dumps,
        msgspec.json.encode,
        msgspec.msgpack.encode,
        msgspec.to_builtins,
        copy.deepcopy,
        hash,
        "{:>20}".format,
    ],
)
def test_it_cannot_be_written(written: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError) as caught:
        written(SECRET)
    assert VALUE not in str(caught.value)


def test_it_is_read_and_revealed_on_purpose_only() -> None:
    read = msgspec.convert(BODY, NewCredential, dec_hook=read_secret)
    assert VALUE not in repr(read)
    assert revealed(read) == BODY
    assert secrets_in(read) == [VALUE, "a-refresh", "a-client"]
    assert Secret("a") == Secret("a") != Secret("b")


@pytest.mark.parametrize("wrong", [7, "", "  ", "x" * (MOST + 1), ["sk-live"], {"a": "sk-live"}])
def test_what_is_wrong_with_one_says_nothing_of_it(wrong: Any) -> None:
    body = {"auth": {"type": "static_bearer", "token": wrong, "mcp_server_url": "https://a.b"}}
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(body, NewCredential, dec_hook=read_secret)
    assert "sk-live" not in str(caught.value)
    assert "$.auth.token" in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        VALUE,
        VALUE[:8],
        VALUE[-7:],
        VALUE.upper(),
        json.dumps({"token": VALUE}),
        quote(VALUE),
        VALUE.encode().hex(),
        base64.b64encode(f"client:{VALUE}".encode()).decode(),
        base64.b64encode(f"id:{VALUE}".encode()).decode(),
        base64.urlsafe_b64encode(f"c:{VALUE}".encode()).decode(),
    ],
)
def test_words_with_a_part_of_it_are_left_out(said: str) -> None:
    told = safe_words(f"the server refused {said}!", [VALUE])
    assert said not in told
    assert "refused" not in told


def test_other_words_are_told() -> None:
    words = "mcp_server_url: must be https"
    assert safe_words(words, [VALUE]) == words
    assert safe_words(words, []) == words
    assert safe_words("token abc was refused", ["abc"]) != "token abc was refused"
