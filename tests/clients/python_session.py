"""A session played by a client that was generated from the document, with that client's packages alone.

A program: `python_session.py FOLDER PACKAGE URL KEY SESSION TEXT`; prints JSON `{opened, again, turn, types,
missing}`.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from typing import Any

PATIENCE_S = 60.0
ENDS = ("completed", "interrupted", "refused", "failed")


class Player:
    """One session of the gateway at `url`."""

    def __init__(self, package: str, url: str, key: str, session_id: str) -> None:
        self._package = package
        self.session_id = session_id
        made = import_module(f"{package}.client").AuthenticatedClient(base_url=url, token=key)
        self._client = made.with_headers({"Accept": "application/json"})
        self.models = import_module(f"{package}.models")

    def call(self, operation: str, *of: str, **more: Any) -> Any:
        """The whole response of a `tag.operation`."""
        module = import_module(f"{self._package}.api.{operation}")
        return module.sync_detailed(*of, client=self._client, **more)

    def ended(self, turn_id: str) -> Any:
        """The turn once it ended. Raises TimeoutError after PATIENCE_S."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            turn = self.call("turns.get_turn", self.session_id, turn_id).parsed
            if turn.status in ENDS:
                return turn
            time.sleep(0.1)
        raise TimeoutError(turn_id)

    def types(self) -> list[str]:
        """The types of all events, page by page."""
        found: list[str] = []
        after = 0
        while (
            page := self.call("events.get_events", self.session_id, after=after, limit=5).parsed
        ).data:
            found += [event.type_ for event in page.data]
            after = page.next_after
        return found


def main(folder: str, package: str, url: str, key: str, session_id: str, text: str) -> None:
    """Open, say, wait, read; then ask for what is not there."""
    sys.path.insert(0, folder)
    player = Player(package, url, key, session_id)
    wish = player.models.NewSession(user_id="u1", session_id=session_id)
    opened = player.call("sessions.open_session", body=wish)
    again = player.call("sessions.open_session", body=wish)
    said = player.models.NewTurn(content=text)
    accepted = player.call("turns.post_turn", session_id, body=said, idempotency_key="first")
    turn = player.ended(accepted.parsed.turn_id)
    missing = player.call("sessions.get_session", f"{session_id}-not")
    told = {
        "opened": opened.status_code,
        "again": again.status_code,
        "turn": turn.to_dict(),
        "types": player.types(),
        "missing": missing.parsed.type_,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
