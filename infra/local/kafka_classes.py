"""An archive of Kafka's classes, with which the broker starts in half the time. The JVM maps Kafka's classes
from an archive instead of reading and checking 8,000 of them out of jars (dynamic class data sharing, JEP 350).

The archive is made once, by a broker that starts in a folder of its own and ends. It fits one Java and one set of
jars, which its name says; the JVM looks again and does without one that does not fit.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from infra.kafka.broker import Broker, command, prepare
from infra.local.ports import free_ports

_TIMEOUT_S = 120.0
_STARTED = "Kafka Server started"


def class_archive(cache: Path, java: Path, jars: Sequence[Path]) -> Path:
    """Where the archive for this Java and these jars is, or will be."""
    real = java.resolve()
    names = "\n".join([str(real), str(real.stat().st_mtime_ns), *map(str, jars)])
    return cache / f"kafka-{hashlib.sha256(names.encode()).hexdigest()[:12]}.jsa"


def make_class_archive(
    archive: Path, java: Path, jars: Sequence[Path], environment: Mapping[str, str]
) -> None:
    """Make the archive, whole or not at all. Raises RuntimeError when the broker for it does not start and end."""
    with tempfile.TemporaryDirectory(prefix="turnstile-classes-") as folder:
        port, controller_port = free_ports(2)
        broker = Broker(java, jars, Path(folder), port, controller_port)
        prepare(broker, environment)
        made = archive.with_name(f"{archive.name}.{os.getpid()}")
        try:
            _run_once(command(replace(broker, archive=made, archives=True)), environment)
            made.replace(archive)
        except OSError as error:
            raise RuntimeError(f"kafka: no archive of its classes was made: {error}") from error
        finally:
            made.unlink(missing_ok=True)


def _run_once(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Start a broker and end it once it serves."""
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(environment)
    ) as process:
        assert process.stdout is not None
        watchdog = threading.Timer(_TIMEOUT_S, process.kill)
        watchdog.start()
        try:
            for line in process.stdout:
                if _STARTED in line:
                    process.send_signal(signal.SIGTERM)
            code = process.wait()
        finally:
            watchdog.cancel()
            process.kill()
    if code not in (0, 128 + signal.SIGTERM):
        raise RuntimeError(f"kafka: the broker that archives its classes ended with code {code}")
