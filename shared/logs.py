"""Log lines: one JSON object on stderr, with time, level, event, service and ids.

`time` is RFC 3339 in UTC; `trace_id` and `span_id` are those of the current span; `tenant_id`, `session_id` and
`turn_id` come from `bind`. Libraries that log through the standard library are written the same way. What a user or
an agent said is never logged: pass ids and sizes.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from types import TracebackType
from typing import Any, TextIO, cast
from urllib.parse import quote

import structlog
from opentelemetry import trace
from structlog.types import EventDict, Processor, WrappedLogger

from shared import metrics

MASK = "***"
# A shorter value would be found inside ordinary words, and is no secret.
MIN_LENGTH = 4


class Scrubber:
    """Replaces known secrets in a text: as they are, as JSON writes them, and as a URL does."""

    def __init__(self, secrets: Sequence[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= MIN_LENGTH for form in _forms(secret)}
        # Longest first, so that one secret inside another leaves nothing of the longer one behind.
        ordered = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        return self._pattern.sub(MASK, text) if self._pattern else text


def _forms(secret: str) -> set[str]:
    return {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        quote(secret, safe=""),
    }


WINDOW_S = 10.0
# More different kinds than this and the one that began longest ago is forgotten.
MAX_KEYS = 512
_LIBRARIES = ("aiokafka", "urllib3", "clickhouse_connect", "opentelemetry", "asyncio", "sqlalchemy")


class Flood:
    """Lets the first `most` of each kind through per window. `clock` gives seconds, never backwards."""

    def __init__(
        self,
        most: int = 1,
        window: float = WINDOW_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._window = window
        self._clock = clock
        # By kind: when its window began, how many passed in it, how many were left out in all since one passed.
        self._seen: dict[Hashable, tuple[float, int, int]] = {}

    def passes(self, kind: Hashable) -> int | None:
        """How many of the kind were left out before this one, which passes; None when it is to be left out."""
        now = self._clock()
        since, passed, left_out = self._seen.get(kind, (now, 0, 0))
        if now - since >= self._window:
            since, passed = now, 0
        if passed >= self._most:
            self._seen[kind] = (since, passed, left_out + 1)
            return None
        if passed == 0:
            self._seen.pop(kind, None)
        self._seen[kind] = (since, passed + 1, 0)
        if len(self._seen) > MAX_KEYS:
            del self._seen[next(iter(self._seen))]
        return left_out


class FloodFilter(logging.Filter):
    """Lets one of each library message through per window; sets `repeated` on it. Our own lines all pass.

    Messages are the same when logger, level and the unformatted text are. `clock` gives seconds, never backwards.
    """

    def __init__(
        self, window: float = WINDOW_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._flood = Flood(1, window, clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is printed."""
        if not record.name.startswith(_LIBRARIES) or not isinstance(record.msg, str):
            return True
        left_out = self._flood.passes((record.name, record.levelno, record.msg))
        if left_out is None:
            metrics.inc("turnstile_log_lines_suppressed_total")
            return False
        record.repeated = left_out
        return True


# Longer values are cut: a log line is no place for a document.
MAX_VALUE = 2000
_QUIET = (
    "uvicorn.access",
    "uvicorn.error",
    "urllib3",
    "httpx",
    "httpcore",
    "httpx2",
    "asyncio",
    "python_multipart",
)
_scrubber = Scrubber(())


class Bound:
    """Ids bound to this context. They stay for the rest of the task, or until the `with` block ends."""

    def __init__(self, **ids: str) -> None:
        self._tokens = structlog.contextvars.bind_contextvars(**ids)

    def __enter__(self) -> Bound:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        structlog.contextvars.reset_contextvars(**self._tokens)


def bind(
    *, tenant_id: str | None = None, session_id: str | None = None, turn_id: str | None = None
) -> Bound:
    """Put these ids on every line logged from this task (and tasks it starts) from now on."""
    ids = {"tenant_id": tenant_id, "session_id": session_id, "turn_id": turn_id}
    return Bound(**{name: value for name, value in ids.items() if value is not None})


def get(name: str) -> Any:
    """A logger: `log.info("what_happened", key=value)`, an event in snake_case and fields; `name` is the room."""
    return structlog.stdlib.get_logger(name)


def scrub(text: str) -> str:
    """The text with every known secret replaced, for words that leave the process otherwise (a health page)."""
    return _scrubber(text)


def configure(
    service: str, level: str, secrets: Sequence[str] = (), *, stream: TextIO | None = None
) -> None:
    """Send all logging of this process to stderr as JSON; called once, by main. Called again it starts over.

    `secrets` are values that must never appear in a line; each becomes `***`.
    """
    global _scrubber
    _scrubber = Scrubber(secrets)
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _Service(service),
        _trace_ids,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *common,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    _route_standard_library(common, level, stream or sys.stderr)


def _route_standard_library(common: list[Processor], level: str, stream: TextIO) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, _repeated],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _shorten,
                structlog.processors.JSONRenderer(ensure_ascii=False, default=repr),
                cast(Processor, _scrub_line),
            ],
        )
    )
    handler.addFilter(FloodFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in list(logging.root.manager.loggerDict):
        _hand_over(logging.getLogger(name))
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _hand_over(logger: logging.Logger) -> None:
    """Remove a library's own handlers: they would print a second time, and not as JSON."""
    if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        logger.handlers.clear()
        logger.propagate = True


class _Service:
    """Names the service on every line."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        event["service"] = self._service
        return event


def _trace_ids(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event


def _repeated(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    record: logging.LogRecord | None = event.get("_record")
    if repeated := getattr(record, "repeated", 0):
        event["repeated"] = repeated
    return event


def _shorten(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if isinstance(value, str) and len(value) > MAX_VALUE:
            # The end of a traceback says what happened, the beginning of anything else does.
            kept = value[-MAX_VALUE:] if name == "exception" else value[:MAX_VALUE]
            event[name] = f"{kept}… ({len(value)} characters)"
    return event


def _scrub_line(logger: WrappedLogger, method: str, line: str) -> str:
    return _scrubber(line)
