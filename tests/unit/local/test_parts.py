"""The small answers behind the stack: jars, Java, properties, logs, ports, processes."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from infra.kafka.broker import Broker, command, properties
from infra.kafka.jars import JarError, ensure_jars, read_lock
from infra.kafka.java import parse_version
from infra.local.folders import Folders
from infra.local.kafka_classes import class_archive
from infra.local.logs import rotate, tail
from infra.local.ports import free_ports, is_free
from infra.local.processes import alive, is_part
from infra.local.runner import ended
from infra.postgres.databases import database_name

pytestmark = pytest.mark.unit


def test_every_jar_is_pinned_by_checksum() -> None:
    jars = read_lock()
    assert "org.apache.kafka:kafka-clients:4.1.1" in {jar.coordinate for jar in jars}
    assert all(len(jar.sha256) == 64 for jar in jars)
    assert len({jar.name for jar in jars}) == len(jars)


def test_a_full_cache_needs_no_network(tmp_path: Path) -> None:
    for jar in read_lock():
        (tmp_path / jar.name).touch()
    said: list[str] = []
    assert len(ensure_jars(tmp_path, said.append, repository="http://127.0.0.1:1")) == 46
    assert said == []


def test_an_unreachable_repository_names_jar_and_way_out(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text(f"{'0' * 64}  org.example:thing:1.0\n")
    with pytest.raises(JarError, match=r"org.example:thing:1.0 .*TURNSTILE_MAVEN_URL"):
        ensure_jars(tmp_path / "c", lambda _: None, repository="http://127.0.0.1:1", lock=lock)
    assert list((tmp_path / "c").glob("*.jar")) == []


@pytest.mark.parametrize(
    ("text", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ("command not found", None),
    ],
)
def test_the_major_version_of_java_is_read_from_its_output(text: str, major: int | None) -> None:
    assert parse_version(text) == major


def test_the_broker_listens_on_this_machine_only() -> None:
    broker = Broker(Path("java"), [], Path("/data"), port=1, controller_port=2)
    text = properties(broker)
    assert "listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2\n" in text
    assert "auto.create.topics.enable=false\n" in text
    assert "0.0.0.0" not in text


def test_the_broker_takes_its_classes_from_an_archive_of_this_java_and_these_jars(
    tmp_path: Path,
) -> None:
    java, newer = tmp_path / "java", tmp_path / "newer"
    java.touch()
    newer.touch()
    jars = [Path("a.jar"), Path("b.jar")]
    archive = class_archive(tmp_path, java, jars)
    assert archive == class_archive(tmp_path, java, jars)
    assert archive not in (class_archive(tmp_path, newer, jars), class_archive(tmp_path, java, []))
    broker = Broker(java, jars, tmp_path, port=1, controller_port=2, archive=archive)
    assert f"-XX:SharedArchiveFile={archive}" in command(broker)
    assert f"-XX:ArchiveClassesAtExit={archive}" in command(replace(broker, archives=True))
    assert not [word for word in command(replace(broker, archive=None)) if "rchive" in word]


def test_a_log_beyond_its_bound_is_moved_and_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 11)
        assert rotate(log, limit=10)
        writer.write(b"new")
    assert log.read_bytes() == b"new"
    assert (tmp_path / "a.log.1").read_bytes() == b"x" * 11
    assert not rotate(log, limit=10)


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert tail(log) == "    (no log)"
    log.write_text("one\ntwo\nthree\n")
    assert tail(log, lines=2) == "    two\n    three"


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(is_free(port) for port in ports)


def test_a_process_without_our_marks_is_not_ours(tmp_path: Path) -> None:
    assert alive(os.getpid())
    assert not is_part(os.getpid(), "gateway", tmp_path)
    assert not is_part(2**22 + 1, "gateway", tmp_path)


def test_exit_codes_are_told_in_words() -> None:
    assert (ended(1), ended(-9)) == ("exit code 1", "killed by signal 9")


def test_a_url_without_a_database_is_refused() -> None:
    assert database_name("postgresql+asyncpg://u@h:1/turnstile") == "turnstile"
    with pytest.raises(ValueError, match="database name"):
        database_name("postgresql+asyncpg://u@h:1/")


def test_every_part_has_its_own_files(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    assert folders.pid_file("gateway") == tmp_path / "run" / "gateway.pid"
    assert folders.log_file("gateway") == tmp_path / "log" / "gateway.log"
