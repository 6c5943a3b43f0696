"""The broker's jars: their locked list, and their files on this machine.

`jars.lock` is the closed list: one `sha256  group:artifact:version` a line. A jar enters the
cache only after its sha256 matched, by an atomic rename, so a cache entry is always whole and
two starts at once cannot disturb each other. With all jars cached nothing touches the network.
"""

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

LOCK_FILE = Path(__file__).with_name("jars.lock")
MAVEN_CENTRAL = "https://repo.maven.apache.org/maven2"
_ATTEMPTS = 3
_PARALLEL = 6  # polite to the repository, and enough to fill a line
_TIMEOUT_S = 30

Progress = Callable[[str], None]


class JarError(RuntimeError):
    """A jar could not be fetched or is not the one the lock names; says which and what to do."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked jar. `name` is its file name in the cache, unique by checksum."""

    coordinate: str
    sha256: str

    @property
    def name(self) -> str:
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}-{self.sha256[:12]}.jar"


def read_lock(path: Path = LOCK_FILE) -> list[Jar]:
    """The jars of a lock file, in file order (which is the class path's order)."""
    lines = (line.split("#", 1)[0].split() for line in path.read_text().splitlines())
    return [Jar(coordinate=words[1], sha256=words[0]) for words in lines if words]


def ensure_jars(
    cache: Path, progress: Progress, *, repository: str = MAVEN_CENTRAL, lock: Path = LOCK_FILE
) -> list[Path]:
    """Fetch what the cache lacks and return the paths of all jars.

    Raises JarError when a jar cannot be had or its checksum differs; the cache is then as before
    but for the jars that did match.
    """
    jars = read_lock(lock)
    cache.mkdir(parents=True, exist_ok=True)
    if missing := [jar for jar in jars if not (cache / jar.name).exists()]:
        with _one_at_a_time(cache):
            missing = [jar for jar in missing if not (cache / jar.name).exists()]
            _fetch_all(missing, cache, progress, repository)
    return [cache / jar.name for jar in jars]


@contextmanager
def _one_at_a_time(cache: Path) -> Iterator[None]:
    with (cache / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _fetch_all(jars: list[Jar], cache: Path, progress: Progress, repository: str) -> None:
    if not jars:
        return
    progress(f"kafka: fetching {len(jars)} jars from {repository} into {cache}")
    with ThreadPoolExecutor(_PARALLEL) as pool:
        waiting = [pool.submit(_fetch, jar, cache, repository) for jar in jars]
        try:
            _report(waiting, progress)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _report(waiting: list[Future[int]], progress: Progress) -> None:
    size = 0
    for done, future in enumerate(as_completed(waiting), start=1):
        size += future.result()
        if done % 5 == 0 or done == len(waiting):
            progress(f"kafka: {done} of {len(waiting)} jars, {size / 1e6:.0f} MB")


def _fetch(jar: Jar, cache: Path, repository: str) -> int:
    """Download one jar into the cache; returns its size in bytes."""
    staging = Path(mkdtemp(prefix=".staging-", dir=cache))
    try:
        path = _verified(jar, staging, repository)
        size = path.stat().st_size
        path.replace(cache / jar.name)
        return size
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _verified(jar: Jar, staging: Path, repository: str) -> Path:
    reason = ""
    for attempt in range(_ATTEMPTS):
        try:
            path = _download(jar, staging / str(attempt), repository)
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
            reason = f"could not be fetched: {error}"
            if "CERTIFICATE_VERIFY_FAILED" in reason:
                _trust_what_the_machine_trusts()
            continue
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found == jar.sha256:
            return path
        reason = f"has sha256 {found}, but {LOCK_FILE.name} says {jar.sha256}"
    raise JarError(
        f"{jar.coordinate} {reason}. Check the network (or set TURNSTILE_MAVEN_URL to a mirror), "
        "or set TURNSTILE_KAFKA_BOOTSTRAP to a broker of your own."
    )


def _trust_what_the_machine_trusts() -> None:
    """Behind a proxy with a certificate of its own, only the machine's store knows it."""
    import truststore

    truststore.inject_into_ssl()


def _download(jar: Jar, folder: Path, repository: str) -> Path:
    from jgo.maven import MavenContext, PythonResolver  # slow to import, needed once per machine

    group, artifact, version = jar.coordinate.split(":")
    context = MavenContext(
        repo_cache=folder,
        resolver=PythonResolver(),
        remote_repos={"central": repository},
        timeout=_TIMEOUT_S,
    )
    return Path(context.project(group, artifact).at_version(version).artifact().resolve())
