"""Accepts what clients ask: stamped, given an id, published; then remembered.

Nothing is remembered that Kafka did not acknowledge, so whatever a client was told survives a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec import UNSET

from services.gateway.bodies import NewSession, NewTurn
from services.gateway.claims import Claims
from services.gateway.gate import Gate
from services.gateway.ids import derived, fresh, keyed_session, keyed_turn, turn_input
from services.gateway.ports import InputPublisher, ReadModel, UserScope
from services.gateway.register import Known, Register, known
from services.gateway.reuse import Reuse
from services.gateway.views import (
    Closing,
    SessionPage,
    SessionView,
    TurnView,
    accepted_turn,
    opened,
)
from shared import metrics, telemetry
from shared.bus.envelope import GATEWAY, Envelope
from shared.bus.topics import INPUTS
from shared.clock import Clock
from shared.errors import Rejected, Transient
from shared.moment import rfc3339
from shared.ownership import Ownership
from shared.session.inputs import (
    ArchiveRequested,
    BudgetRaised,
    EraseRequested,
    InterruptRequested,
    Request,
    SessionRequested,
    ToolAnswered,
    ToolConfirmed,
    TurnRequested,
)
from shared.session.key import SessionKey
from shared.session.references import Reference, of_agent, of_session, of_turn, references
from shared.telemetry import SpanKind

_encode = msgspec.json.Encoder().encode
_publish_seconds = metrics.histogram("turnstile_publish_seconds", topic=INPUTS.name)
_ASKED = ("user_id", "agent", "title", "metadata", "budget_usd", "vault_ids", "mode", "resources")
_CLOSED = {"archive": "archived", "erase": "erased"}


@dataclass(frozen=True, slots=True)
class Accept:
    """The write side of the gateway. Whatever is published passes the `gate`; `ids` makes a new id from a prefix.

    `opening` are sessions being opened: a request for one of them meanwhile gets what the first one makes.
    """

    inputs: InputPublisher
    read_model: ReadModel
    register: Register
    claims: Claims
    reuse: Reuse
    ownership: Ownership
    gate: Gate
    clock: Clock
    ids: Callable[[str], str] = fresh
    opening: dict[SessionKey, asyncio.Task[tuple[SessionPage, bool]]] = field(default_factory=dict)

    async def session_of(self, key: SessionKey) -> Known:
        """The session, from memory or from the read model.

        Raises Rejected (`unknown_session`) when this tenant has none, Transient without a database.
        """
        found = self.register.session(key)
        if found is not None:
            return found
        page = await self.read_model.session(key)
        if page is None:
            raise Rejected("unknown_session", f"there is no session {key[1]}")
        found = known(page)
        self.register.meet(key, found)
        return found

    async def open(
        self, tenant_id: str, body: NewSession, idempotency_key: str | None
    ) -> tuple[SessionPage, bool]:
        """The session and whether it is new. Raises Rejected (`unknown_reference`: an id that is not the
        tenant's) or Transient.

        The id is that of the first request under the key, else of the session that is to be reused, else the
        client's, else a fresh one. Of several requests that ask for one session at once, here or at several
        gateways, one gets True.
        """
        await self._require_ours(tenant_id, of_session(body.agent, body.vault_ids, body.resources))
        scope = self.reuse.scope(tenant_id, body)
        named = reused = body.session_id
        if scope is not None:
            async with self.gate:
                named = reused = await self.reuse.session_for(scope, body)
        if idempotency_key:
            keyed = keyed_session(tenant_id, idempotency_key)
            async with self.gate:
                named = await self.claims.stands_for((tenant_id, ""), keyed, named or keyed)
        key = (tenant_id, named or self.ids("ses_"))
        under_way = self.opening.get(key)
        if under_way is not None:
            page, _ = await asyncio.shield(under_way)
            return page, False
        whose = scope if named == reused else None
        opening = asyncio.create_task(self._open(key, body, whose, shared=named is not None))
        self.opening[key] = opening
        opening.add_done_callback(lambda _: self.opening.pop(key))
        return await asyncio.shield(opening)

    async def _open(
        self, key: SessionKey, body: NewSession, scope: UserScope | None, *, shared: bool
    ) -> tuple[SessionPage, bool]:
        """`shared`: others may know this id, so there may be such a session; `scope`: whose it is by reuse."""
        async with self.gate:
            existing = await self.read_model.session(key) if shared else None
            if existing is not None:
                return existing, False
            request = _session_request(*key, body, rfc3339(self.clock()))
            await self._publish(request, "session.requested", derived("in_", *key, "session"))
            return await self._opened(key, opened(request), scope)

    async def _opened(
        self, key: SessionKey, page: SessionPage, scope: UserScope | None
    ) -> tuple[SessionPage, bool]:
        """The session, written before the client hears of it, so that another gateway takes its turns too. Without
        the database that is left to the projector."""
        try:
            written = await self.read_model.open(page)
        except Transient:
            written = page
        self.register.meet(key, known(written))
        if scope is not None:
            with contextlib.suppress(Transient):
                return written, await self.reuse.users.opened(scope, key[1])
        return written, _is_ours(written.view, page.view)

    async def turn(self, key: SessionKey, body: NewTurn, idempotency_key: str | None) -> TurnView:
        """Publish the turn; returns it once it is safe on the log. One that was accepted before is not published
        again.

        Raises Rejected (`unknown_session`, `session_archived`, `session_erased`, `unknown_reference`) or Transient.
        """
        tenant_id, session_id = key
        session = self.register.session(key) or await self.session_of(key)
        named = (*of_agent(session.agent), *of_turn(body.content, body.outcome))
        if named:
            await self._require_ours(tenant_id, named)
        if idempotency_key is None:
            turn_id, again = body.turn_id or self.ids("turn_"), False
        else:
            turn_id, again = await self._keyed_turn(key, session, body.turn_id, idempotency_key)
        turn_key = (tenant_id, session_id, turn_id)
        accepted = self.register.turn(turn_key)
        if accepted is None and session.closed is not None:
            accepted = await self.read_model.turn(turn_key)
            if accepted is None and not again:
                raise _closed(key, session.closed)
        if accepted is not None:
            return accepted
        request = TurnRequested(
            tenant_id=tenant_id,
            session_id=session_id,
            at=rfc3339(self.clock()),
            user_id=session.user_id,
            turn_id=turn_id,
            content=body.content,  # type: ignore[arg-type]  # blocks as typed here, JSON alike
            outcome=body.outcome,
            on_busy=body.on_busy,
            deadline_seconds=body.deadline_seconds,
            agent=session.agent,
            mode=session.mode,  # type: ignore[arg-type]
        )
        async with self.gate:
            trace = await self._publish(request, "turn.requested", turn_input(*turn_key))
        # A traceparent of our own making: version, trace, span, flags.
        turn = accepted_turn(request, trace[3:35])
        self.register.accept(turn_key, turn)
        return turn

    async def _keyed_turn(
        self, key: SessionKey, session: Known, named: str | None, idempotency_key: str
    ) -> tuple[str, bool]:
        """The turn of a request under a key: that of the first one under it, else the one it names, else the key's.
        And whether it is known to be a repeat, which is looked for where a first request would be refused."""
        keyed = keyed_turn(*key, idempotency_key)
        if session.closed == "erase":  # its keys are forgotten, and it takes no more
            return named or keyed, False
        async with self.gate:
            if session.closed is None:
                return await self.claims.stands_for(key, keyed, named or keyed), False
            claimed = await self.claims.claimed(key, keyed)
        return claimed or named or keyed, claimed is not None

    async def wish(self, kind: str, request: Request, idempotency_key: str | None) -> None:
        """Publish any other input. Raises Rejected (`unknown_session`, `unknown_reference`) or Transient, and for
        what is known to be without effect Rejected (`session_archived`, `session_erased`, `already_answered`,
        `no_longer_asked`, `budget_not_raised`).

        A request that is made again under its key is refused only when its session is erased: it goes to the log
        again under the same id, and counts once.
        """
        key = (request.tenant_id, request.session_id)
        session = await self.session_of(key)
        await self._require_ours(request.tenant_id, references(request))
        call = _call_of(request)
        async with self.gate:
            if idempotency_key is None:
                await self._require_effect(key, session, request)
                input_id = self.ids("in_")
            else:
                input_id = derived("in_", *key, kind, *call, idempotency_key)
                await self._claim(key, session, request, input_id)
            await self._publish(request, kind, input_id)
        if isinstance(request, ArchiveRequested):
            await self._close(key, "archive")
        elif isinstance(request, EraseRequested):
            await self._close(key, "erase")

    async def _require_ours(self, tenant_id: str, named: Sequence[Reference]) -> None:
        """Raise Rejected (`unknown_reference`) when one of these is not the tenant's."""
        strange = await self.ownership.strange(tenant_id, named) if named else None
        if strange is not None:
            field = strange.reference.field
            raise Rejected("unknown_reference", strange.words, field=field)

    async def _close(self, key: SessionKey, why: Closing) -> None:
        """No more turns here, and no gateway answers the session to a user who opens one. Without the database that
        is left to who asks: the projector writes that the session is closed."""
        self.register.close(key, why)
        with contextlib.suppress(Transient):
            await self.reuse.users.end(key)

    async def _claim(
        self, key: SessionKey, session: Known, request: Request, input_id: str
    ) -> None:
        """Claim the input's id before it is published, unless it was before; then what became of the first request
        is no reason to refuse this one. Raises Rejected or Transient.

        The topics of what was asked and of what came of it are read independently of each other: a call may be seen
        answered before its answer is, so what was read tells no repeat.
        """
        if isinstance(request, ArchiveRequested | EraseRequested):  # never refused
            return
        try:
            await self._require_effect(key, session, request)
        except Rejected as refusal:
            erased = refusal.reason == "session_erased"  # its keys are forgotten
            if erased or await self.claims.claimed(key, input_id) is None:
                raise
        else:
            await self.claims.stands_for(key, input_id, input_id)

    async def _require_effect(self, key: SessionKey, session: Known, request: Request) -> None:
        """Raise Rejected when something may no longer come of the request.

        What is not known may be news that has not come here yet, and is left to the session: only a call that was
        seen to wait and to wait no more, for good, is refused.
        """
        call = _call_of(request)
        raises = isinstance(request, BudgetRaised)
        page = await self._page(key) if call or raises else None
        if call or raises or isinstance(request, InterruptRequested):
            closed = session.closed or (known(page).closed if page else None)
            if closed is not None:
                raise _closed(key, closed)
        if page is not None and isinstance(request, BudgetRaised):
            _require_raise(page, request.budget_usd)
        elif page is not None:
            _require_asked(page, *call)

    async def _page(self, key: SessionKey) -> SessionPage | None:
        """The session's row; None without a database, too."""
        try:
            return await self.read_model.session(key)
        except Transient:
            return None

    async def _publish(self, request: Request, kind: str, input_id: str) -> str:
        """Publish under a span; its traceparent, which is the record's, is returned."""
        began = time.perf_counter()
        with telemetry.span("send turnstile.inputs.v1", kind=SpanKind.PRODUCER) as span:
            if span.is_recording():
                span.set_attributes(_sent(request, input_id))
            trace = telemetry.traceparent(span)
            await self.inputs.publish(
                Envelope(
                    id=input_id,
                    source=GATEWAY,
                    type=kind,
                    time=request.at,
                    subject=request.session_id,
                    traceparent=trace,
                ),
                _encode(request),
            )
        metrics.counter("turnstile_inputs_published_total", type=kind).inc()
        _publish_seconds.observe(time.perf_counter() - began)
        return trace


def _sent(request: Request, input_id: str) -> telemetry.Attributes:
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.destination.name": INPUTS.name,
        "messaging.message.id": input_id,
        "messaging.kafka.message.key": request.session_id,
    }


def _is_ours(written: SessionView, asked: SessionView) -> bool:
    """Whether a session that was not there before became what was asked for here, and not by another gateway.

    The projector may have written it first: with the time of the request, or, once the session has events, its own.
    """
    if not written.last_seq:
        return written.created_at == asked.created_at
    return all(getattr(written, name) == getattr(asked, name) for name in _ASKED)


def _closed(key: SessionKey, why: Closing) -> Rejected:
    word = _CLOSED[why]
    return Rejected(
        f"session_{word}", f"session {key[1]} is {word} (or was asked to be): open another one"
    )


def _call_of(request: Request) -> tuple[str, ...]:
    """The tool call that a request answers, if it answers one."""
    if isinstance(request, ToolConfirmed):
        return (request.tool_use_id,)
    return (request.custom_tool_use_id,) if isinstance(request, ToolAnswered) else ()


def _require_raise(page: SessionPage, budget_usd: float) -> None:
    """Budgets only grow; what else is wrong with one the session knows."""
    held = page.view.budget_usd
    if held is not None and budget_usd < held:
        words = f"budget_usd: {budget_usd} is below {held}, what it is now: it can only be raised"
        raise Rejected("budget_not_raised", words)


def _require_asked(page: SessionPage, tool_use_id: str) -> None:
    if any(action.tool_use_id == tool_use_id for action in page.view.pending_actions):
        return
    for call in reversed(page.settled):
        if call.tool_use_id == tool_use_id:
            if call.end == "answered":
                words = f"tool call {tool_use_id} was answered already ({call.at})"
                raise Rejected("already_answered", words)
            raise Rejected(
                "no_longer_asked",
                f"tool call {tool_use_id} is not asked any more: its turn ended, or the provider "
                f"session that asked was lost ({call.at})",
            )


def _session_request(
    tenant_id: str, session_id: str, body: NewSession, at: str
) -> SessionRequested:
    return SessionRequested(
        tenant_id=tenant_id,
        session_id=session_id,
        at=at,
        user_id=body.user_id,
        agent=body.agent,
        title=body.title,
        metadata=body.metadata,
        budget_usd=body.budget_usd,
        vault_ids=body.vault_ids,
        mode=body.mode,
        prewarm=body.prewarm or UNSET,
        resources=UNSET if body.resources is None else body.resources,
    )
