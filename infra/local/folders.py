"""The layout of a stack's state folder (`var/`)."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Folders:
    """The layout of a stack's state folder. `root` is absolute."""

    root: Path

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def marker(self) -> Path:
        """Tells a folder made by a stack from any other, before it is emptied."""
        return self.root / ".turnstile"

    @property
    def keys_file(self) -> Path:
        return self.root / "api_keys"

    @property
    def lock_file(self) -> Path:
        """Held (flock) by the supervisor for as long as it lives; its content is its pid."""
        return self.run / "supervisor.pid"

    @property
    def status_file(self) -> Path:
        return self.run / "status.json"

    def data(self, part: str) -> Path:
        return self.root / part

    def pid_file(self, part: str) -> Path:
        return self.run / f"{part}.pid"

    def hold_file(self, part: str) -> Path:
        """While this file exists the supervisor keeps the part stopped."""
        return self.run / f"{part}.hold"

    def log_file(self, part: str) -> Path:
        return self.log / f"{part}.log"

    def make(self) -> None:
        """Create the folders. Open to others: PostgreSQL may run as another user."""
        for folder in (self.root, self.run, self.log):
            folder.mkdir(parents=True, exist_ok=True)
        self.marker.touch()
