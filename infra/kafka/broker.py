"""A one-node broker: its properties, its storage, its command line.

KRaft, broker and controller in one JVM, listening on 127.0.0.1 only. Replication is 1, so an
acknowledged record is as safe as this machine's disk.
"""

import base64
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_FORMAT_TIMEOUT_S = 60
# The first of the JVM's two compilers only: one machine's broker is started more often than it is busy. Starting
# took 5.6 s of processor time without this and the archive of classes, 2.2 s with both.
_STARTS_FAST = ("-XX:TieredStopAtLevel=1", "-Xshare:auto")
_LOGGING = Path(__file__).with_name("log4j2.properties")


@dataclass(frozen=True, slots=True)
class Broker:
    """One broker. `folder` holds its data and its properties; both ports are on 127.0.0.1. `archive`: see
    `classes`; with `archives` the broker writes it when it ends."""

    java: Path
    jars: Sequence[Path]
    folder: Path
    port: int
    controller_port: int
    heap: str = "512m"
    archive: Path | None = None
    archives: bool = False

    @property
    def properties_file(self) -> Path:
        return self.folder / "server.properties"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def temporary(self) -> Path:
        """Where Java unpacks native libraries (zstd, snappy) to run them; `/tmp` may forbid that."""
        return self.folder / "tmp"

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"


def command(broker: Broker) -> list[str]:
    """The command line of the broker; the process it makes is the JVM itself."""
    memory = ["-Xms128m", f"-Xmx{broker.heap}", "-XX:+UseSerialGC"]
    return [*_java(broker, memory), "kafka.Kafka", str(broker.properties_file)]


def prepare(broker: Broker, environment: Mapping[str, str]) -> None:
    """Write the properties and format the storage unless it is formatted already.

    Raises RuntimeError with the tool's own words when formatting fails.
    """
    broker.data.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(broker.temporary, ignore_errors=True)  # what a kill has left
    broker.temporary.mkdir()
    broker.properties_file.write_text(properties(broker))
    if (broker.data / "meta.properties").exists():
        return
    tool = [*_java(broker, ["-Xmx128m"]), "kafka.tools.StorageTool"]
    arguments = ["format", "--ignore-formatted", "-t", _new_cluster_id()]
    done = subprocess.run(
        [*tool, *arguments, "-c", str(broker.properties_file)],
        capture_output=True,
        text=True,
        timeout=_FORMAT_TIMEOUT_S,
        env=dict(environment),
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"kafka: could not format {broker.data}: {done.stdout}{done.stderr}")


def properties(broker: Broker) -> str:
    """The text of server.properties."""
    controller = f"127.0.0.1:{broker.controller_port}"
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{controller}",
        "listeners": f"PLAINTEXT://{broker.bootstrap},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{broker.bootstrap}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(broker.data),
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "8",
        # Small segments are compacted soon. A broker that starts again reads this topic before it serves groups;
        # with 84,000 records in it 4.1.1, killed under load, was "out of sync" with it until its next start.
        "offsets.topic.segment.bytes": str(1024 * 1024),
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "8",
        # A publisher that leaves a transaction open holds up its partitions for all readers: so long at most. It is
        # what clients ask for by default.
        "transaction.max.timeout.ms": "60000",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # Names of topics are a closed list: a misspelt one must fail, not appear.
        "auto.create.topics.enable": "false",
        # A broker killed hard waits for the session of its former self before it serves again:
        # 1 s instead of 9. Broker and controller are one process, which misses itself never.
        "broker.session.timeout.ms": "1000",
        "broker.heartbeat.interval.ms": "250",
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _java(broker: Broker, options: Sequence[str]) -> list[str]:
    class_path = ":".join(str(jar) for jar in broker.jars)
    logging = f"-Dlog4j2.configurationFile={_LOGGING}"
    return [
        str(broker.java),
        *_STARTS_FAST,
        *_classes(broker),
        *options,
        f"-Djava.io.tmpdir={broker.temporary}",
        logging,
        "-cp",
        class_path,
    ]


def _classes(broker: Broker) -> list[str]:
    if broker.archive is None:
        return []
    does = "ArchiveClassesAtExit" if broker.archives else "SharedArchiveFile"
    return [f"-XX:{does}={broker.archive}"]


def _new_cluster_id() -> str:
    # One in 64 would begin with a dash, which the tool takes for an option: the first six bits are set to "A".
    raw = uuid.uuid4().bytes
    return base64.urlsafe_b64encode(bytes([raw[0] & 0x03]) + raw[1:]).decode().rstrip("=")
