"""The conversations that the demo plays: one JSON object a line in `turns.jsonl`.

`[[script: …]]` in a turn asks the simulator for a certain course (tools, a permission, child
threads); a real provider would take it for text.
"""

import json
from dataclasses import dataclass
from pathlib import Path

TURNS_FILE = Path(__file__).with_name("turns.jsonl")


@dataclass(frozen=True, slots=True)
class Conversation:
    """One user's side of a conversation, in order."""

    conversation_id: str
    lang: str
    title: str
    turns: tuple[str, ...]


def load_conversations(path: Path = TURNS_FILE) -> list[Conversation]:
    """All conversations of a file, in order. Raises ValueError naming the line that is wrong."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            fields = json.loads(line)
            found.append(Conversation(**{**fields, "turns": tuple(fields["turns"])}))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path.name}, line {number}: {error}") from error
    return found
