"""The output of conversations that run at once: one after the other, each live.

The first conversation is printed as it comes; the others are kept until it is their turn, then
what they have so far is printed at once and the rest as it comes.
"""

from collections.abc import Callable

Write = Callable[[str], None]


class Stage:
    """Takes text of many speakers, writes it in the order in which the speakers were announced."""

    def __init__(self, write: Write, speakers: list[str]) -> None:
        self._write = write
        self._kept: dict[str, list[str]] = {name: [] for name in speakers}
        self._finished: set[str] = set()

    def speak(self, speaker: str, text: str) -> None:
        """Text of a speaker who is not finished: written now or kept."""
        if self._front() == speaker:
            self._write(text)
        else:
            self._kept[speaker].append(text)

    def finish(self, speaker: str) -> None:
        """The speaker has said all: what the next one has so far is printed."""
        self._finished.add(speaker)
        while (front := self._front()) and (front in self._finished or self._kept[front]):
            self._write("".join(self._kept[front]))
            self._kept[front] = []
            if front not in self._finished:
                return
            del self._kept[front]

    def _front(self) -> str | None:
        return next(iter(self._kept), None)
