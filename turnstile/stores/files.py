"""A store in a folder of JSON files, for one machine: a folder a session with `head.json` and `events.jsonl`.

The head is the point of commit: it says how many bytes of the events count. Events are written behind those and
brought to the disk first, then the head is replaced by rename; what a killed process left behind the counted bytes
is cut off by the next one. Writers of all processes take turns by a lock of the operating system.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote
from uuid import uuid4
from zlib import crc32

from turnstile.stores.port import NO_STATE, About, Append, Aside, Head, KeptProfile, Line

Result = TypeVar("Result")
LOCKS = 256
FOLDERS = ("sessions", "profiles", "aside", "locks", "trash")
ABOUT = About(
    name="JSON files",
    roles=frozenset({"state", "history"}),
    cannot=(
        "several machines: the lock is the operating system's, which network folders often lack",
        "quick reads of a long history, or of one user's sessions among many: files are read through",
    ),
)


class FilesBackend:
    """The Backend port on a folder, which is made. `threads` bounds how many files are worked on at once."""

    about = ABOUT
    away: tuple[type[BaseException], ...] = (OSError,)

    def __init__(self, folder: Path, threads: int) -> None:
        self._folder = folder
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="store-files")

    async def start(self) -> None:
        await self._in_thread(self._start)

    async def head(self, session: str) -> Head | None:
        return await self._in_thread(lambda: self._head(session))

    async def write(self, append: Append) -> bool:
        return await self._in_thread(lambda: self._write(append))

    async def lines(self, session: str, after: int, limit: int) -> Sequence[Line]:
        return await self._in_thread(lambda: self._lines(session, after, limit))

    async def heads(self, user: str | None, prefix: str, after: str, limit: int) -> Sequence[Head]:
        return await self._in_thread(lambda: self._heads(user, prefix, after, limit))

    async def remove(self, session: str, version: int) -> bool:
        return await self._in_thread(lambda: self._remove(session, version))

    async def due(self, before_ms: int, limit: int) -> Sequence[tuple[str, int]]:
        return await self._in_thread(lambda: self._due(before_ms, limit))

    async def profile(self, user: str) -> KeptProfile | None:
        return await self._in_thread(lambda: self._profile(user))

    async def write_profile(self, user: str, text: str | None, expected: int) -> bool:
        return await self._in_thread(lambda: self._write_profile(user, text, expected))

    async def set_aside(self, aside: Aside) -> None:
        await self._in_thread(lambda: self._set_aside(aside))

    async def aside(self, session: str, limit: int) -> Sequence[Aside]:
        return await self._in_thread(lambda: self._aside(session)[:limit])

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _start(self) -> None:
        for name in FOLDERS:
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        for left in (self._folder / "trash").iterdir():
            shutil.rmtree(left, ignore_errors=True)

    def _head(self, session: str) -> Head | None:
        try:
            return _read_head(session, self._of(session))[0]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            with self._locked(session):
                return self._mended(session)

    def _write(self, append: Append) -> bool:
        head, folder = append.head, self._of(append.head.session)
        with self._locked(head.session):
            before = self._head_and_size(head.session)
            if (before[0].version if before else 0) != append.expected:
                return False
            folder.mkdir(exist_ok=True)
            size = before[1] if before else 0
            user = before[0].user if before else head.user
            added = b"".join(_event_line(line, user) for line in append.lines)
            with (folder / "events.jsonl").open("ab") as events:
                events.truncate(size)
                events.write(added)
                events.flush()
                os.fsync(events.fileno())
            _replace(folder / "head.json", _head_text(head, before, size + len(added)))
            if before is None:
                _to_disk(folder.parent)
            return True

    def _lines(self, session: str, after: int, limit: int) -> list[Line]:
        folder = self._of(session)
        try:
            size = _read_head(session, folder)[1]
            with (folder / "events.jsonl").open("rb") as events:
                raws = events.read(size).split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        return [
            _read_event(seq, raw) for seq, raw in enumerate(raws[after : after + limit], after + 1)
        ]

    def _heads(self, user: str | None, prefix: str, after: str, limit: int) -> list[Head]:
        found: list[Head] = []
        for session in sorted(self._sessions()):
            if session <= after or not session.startswith(prefix):
                continue
            head = self._head(session)
            if head and user in (None, head.user):
                found.append(head)
            if len(found) == limit:
                break
        return found

    def _remove(self, session: str, version: int) -> bool:
        trash = self._folder / "trash" / uuid4().hex
        with self._locked(session):
            before = self._head_and_size(session)
            if before is None or before[0].version != version:
                return False
            os.rename(self._of(session), trash)
            (self._folder / "aside" / _name(session)).unlink(missing_ok=True)
            _to_disk(self._folder / "sessions")
        shutil.rmtree(trash, ignore_errors=True)
        return True

    def _due(self, before_ms: int, limit: int) -> list[tuple[str, int]]:
        heads = (self._head(session) for session in self._sessions())
        due = (
            (h.session, h.version)
            for h in heads
            if h and (h.expires_ms or before_ms + 1) <= before_ms
        )
        return [one for one, _ in zip(due, range(limit), strict=False)]

    def _profile(self, user: str) -> KeptProfile | None:
        try:
            raw = (self._folder / "profiles" / _name(user)).read_text("utf-8")
        except FileNotFoundError:
            return None
        version, _, text = raw.partition("\n")
        return KeptProfile(int(version) if version.isdigit() else 1, text)

    def _write_profile(self, user: str, text: str | None, expected: int) -> bool:
        file = self._folder / "profiles" / _name(user)
        with self._locked(user):
            before = self._profile(user)
            if (before.version if before else 0) != expected:
                return False
            if text is not None:
                _replace(file, f"{expected + 1}\n{text}")
            else:
                file.unlink(missing_ok=True)
                _to_disk(file.parent)
            return True

    def _set_aside(self, aside: Aside) -> None:
        with self._locked(aside.session):
            self._note(aside)

    def _note(self, aside: Aside) -> None:
        if any(aside.seq == known.seq for known in self._aside(aside.session)):
            return
        row = {"seq": aside.seq, "reason": aside.reason, "at_ms": aside.at_ms, "text": aside.text}
        with (self._folder / "aside" / _name(aside.session)).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _aside(self, session: str) -> list[Aside]:
        try:
            rows = (self._folder / "aside" / _name(session)).read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [Aside(session=session, **json.loads(row)) for row in rows]

    def _sessions(self) -> Iterator[str]:
        return (_named(name) for name in os.listdir(self._folder / "sessions"))

    def _of(self, session: str) -> Path:
        return self._folder / "sessions" / _name(session)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """One writer at a time for all whose names share a lock; the system frees that of a process that ends."""
        file = self._folder / "locks" / f"{crc32(name.encode()) % LOCKS:02x}"
        with file.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _head_and_size(self, session: str) -> tuple[Head, int] | None:
        """The head and how many bytes of the events count; under the lock."""
        try:
            return _read_head(session, self._of(session))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            self._mended(session)
            return _read_head(session, self._of(session))

    def _mended(self, session: str) -> Head:
        """Make a head anew from the events, when the file can't be read; what it held is set aside."""
        folder = self._of(session)
        file = folder / "head.json"
        try:
            return _read_head(session, folder)[0]  # somebody else has mended it
        except (ValueError, KeyError, TypeError):
            text = file.read_bytes().decode("utf-8", "backslashreplace")
        at = int(file.stat().st_mtime * 1000)
        self._note(Aside(session, 0, "bad_head", at, text))
        raw = (folder / "events.jsonl").read_bytes()
        size = raw.rfind(b"\n") + 1
        lines = raw[:size].split(b"\n")[:-1]
        users = [user for user in map(_user_of, lines) if user]
        # Its state is none on purpose: who loads it is told that it is lost.
        head = Head(session, len(lines), users[0] if users else "", "lost", at, at, None)
        _replace(file, _head_text(head, None, size))
        return head


def _event_line(line: Line, user: str) -> bytes:
    about = json.dumps({"seq": line.seq, "append": line.append_id, "user": user})
    return f'{about[:-1]}, "event": {line.text}}}\n'.encode()


def _read_event(seq: int, raw: bytes) -> Line:
    """The event, its text as it was written; the whole line when it is damaged."""
    try:
        about, mark, text = raw.decode().partition(', "event": ')
        fields = json.loads(about + "}")
        if not mark or fields["seq"] != seq or not text.endswith("}"):
            raise ValueError
        return Line(seq, str(fields["append"]), text[:-1])
    except (ValueError, KeyError, TypeError):
        return Line(seq, "", raw.decode("utf-8", "backslashreplace"))


def _user_of(raw: bytes) -> str:
    try:
        return str(json.loads(raw)["user"])
    except (ValueError, KeyError, TypeError):
        return ""


def _head_text(head: Head, before: tuple[Head, int] | None, size: int) -> str:
    kept = before[0] if before else head
    fields = {
        "version": head.version,
        "user": kept.user,
        "created_ms": kept.created_ms,
        "updated_ms": head.updated_ms,
        "expires_ms": head.expires_ms,
        "bytes": size,
        "state": kept.state if head.state == NO_STATE else head.state,
    }
    return json.dumps(fields, ensure_ascii=False)


def _read_head(session: str, folder: Path) -> tuple[Head, int]:
    fields: dict[str, Any] = json.loads((folder / "head.json").read_bytes())
    size = fields.pop("bytes")
    if not isinstance(size, int) or not isinstance(fields["version"], int):
        raise ValueError("not a head")
    return Head(session=session, **fields), size


def _replace(file: Path, text: str) -> None:
    """The file holds `text`, or what it held before, whatever is killed or loses power when."""
    beside = file.with_name(f".{file.name}.{uuid4().hex}")
    with beside.open("wb") as written:
        written.write(text.encode())
        written.flush()
        os.fsync(written.fileno())
    os.replace(beside, file)
    _to_disk(file.parent)


def _to_disk(folder: Path) -> None:
    """The names in the folder are on the disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _name(name: str) -> str:
    """A file's name; the ending keeps `.` and `..` from being folders."""
    return f"{quote(name, safe='')}.d"


def _named(name: str) -> str:
    return unquote(name.removesuffix(".d"))
