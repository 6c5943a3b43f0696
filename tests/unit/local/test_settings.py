"""What the environment may ask of the local stack."""

from pathlib import Path

import pytest

from infra.local.addresses import (
    addresses_of,
    plain_environment,
    provider_environment,
    service_environment,
    simulated,
)
from infra.local.catalogue import ground, services, stop_rank
from infra.local.errors import StackError
from infra.local.keys import SIMULATOR_KEY, Keys, load_keys
from infra.local.settings import DEFAULT_PORTS, own_settings, read_settings

pytestmark = pytest.mark.unit
BARE = {"HOME": "/home/somebody", "PATH": "/usr/bin"}
KEYS = Keys(pairs="k1:a,k2:b:read,k3:a", made=False)


def test_defaults_are_those_of_the_contract() -> None:
    settings = read_settings(BARE)
    assert settings.ports == {
        "gateway": 8080,
        "kafka": 9092,
        "clickhouse": 8123,
        "postgres": 5433,
        "simulator": 8090,
    }
    assert settings.folders.root.name == "var"
    assert settings.cache == Path("/home/somebody/.cache/turnstile")
    assert [part.name for part in ground(settings)] == [
        "kafka",
        "postgres",
        "clickhouse",
        "simulator",
    ]


@pytest.mark.parametrize("value", ["x", "-1", "70000", "80 "])
def test_a_wrong_port_names_its_variable(value: str) -> None:
    with pytest.raises(StackError, match="TURNSTILE_GATEWAY_PORT"):
        read_settings({**BARE, "TURNSTILE_GATEWAY_PORT": value})


def test_port_0_means_a_free_one() -> None:
    ports = own_settings(Path("/nowhere"), BARE).ports
    assert set(ports) == set(DEFAULT_PORTS)
    assert len(set(ports.values())) == len(ports)
    assert 0 not in ports.values()


def test_an_address_from_outside_replaces_the_own_part() -> None:
    outside = {
        "TURNSTILE_KAFKA_BOOTSTRAP": "k:9092",
        "TURNSTILE_CLICKHOUSE_URL": "https://u:p@ch/turnstile",
        "TURNSTILE_DATABASE_URL": "sqlite+aiosqlite:///x",
        "ANTHROPIC_API_KEY": "real",
    }
    settings = read_settings({**BARE, **outside})
    assert ground(settings) == []
    assert addresses_of(settings).kafka == "k:9092"
    assert addresses_of(settings).clickhouse == "https://ch:8443"
    assert provider_environment(settings) == {"ANTHROPIC_API_KEY": "real"}


def test_a_provider_elsewhere_without_key_gets_the_stand_in_key() -> None:
    settings = read_settings({**BARE, "ANTHROPIC_BASE_URL": "http://sim:1"})
    assert not simulated(settings)
    assert provider_environment(settings) == {
        "ANTHROPIC_API_KEY": SIMULATOR_KEY,
        "ANTHROPIC_BASE_URL": "http://sim:1",
    }


def test_secrets_go_only_to_those_who_need_them() -> None:
    secret = {"ANTHROPIC_API_KEY": "real", "TURNSTILE_API_KEYS": KEYS.pairs}
    settings = read_settings({**BARE, **secret, "TURNSTILE_WORKERS": "2"})
    assert "real" not in str(plain_environment(settings)) + str(service_environment(settings, KEYS))
    parts = {part.name: part.environment for part in services(settings, KEYS)}
    assert set(parts) == {"gateway", "agent-worker-1", "agent-worker-2", "recorder", "watcher"}
    assert {n for n, env in parts.items() if "TURNSTILE_API_KEYS" in env} == {"gateway"}
    # The gateway asks for vaults itself: their secrets can't go by Kafka.
    assert {n for n, env in parts.items() if "ANTHROPIC_API_KEY" in env} == {
        "gateway",
        "agent-worker-1",
        "agent-worker-2",
    }
    assert all(env["TURNSTILE_TENANTS"] == "a,b" for env in parts.values())
    assert "real" not in repr(settings)
    assert "k1" not in repr(services(settings, KEYS)) + repr(KEYS)


def test_health_ports_are_all_different() -> None:
    parts = services(read_settings({**BARE, "TURNSTILE_WORKERS": "3"}), KEYS)
    ports = [p.environment["TURNSTILE_HEALTH_PORT"] for p in parts if p.name != "gateway"]
    assert len(set(ports)) == 5


def test_a_stack_apart_has_no_watcher(tmp_path: Path) -> None:
    """Tests and demos need none, unless they say so."""
    parts = services(own_settings(tmp_path, {**BARE, "TURNSTILE_WATCHER": "1"}), KEYS)
    assert "watcher" not in {part.name for part in parts}


def test_services_end_before_what_they_stand_on() -> None:
    order = ["gateway", "agent-worker-7", "watcher", "simulator", "clickhouse", "postgres", "kafka"]
    assert sorted(order, key=stop_rank) == order


def test_a_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    settings = own_settings(tmp_path, BARE)
    keys = load_keys(settings)
    assert keys.made
    assert keys.shown == keys.first == load_keys(settings).first
    assert settings.folders.keys_file.stat().st_mode & 0o777 == 0o600


def test_only_the_gateway_is_given_the_key_of_connect_links() -> None:
    mine = "a-connect-key-of-my-own-0123456789abcdef"
    for env, expected in (({}, KEYS.connect), ({"TURNSTILE_CONNECT_KEY": mine}, mine)):
        parts = {p.name: p.environment for p in services(read_settings({**BARE, **env}), KEYS)}
        assert parts.pop("gateway")["TURNSTILE_CONNECT_KEY"] == expected
        assert all("TURNSTILE_CONNECT_KEY" not in given for given in parts.values())
    assert KEYS.connect not in repr(KEYS)


@pytest.mark.parametrize("pairs", ["novalue", ":tenant", "key:", "good:a,bad"])
def test_malformed_keys_are_refused_without_showing_them(pairs: str) -> None:
    settings = read_settings({**BARE, "TURNSTILE_API_KEYS": pairs})
    with pytest.raises(StackError, match=r"TURNSTILE_API_KEYS: key:tenant") as caught:
        load_keys(settings)
    assert "novalue" not in str(caught.value)


def test_a_key_from_outside_is_not_printed() -> None:
    settings = read_settings({**BARE, "TURNSTILE_API_KEYS": "secret:a"})
    assert "secret" not in load_keys(settings).shown
