"""The provider's delays and its prompt cache, as the simulator plays them."""

from __future__ import annotations

import argparse

import pytest

from infra.simulator.errors import ApiError
from infra.simulator.play.cache import PromptCache
from infra.simulator.play.delays import NONE, Delays, decode_delays, delays_of
from infra.simulator.play.usage import Tokens
from infra.simulator.settings import parse
from tests.unit.simulator.provider import Client, a_world, message

pytestmark = pytest.mark.unit
SECOND = 1_000_000


def test_provisioning_has_begun_with_the_session() -> None:
    delays = Delays(provision=4.0, provision_for="turn")
    assert delays.until_there(0, 0, "turn") == 4.0
    assert delays.until_there(0, 3 * SECOND, "turn") == 1.0
    assert delays.until_there(0, 9 * SECOND, "turn") == 0.0
    assert delays.until_there(0, 0, "tools") == 0.0


def test_the_first_token_takes_longer_for_what_is_not_in_the_cache() -> None:
    delays = Delays(first_token=1.0, uncached=0.1, cached=0.01)
    assert delays.until_token(Tokens(fresh=1_000, cache_write=2_000)) == pytest.approx(1.3)
    assert delays.until_token(Tokens(fresh=1_000, cache_read=2_000)) == pytest.approx(1.12)


def test_delays_are_read_from_the_command_line_and_over_http() -> None:
    wanted = Delays(create=0.5, provision=4.0, provision_for="turn")
    assert parse([]).delays == NONE
    assert parse(["--delays", "create=0.5,provision=4,provision_for=turn"]).delays == wanted
    assert decode_delays(b'{"create":0.5,"provision":4,"provision_for":"turn"}') == wanted


@pytest.mark.parametrize("text", ["create=-1", "create=601", "creat=1", "provision_for=nobody"])
def test_a_wrong_delay_is_named(text: str) -> None:
    name = text.partition("=")[0]
    with pytest.raises(argparse.ArgumentTypeError, match=name):
        delays_of(text)


def test_a_wrong_delay_over_http_is_refused() -> None:
    with pytest.raises(ApiError, match="create"):
        decode_delays(b'{"create":"soon"}')


@pytest.mark.parametrize("whom", ["turn", "tools"])
async def test_who_needs_the_sandbox_waits_for_it(whom: str) -> None:
    world = a_world()
    world.delays = decode_delays(b'{"provision":0.2,"provision_for":"%s"}' % whom.encode())
    client = Client(world)
    client.send(message("[[script: tools rounds=1 calls=1 swap=0]] go"))
    await client.idle("end_turn")
    made = {e.type: e.at or 0 for e in reversed(client.session.primary.log.processed)}
    waited = {
        kind: (made[kind] - client.session.created_at) / SECOND >= 0.19
        for kind in ("span.model_request_start", "agent.tool_result")
    }
    assert waited == {"span.model_request_start": whom == "turn", "agent.tool_result": True}


def test_a_prompt_below_the_minimum_is_never_cached() -> None:
    cache = PromptCache("claude-sonnet-5", "x" * 400)
    assert cache.request(10, 20) == Tokens(fresh=110, output=20)
    assert cache.request(10, 20) == Tokens(fresh=140, output=20)


def test_one_above_it_is_written_once_and_read_by_the_next_request() -> None:
    cache = PromptCache("claude-sonnet-5", "x" * 8_000)
    assert cache.request(10, 20) == Tokens(output=20, cache_write=2_010)
    assert cache.request(5, 20) == Tokens(output=20, cache_read=2_010, cache_write=25)


def test_a_conversation_grows_into_the_cache() -> None:
    cache = PromptCache("claude-sonnet-5", "x" * 4_000)
    assert cache.request(10, 50) == Tokens(fresh=1_010, output=50)
    assert cache.request(10, 0) == Tokens(cache_write=1_070)
    assert cache.request(10, 0) == Tokens(cache_read=1_070, cache_write=10)
