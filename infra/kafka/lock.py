"""`python -m infra.kafka.lock` resolves the broker's jars and writes `jars.lock` anew.

Kafka and its log binding are resolved one after the other: resolved together, the managed
versions of the second would replace Kafka's own client by an older one.
"""

import hashlib
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.kafka.jars import LOCK_FILE

KAFKA = "org.apache.kafka:kafka_2.13:4.1.1"
# Kafka speaks SLF4J 1.7; without this binding the broker logs nothing at all.
LOG_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3"
_HEADER = "# sha256  group:artifact:version; written by `python -m infra.kafka.lock`, do not edit\n"


def resolve(roots: list[str], folder: Path) -> dict[str, str]:
    """The jars of the roots and all they need at run time: coordinate -> sha256.

    Raises ValueError when two roots ask for different versions of one artifact.
    """
    from jgo.maven import MavenContext, PythonResolver

    context = MavenContext(repo_cache=folder, resolver=PythonResolver(), timeout=30)
    versions: dict[tuple[str, str], str] = {}
    found: dict[str, str] = {}
    for root in roots:
        direct, others = context.resolver.resolve([context.create_dependency(root)])
        for dependency in [*direct, *others]:
            artifact = dependency.artifact
            key = (artifact.groupId, artifact.artifactId)
            if versions.setdefault(key, artifact.version) != artifact.version:
                raise ValueError(f"{':'.join(key)}: {versions[key]} and {artifact.version}")
            path = Path(artifact.resolve())
            coordinate = f"{key[0]}:{key[1]}:{artifact.version}"
            found[coordinate] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def main() -> None:
    with TemporaryDirectory() as folder:
        found = resolve([KAFKA, LOG_BINDING], Path(folder))
    lines = [f"{digest}  {coordinate}\n" for coordinate, digest in found.items()]
    LOCK_FILE.write_text(_HEADER + "".join(lines))
    sys.stdout.write(f"{LOCK_FILE}: {len(lines)} jars\n")


if __name__ == "__main__":
    main()
