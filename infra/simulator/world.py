"""What exists at this provider: agents, environments, vaults, files, sessions, and the log of requests."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

from infra.simulator import stamps
from infra.simulator.chance import Ids
from infra.simulator.connections import Credential
from infra.simulator.errors import missing
from infra.simulator.play.casting import Casting
from infra.simulator.play.delays import NONE, Delays
from infra.simulator.play.driver import Driver
from infra.simulator.play.session import Session
from infra.simulator.settings import Settings

JSON = dict[str, Any]
MAX_REQUESTS_KEPT = 5_000


@dataclass(slots=True)
class Agent:
    """An agent: all its versions, the newest last."""

    id: str
    versions: list[JSON]
    archived_at: str | None = None

    def at(self, version: int | None = None) -> JSON:
        """One version as the API shows it. Raises ApiError 404 for one that does not exist."""
        if version is not None and not 1 <= version <= len(self.versions):
            raise missing(f"agent {self.id} version", str(version))
        body = self.versions[-1 if version is None else version - 1]
        return {**body, "archived_at": self.archived_at}


@dataclass(slots=True)
class World:
    """All state of one simulator. Lives on one event loop."""

    settings: Settings
    now: stamps.Now
    ids: Ids
    casting: Casting
    driver: Driver
    agents: dict[str, Agent] = field(default_factory=dict)
    environments: dict[str, JSON] = field(default_factory=dict)
    vaults: dict[str, JSON] = field(default_factory=dict)
    credentials: dict[str, dict[str, Credential]] = field(default_factory=dict)  # by vault
    files: dict[str, JSON] = field(default_factory=dict)
    memory_stores: dict[str, JSON] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    gone: OrderedDict[str, Session] = field(default_factory=OrderedDict)  # deleted ones, bounded
    requests: deque[JSON] = field(default_factory=lambda: deque(maxlen=MAX_REQUESTS_KEPT))
    created: int = 0  # sessions ever
    delays: Delays = NONE  # of sessions made from now on

    def written_now(self) -> str:
        return stamps.written(self.now())

    def session(self, ident: str) -> Session:
        """Raises ApiError 404 for a session that is not there or was deleted."""
        session = self.sessions.get(ident)
        if session is None:
            raise missing("session", ident)
        return session

    def forget(self, session: Session) -> None:
        """Takes a deleted session out of the API; its log stays readable for the newest `retain`."""
        del self.sessions[session.id]
        self.gone[session.id] = session
        while len(self.gone) > self.settings.retain:
            self.gone.popitem(last=False)

    def end_streams(self) -> None:
        """Ends every open stream cleanly: the server is about to stop."""
        for session in (*self.sessions.values(), *self.gone.values()):
            for thread in session.threads.values():
                thread.channel.close()


def new_world(settings: Settings, now: stamps.Now = stamps.wall_clock) -> World:
    """An empty provider."""
    casting = Casting(settings.seed, settings.mix)
    driver = Driver(casting, settings.pace)
    ids = Ids("world", settings.seed)
    return World(settings, now, ids, casting, driver, delays=settings.delays)
