"""Every metric there is: kind (by its list), unit (by its suffix), labels and meaning, once.

Counters end in `_total`, times are in seconds. A label's values come from a closed set (a route template, a topic,
a stable reason): never a tenant, a session or anything a client can invent. Who writes to Kafka may name itself in
one of them; of those names a process keeps 16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CounterName = Literal[
    "turnstile_http_requests_total",
    "turnstile_inputs_published_total",
    "turnstile_inputs_filed_total",
    "turnstile_inputs_repeated_total",
    "turnstile_inputs_projected_total",
    "turnstile_events_published_total",
    "turnstile_events_projected_total",
    "turnstile_turns_ended_total",
    "turnstile_turn_retries_total",
    "turnstile_tokens_total",
    "turnstile_cost_usd_total",
    "turnstile_unpriced_requests_total",
    "turnstile_provider_requests_total",
    "turnstile_provider_streams_cut_total",
    "turnstile_provider_sends_reconciled_total",
    "turnstile_provider_events_total",
    "turnstile_provider_reschedules_total",
    "turnstile_compactions_total",
    "turnstile_outcome_evaluations_total",
    "turnstile_workflow_runs_total",
    "turnstile_provider_account_refusals_total",
    "turnstile_provider_defaults_replaced_total",
    "turnstile_rate_tokens_total",
    "turnstile_rate_held_total",
    "turnstile_rate_pauses_total",
    "turnstile_previews_published_total",
    "turnstile_previews_dropped_total",
    "turnstile_orphans_archived_total",
    "turnstile_prewarms_total",
    "turnstile_canary_rollbacks_total",
    "turnstile_canary_looks_failed_total",
    "turnstile_leases_claimed_total",
    "turnstile_leases_lost_total",
    "turnstile_head_conflicts_total",
    "turnstile_dead_letters_total",
    "turnstile_dead_letters_by_source_total",
    "turnstile_consumer_errors_total",
    "turnstile_intake_brakes_total",
    "turnstile_rows_inserted_total",
    "turnstile_insert_failures_total",
    "turnstile_sse_events_total",
    "turnstile_http_heads_refused_total",
    "turnstile_sse_slow_clients_total",
    "turnstile_sse_stalled_total",
    "turnstile_spans_exported_total",
    "turnstile_spans_dropped_total",
    "turnstile_log_lines_suppressed_total",
]
GaugeName = Literal[
    "turnstile_sessions_driven",
    "turnstile_sessions_due",
    "turnstile_prewarmed_sessions",
    "turnstile_caps_reached",
    "turnstile_canaries",
    "turnstile_events_waiting_bytes",
    "turnstile_rate_waiting",
    "turnstile_sse_streams",
    "turnstile_pending_writes",
    "turnstile_consumer_lag_records",
    "turnstile_consumer_held_records",
    "turnstile_intake_braked",
    "turnstile_recorder_paused",
    "turnstile_erasures_open",
    "turnstile_recorder_in_hand",
    "turnstile_spans_queued",
    "turnstile_audit_findings",
    "turnstile_audit_looked_at",
    "turnstile_audit_completeness_ratio",
    "turnstile_audit_finished_seconds",
]
HistogramName = Literal[
    "turnstile_http_request_seconds",
    "turnstile_publish_seconds",
    "turnstile_turn_seconds",
    "turnstile_turn_queue_seconds",
    "turnstile_turn_first_token_seconds",
    "turnstile_turn_first_output_seconds",
    "turnstile_provider_request_seconds",
    "turnstile_rate_wait_seconds",
    "turnstile_claim_seconds",
    "turnstile_head_write_seconds",
    "turnstile_batch_rows",
    "turnstile_insert_seconds",
    "turnstile_event_archived_seconds",
]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# Turns last from a second to a quarter of an hour (the default of the retry policy).
LONG_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 90.0, 180.0, 420.0, 900.0)
ROWS = (1.0, 10.0, 50.0, 100.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0)


@dataclass(frozen=True, slots=True)
class About:
    """What a metric counts. `buckets` are upper bounds in the metric's unit, for histograms only."""

    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


COUNTERS: dict[CounterName, About] = {
    "turnstile_http_requests_total": About(
        "HTTP requests answered by the gateway", ("method", "route", "status")
    ),
    "turnstile_inputs_published_total": About("Inputs Kafka acknowledged", ("type",)),
    "turnstile_inputs_filed_total": About(
        "Inputs put into the inbox for the first time", ("type",)
    ),
    "turnstile_inputs_repeated_total": About("Inputs that were in the inbox already", ("type",)),
    "turnstile_inputs_projected_total": About("Inputs applied to the gateway's tables"),
    "turnstile_events_published_total": About("Events Kafka acknowledged"),
    "turnstile_events_projected_total": About("Events applied to the gateway's tables"),
    "turnstile_turns_ended_total": About("Turns that ended, by their last status", ("status",)),
    "turnstile_turn_retries_total": About(
        "Attempts that came to nothing and are due again", ("reason",)
    ),
    "turnstile_tokens_total": About(
        "Tokens the provider counted; kind: input, output, cache_read, cache_write", ("kind",)
    ),
    "turnstile_cost_usd_total": About(
        "US dollars of the ledger; corrections downwards are not taken off"
    ),
    "turnstile_unpriced_requests_total": About(
        "Model requests to a model that no row of prices names"
    ),
    "turnstile_provider_requests_total": About(
        "Calls to the provider; outcome: ok, http_<status>, timeout, unreachable",
        ("operation", "outcome"),
    ),
    "turnstile_provider_streams_cut_total": About(
        "Provider streams that ended before the turn did"
    ),
    "turnstile_provider_sends_reconciled_total": About(
        "Sends of unknown outcome that were looked up; outcome: found, absent", ("outcome",)
    ),
    "turnstile_provider_events_total": About(
        "Provider events by how they were seen; source: stream, list", ("source",)
    ),
    "turnstile_provider_reschedules_total": About(
        "Sessions that the provider put off after an error of its own"
    ),
    "turnstile_compactions_total": About("Contexts that had grown too long and were compacted"),
    "turnstile_outcome_evaluations_total": About(
        "Evaluations of outcomes; result: the provider's word (satisfied, needs_revision, …), or other",
        ("result",),
    ),
    "turnstile_workflow_runs_total": About(
        "Workflow runs that ended, or were not created; result: completed, stopped, error, refused, other",
        ("result",),
    ),
    "turnstile_provider_account_refusals_total": About(
        "Answers of the provider about the account, not a request (key, bill, spend limit): people must act"
    ),
    "turnstile_provider_defaults_replaced_total": About(
        "Default agents and environments that were gone and are looked up or made anew; kind: agent, environment",
        ("kind",),
    ),
    "turnstile_rate_tokens_total": About(
        "Requests to the provider allowed, some never made; source: shared (the account of all workers), alone (it "
        "was away)",
        ("lane", "source"),
    ),
    "turnstile_rate_held_total": About(
        "Requests the rate governor did not let go; reason: timeout, full, paused",
        ("lane", "reason"),
    ),
    "turnstile_rate_pauses_total": About(
        "Answers 429 of the provider that paused a lane", ("lane",)
    ),
    "turnstile_previews_published_total": About("Coalesced previews handed to Kafka"),
    "turnstile_previews_dropped_total": About("Previews given up because Kafka was slow"),
    "turnstile_orphans_archived_total": About(
        "Provider sessions that a crash left behind and nobody is bound to"
    ),
    "turnstile_prewarms_total": About(
        "Provider sessions asked for before any turn; outcome: made, failed, full", ("outcome",)
    ),
    "turnstile_canary_rollbacks_total": About(
        "Canaries that `turnstile agents watch` ended; cause: errors, cost, latency", ("cause",)
    ),
    "turnstile_canary_looks_failed_total": About(
        "Looks of `turnstile agents watch` without the archive or the database: nothing was decided"
    ),
    "turnstile_leases_claimed_total": About("Sessions claimed"),
    "turnstile_leases_lost_total": About("Leases that ended in other hands while driving"),
    "turnstile_head_conflicts_total": About("Head rows that another epoch or version had changed"),
    "turnstile_dead_letters_total": About(
        "Records moved to turnstile.dead.v1, by the topic they came from", ("topic", "reason")
    ),
    "turnstile_dead_letters_by_source_total": About(
        "The same by who published them; source: gateway, agent-worker, operator, none (no ce_source), "
        "the ce_source of the first 16 other publishers that a process meets, other",
        ("source",),
    ),
    "turnstile_consumer_errors_total": About(
        "Errors that a group's reading of the log met", ("group",)
    ),
    "turnstile_intake_brakes_total": About(
        "How often intake stopped because too many of the gateway's inputs were unusable"
    ),
    "turnstile_rows_inserted_total": About("Rows ClickHouse acknowledged", ("table",)),
    "turnstile_insert_failures_total": About(
        "Inserts that failed; kind: away (tried again), refused (looked into)", ("table", "kind")
    ),
    "turnstile_sse_events_total": About(
        "Events sent to SSE clients; kind: event, preview", ("kind",)
    ),
    "turnstile_http_heads_refused_total": About(
        "Request heads refused before a route was known; status: 400, 408, 431", ("status",)
    ),
    "turnstile_sse_slow_clients_total": About("SSE clients that fell out of the live buffer"),
    "turnstile_sse_stalled_total": About(
        "SSE clients cut off because they took nothing for a minute"
    ),
    "turnstile_spans_exported_total": About("Spans the trace store acknowledged"),
    "turnstile_spans_dropped_total": About(
        "Spans given up; reason: queue_full, away, refused, stopped", ("reason",)
    ),
    "turnstile_log_lines_suppressed_total": About("Repeated log lines left out"),
}
GAUGES: dict[GaugeName, About] = {
    "turnstile_sessions_driven": About("Sessions this process drives now"),
    "turnstile_sessions_due": About("Sessions with work that nobody drives, when last looked at"),
    "turnstile_prewarmed_sessions": About(
        "Provider sessions that a worker made before any turn, and that wait for one"
    ),
    "turnstile_caps_reached": About(
        "Caps of which this share (percent: 50, 80, 100) or more is spent, when last looked at",
        ("scope", "period", "percent"),
    ),
    "turnstile_canaries": About("Agents with a canary, when last looked at"),
    "turnstile_events_waiting_bytes": About(
        "Provider events read from streams and not recorded yet, over all sessions of this process"
    ),
    "turnstile_rate_waiting": About("Requests to the provider that wait for their turn", ("lane",)),
    "turnstile_sse_streams": About("Open SSE streams"),
    "turnstile_pending_writes": About("Rows the gateway has yet to write to its tables"),
    "turnstile_consumer_lag_records": About(
        "Records between what is committed and the end of what can be read", ("group", "topic")
    ),
    "turnstile_consumer_held_records": About(
        "Records that nobody can read yet: a transaction before them, or theirs, is open",
        ("group", "topic"),
    ),
    "turnstile_intake_braked": About(
        "1 while none is taken in because too many of the gateway's inputs were unusable, else 0"
    ),
    "turnstile_recorder_paused": About("1 while the recorder waits for ClickHouse, else 0"),
    "turnstile_erasures_open": About(
        "Erased sessions of which ClickHouse may still have rows, or parts on the disk"
    ),
    "turnstile_recorder_in_hand": About(
        "Records read by the recorder whose insert has yet to begin"
    ),
    "turnstile_spans_queued": About("Spans that wait to be exported"),
    "turnstile_audit_findings": About("Findings of the latest audit", ("kind",)),
    "turnstile_audit_looked_at": About(
        "What the latest audit compared; what: events, provider_events, turns", ("what",)
    ),
    "turnstile_audit_completeness_ratio": About(
        "Share of events, of provider_events and of turns that the latest audit found complete",
        ("what",),
    ),
    "turnstile_audit_finished_seconds": About(
        "When the latest audit ended, in seconds since 1970; outcome: clean, findings",
        ("outcome",),
    ),
}
HISTOGRAMS: dict[HistogramName, About] = {
    "turnstile_http_request_seconds": About(
        "From the request's first byte to the answer's last", ("method", "route"), SECONDS
    ),
    "turnstile_publish_seconds": About(
        "From send to Kafka's acknowledgement: of an input, of the events of one write",
        ("topic",),
        SECONDS,
    ),
    "turnstile_turn_seconds": About("From submitted to ended", ("status",), LONG_SECONDS),
    "turnstile_turn_queue_seconds": About("From submitted to started", (), LONG_SECONDS),
    "turnstile_turn_first_token_seconds": About(
        "From submitted to the first token: its delta, else the first finished output",
        (),
        LONG_SECONDS,
    ),
    "turnstile_turn_first_output_seconds": About(
        "From submitted to the agent's first finished message, thought or tool call",
        (),
        LONG_SECONDS,
    ),
    "turnstile_provider_request_seconds": About(
        "One call to the provider; of a stream, until it begins", ("operation",), SECONDS
    ),
    "turnstile_rate_wait_seconds": About(
        "How long a request to the provider waited for its turn", ("lane",), SECONDS
    ),
    "turnstile_claim_seconds": About("One look for sessions to claim", (), SECONDS),
    "turnstile_head_write_seconds": About("One compare-and-set of a head row", (), SECONDS),
    "turnstile_batch_rows": About("Rows in one insert", ("table",), ROWS),
    "turnstile_insert_seconds": About("One insert into ClickHouse", ("table",), SECONDS),
    "turnstile_event_archived_seconds": About(
        "From Kafka's timestamp of a batch's oldest event to its insert", (), LONG_SECONDS
    ),
}
