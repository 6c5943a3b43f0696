"""What is found out of servers before a link is made, and what is not believed."""

from __future__ import annotations

from typing import Any

import pytest

from services.gateway.connect.answers import OauthAnswer
from services.gateway.connect.discovery import Discovery, ResourceMetadata, ServerMetadata
from services.gateway.connect.hosts import Hosts, is_public
from shared.errors import Rejected
from tests.fakes.connects import MemoryOauth

pytestmark = pytest.mark.unit
URL = "https://mcp.example/tools/sse"
ISSUER = "https://auth.example/tenant"
CALLBACK = "https://gateway.example/connect/callback"
RESOURCE = {
    "resource": "https://mcp.example/tools",
    "authorization_servers": [ISSUER],
    "scopes_supported": ["a", "b"],
}
SERVER = {
    "issuer": ISSUER,
    "authorization_endpoint": "https://auth.example/authorize",
    "token_endpoint": "https://auth.example/token",
    "registration_endpoint": "https://auth.example/register",
    "code_challenge_methods_supported": ["plain", "S256"],
}


def discovery(*said: tuple[str, Any]) -> tuple[MemoryOauth, Discovery]:
    oauth = MemoryOauth()
    for url, body in said:
        oauth.say(url, body)
    return oauth, Discovery(oauth, Hosts(()))


def asked(oauth: MemoryOauth) -> list[str]:
    return [url for url, _ in oauth.asked]


@pytest.mark.parametrize(
    "place",
    [
        "https://mcp.example/.well-known/oauth-protected-resource/tools/sse",
        "https://mcp.example/.well-known/oauth-protected-resource",
    ],
)
async def test_a_resource_is_found_beside_its_path_or_at_the_root(place: str) -> None:
    _, it = discovery((place, RESOURCE))
    found = await it.resource(URL)
    assert found.authorization_servers == (ISSUER,)
    assert found.scopes_supported == ("a", "b")


async def test_a_challenge_says_where_to_look_first() -> None:
    elsewhere = "https://meta.example/about"
    oauth, it = discovery((elsewhere, RESOURCE))
    challenge = f'Bearer realm="x", resource_metadata="{elsewhere}"'
    oauth.says[URL] = OauthAnswer(status=401, challenge=challenge)
    assert (await it.resource(URL)).authorization_servers == (ISSUER,)
    assert asked(oauth) == [URL, elsewhere]


async def test_a_challenge_that_names_a_private_address_is_not_followed() -> None:
    oauth, it = discovery()
    challenge = 'Bearer resource_metadata="https://169.254.169.254/latest"'
    oauth.says[URL] = OauthAnswer(status=401, challenge=challenge)
    with pytest.raises(Rejected, match="private"):
        await it.resource(URL)
    assert asked(oauth) == [URL]


async def test_a_server_that_says_nothing_is_its_own_authorization_server() -> None:
    _, it = discovery(
        (
            "https://mcp.example/.well-known/oauth-authorization-server",
            {**SERVER, "issuer": "https://mcp.example"},
        )
    )
    said = await it.resource(URL)
    assert said == ResourceMetadata(resource=URL)
    assert (await it.server(URL, said)).issuer == "https://mcp.example"


@pytest.mark.parametrize(
    "resource",
    ["https://evil.example/tools", "https://mcp.example/other", "https://mcp.example/tool", ""],
)
async def test_metadata_of_another_resource_are_not_believed(resource: str) -> None:
    place = "https://mcp.example/.well-known/oauth-protected-resource"
    _, it = discovery((place, {**RESOURCE, "resource": resource}))
    with pytest.raises(Rejected, match="another resource"):
        await it.resource(URL)


@pytest.mark.parametrize(
    "place",
    [
        "https://auth.example/.well-known/oauth-authorization-server/tenant",
        "https://auth.example/.well-known/openid-configuration/tenant",
        "https://auth.example/tenant/.well-known/openid-configuration",
    ],
)
async def test_an_authorization_server_is_found_in_three_places(place: str) -> None:
    _, it = discovery((place, SERVER))
    found = await it.server(URL, ResourceMetadata(URL, (ISSUER,)))
    assert found.token_endpoint == "https://auth.example/token"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"issuer": "https://evil.example"}, "another name"),
        ({"code_challenge_methods_supported": ["plain"]}, "S256"),
        ({"code_challenge_methods_supported": []}, "S256"),
        ({"token_endpoint": "http://auth.example/token"}, "https"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "https"),
        ({"token_endpoint": "https://127.0.0.1/token"}, "private"),
        ({"token_endpoint": None}, "no authorization server"),
    ],
)
async def test_what_a_server_says_of_itself_is_checked(more: dict[str, Any], words: str) -> None:
    place = "https://auth.example/.well-known/oauth-authorization-server/tenant"
    _, it = discovery((place, {**SERVER, **more}))
    with pytest.raises(Rejected, match=words):
        await it.server(URL, ResourceMetadata(URL, (ISSUER,)))


async def test_an_issuer_at_a_private_address_is_not_asked() -> None:
    oauth, it = discovery()
    with pytest.raises(Rejected, match="private"):
        await it.server(URL, ResourceMetadata(URL, ("https://10.0.0.1",)))
    assert not oauth.asked


def server(**more: Any) -> ServerMetadata:
    return ServerMetadata(
        issuer=ISSUER,
        authorization_endpoint=SERVER["authorization_endpoint"],  # type: ignore[arg-type]
        token_endpoint=SERVER["token_endpoint"],  # type: ignore[arg-type]
        **{"registration_endpoint": SERVER["registration_endpoint"], **more},
    )


@pytest.mark.parametrize(
    ("supported", "asks"),
    [
        (("none", "client_secret_basic"), "none"),
        (("client_secret_post",), "client_secret_post"),
        (("client_secret_post", "client_secret_basic"), "client_secret_basic"),
        (("private_key_jwt",), "client_secret_basic"),
    ],
)
async def test_a_client_is_registered_as_the_server_takes_it(
    supported: tuple[str, ...], asks: str
) -> None:
    oauth, it = discovery(("https://auth.example/register", {"client_id": "c1"}))
    client = await it.register(server(token_endpoint_auth_methods_supported=supported), CALLBACK)
    sent = oauth.asked[-1][1]["json"]
    assert sent["redirect_uris"] == [CALLBACK]
    assert sent["token_endpoint_auth_method"] == asks
    assert (client.id, client.secret, client.auth) == ("c1", None, "none")


@pytest.mark.parametrize(
    "answer",
    [
        OauthAnswer(status=403, body=b"{}"),
        OauthAnswer(status=201, body=b"{}"),
        OauthAnswer(
            status=201,
            body=b'{"client_id": "c", "client_secret": "s", "token_endpoint_auth_method": "tls"}',
        ),
    ],
)
async def test_a_server_that_does_not_register_this_gateway_is_said(answer: OauthAnswer) -> None:
    oauth, it = discovery()
    oauth.says["https://auth.example/register"] = answer
    with pytest.raises(Rejected, match="client_id"):
        await it.register(server(), CALLBACK)


async def test_a_server_that_registers_nobody_says_what_to_register() -> None:
    _, it = discovery()
    with pytest.raises(Rejected, match=CALLBACK) as caught:
        await it.register(server(registration_endpoint=None), CALLBACK)
    assert caught.value.field == "client_id"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        *((one, False) for one in ("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1")),
        *((one, False) for one in ("169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1")),
        *((one, False) for one in ("::1", "::", "fe80::1", "fd00::1", "ff02::1")),
        *((one, False) for one in ("::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::")),
    ],
)
def test_which_addresses_are_the_internets(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_a_named_host_may_be_private_on_the_port_that_was_named() -> None:
    hosts = Hosts(("mcp.internal", "127.0.0.1:9000"))
    for good in ("http://mcp.internal/x", "https://MCP.internal:1/", "http://127.0.0.1:9000/"):
        assert hosts.require(good, "f") == good
    for bad in (
        "http://127.0.0.1:9001/",
        "http://sub.mcp.internal/",
        "http://u@mcp.internal/",
        "https://mcp.example\\@mcp.internal/",
        "https:///x",
        "ftp://mcp.internal/",
        "https://mcp.example/ x",
    ):
        with pytest.raises(Rejected) as caught:
            hosts.require(bad, "f")
        assert caught.value.field == "f"
