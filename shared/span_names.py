"""Every span there is: a closed list, so that a query for one finds all of it.

Pinned: OpenTelemetry semantic conventions 1.44.0 (HTTP, database) and the messaging and GenAI groups of the same
release, which are still marked as in development there. Messaging spans are `<operation> <destination>`, HTTP
server spans `<method> <route>`, GenAI spans the bare operation: the model is an attribute, because a name with it
would not be a closed list. Names with a dot are Turnstile's own, for what no convention covers.

Common attributes where known: `turnstile.tenant_id`, `turnstile.session_id`, `turnstile.turn_id`. Never an
attribute: what a user or an agent said.
"""

from __future__ import annotations

from typing import Literal, cast, get_args

SpanName = Literal[
    # SERVER, gateway: one HTTP request, probes left out. http.request.method, http.route,
    # http.response.status_code, error.type.
    "GET /asyncapi.json",
    "GET /openapi.json",
    "POST /v1/sessions",
    "GET /v1/sessions",
    "GET /v1/sessions/{session_id}",
    "DELETE /v1/sessions/{session_id}",
    "POST /v1/sessions/{session_id}/archive",
    "PUT /v1/sessions/{session_id}/budget",
    "GET /v1/sessions/{session_id}/events",
    "POST /v1/sessions/{session_id}/interrupt",
    "GET /v1/sessions/{session_id}/replay",
    "POST /v1/sessions/{session_id}/tool_confirmations",
    "POST /v1/sessions/{session_id}/tool_results",
    "POST /v1/sessions/{session_id}/turns",
    "GET /v1/sessions/{session_id}/turns/{turn_id}",
    "GET /v1/costs",
    "POST /v1/vaults",
    "GET /v1/vaults",
    "GET /v1/vaults/{vault_id}",
    "DELETE /v1/vaults/{vault_id}",
    "POST /v1/vaults/{vault_id}/credentials",
    "GET /v1/vaults/{vault_id}/credentials",
    "DELETE /v1/vaults/{vault_id}/credentials/{credential_id}",
    "POST /v1/vaults/{vault_id}/credentials/{credential_id}/rotate",
    "POST /v1/vaults/{vault_id}/credentials/{credential_id}/validate",
    "POST /v1/vaults/{vault_id}/connect",
    "GET /connect/{token}",
    "POST /connect/{token}",
    "GET /connect/callback",
    # SERVER, gateway: a request that met no route of the list.
    "HTTP",
    # PRODUCER: an input until Kafka acknowledged it. messaging.system=kafka, messaging.operation.name=send,
    # messaging.destination.name, messaging.message.id (ce_id), messaging.kafka.message.key. Its context is the
    # record's traceparent.
    "send turnstile.inputs.v1",
    # CONSUMER, agent-worker: an input is taken in; parent: the record's traceparent.
    "process turnstile.inputs.v1",
    # CLIENT, agent-worker: one attempt at one turn, from `turn.started` to its end, wait or failure, or until the
    # session is given back. gen_ai.operation.name, gen_ai.provider.name=anthropic, gen_ai.agent.id,
    # gen_ai.conversation.id (provider session), turnstile.attempt, turnstile.turn.status. A second attempt in the
    # same process is linked to the first, not nested in it.
    "invoke_agent",
    # INTERNAL, agent-worker: the provider session is created, or found again and adopted. turnstile.adopted.
    "provider.open",
    # INTERNAL, agent-worker: the user's content goes out once; covers looking first and reconciling after.
    # turnstile.send.outcome: sent, found, refused, ambiguous.
    "provider.send",
    # INTERNAL, agent-worker: the part of the event stream that is an attempt's. turnstile.watch.events.
    "provider.watch",
    # INTERNAL, agent-worker: events are listed to close a gap, after a stream was opened again above all.
    # turnstile.reconcile.found.
    "provider.reconcile",
    # INTERNAL, agent-worker: an interrupt goes out.
    "provider.interrupt",
    # INTERNAL, agent-worker: a confirmation or a tool's result goes out. turnstile.tool_use_id.
    "provider.answer",
    # INTERNAL, agent-worker: the provider session is let to spend more.
    "provider.set_budget",
    # INTERNAL, agent-worker: the provider session is archived or deleted.
    "provider.close",
    # CLIENT, agent-worker: one model request, rebuilt from span.model_request_start/_end with their times.
    # gen_ai.operation.name=chat, gen_ai.request.model, gen_ai.usage.input_tokens, gen_ai.usage.output_tokens,
    # gen_ai.usage.cache_read.input_tokens, gen_ai.usage.cache_creation.input_tokens, error.type.
    "chat",
    # INTERNAL, agent-worker: one tool call, rebuilt from the tool's use and result events.
    # gen_ai.operation.name=execute_tool, gen_ai.tool.name, gen_ai.tool.call.id, gen_ai.tool.type, error.type.
    "execute_tool",
    # INTERNAL, agent-worker: a session is claimed because of this turn. turnstile.epoch.
    "lease.claim",
    # CLIENT, agent-worker: the head row is compared and set, while a turn is open. turnstile.events (how many).
    "head.write",
    # PRODUCER, agent-worker: events of one write until Kafka acknowledged them. messaging.batch.message_count.
    "send turnstile.events.v1",
    # PRODUCER, any service: a dead letter, in the trace of what died; or, when too many die alike, those of a
    # batch. turnstile.dead.reason, turnstile.dead.publisher, messaging.batch.message_count (how many letters).
    "send turnstile.dead.v1",
    # CONSUMER, recorder: one batch, linked to the traces in it, not their child.
    # messaging.batch.message_count, messaging.consumer.group.name.
    "process turnstile.events.v1",
    # CLIENT, recorder: rows go into the archive. Once per batch, and once more in the trace of each turn that
    # ended in it (256 of a batch at most: more are those of a recorder that catches up), with the same times.
    # db.system.name=clickhouse, db.collection.name, db.operation.batch.size.
    "INSERT session_events",
    # CLIENT, gateway: the archive is read.
    # db.system.name=clickhouse, db.collection.name, db.response.returned_rows.
    "SELECT events",
    # CLIENT, gateway: the ledger is added up. db.system.name=clickhouse, db.collection.name.
    "SELECT cost_facts",
    # INTERNAL, gateway: history, log and live are joined for one stream. turnstile.after, turnstile.events.
    "history.read",
]

SPAN_NAMES: frozenset[str] = frozenset(get_args(SpanName))


def http_span(method: str, route: str) -> SpanName:
    """The name of the server span of a request; `HTTP` when the route is not on the list."""
    name = f"{method} {route}"
    return cast(SpanName, name) if name in SPAN_NAMES else "HTTP"
