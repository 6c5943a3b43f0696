"""Metrics come from closed lists, whole and well-formed."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from shared import metrics
from shared.metric_names import (
    COUNTERS,
    GAUGES,
    HISTOGRAMS,
    CounterName,
    GaugeName,
    HistogramName,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("names", "table"),
    [(CounterName, COUNTERS), (GaugeName, GAUGES), (HistogramName, HISTOGRAMS)],
)
def test_every_name_is_described_once(names: Any, table: dict[str, Any]) -> None:
    assert list(get_args(names)) == list(table)


def test_names_follow_the_conventions() -> None:
    assert all(name.startswith("turnstile_") for name in [*COUNTERS, *GAUGES, *HISTOGRAMS])
    assert all(name.endswith("_total") for name in COUNTERS)
    assert all(name.endswith(("_seconds", "_rows")) for name in HISTOGRAMS)
    assert all(list(about.buckets) == sorted(set(about.buckets)) for about in HISTOGRAMS.values())


def test_no_label_can_be_made_up_by_a_client() -> None:
    labels = {
        name
        for table in (COUNTERS, GAUGES, HISTOGRAMS)
        for about in table.values()
        for name in about.labels
    }
    assert not labels & {"tenant", "tenant_id", "session_id", "turn_id", "user_id", "path"}


def test_counting_shows_in_the_text() -> None:
    before = metrics.read("turnstile_rows_inserted_total", {"table": "t"})
    metrics.inc("turnstile_rows_inserted_total", 3, table="t")
    metrics.inc("turnstile_rows_inserted_total", table="t")
    metrics.set_gauge("turnstile_sse_streams", 2)
    metrics.observe("turnstile_insert_seconds", 0.2, table="t")
    assert metrics.read("turnstile_rows_inserted_total", {"table": "t"}) - before == 4
    text = metrics.render().decode()
    assert "# TYPE turnstile_rows_inserted_total counter" in text
    assert "turnstile_sse_streams 2.0" in text
    assert 'turnstile_insert_seconds_bucket{le="0.25",table="t"}' in text


def test_the_order_of_labels_does_not_matter() -> None:
    labels = {"topic": "a", "reason": "b"}
    before = metrics.read("turnstile_dead_letters_total", labels)
    metrics.inc("turnstile_dead_letters_total", topic="a", reason="b")
    metrics.inc("turnstile_dead_letters_total", reason="b", topic="a")
    assert metrics.read("turnstile_dead_letters_total", labels) - before == 2


def test_a_wrong_label_or_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="label"):
        metrics.inc("turnstile_rows_inserted_total", tabel="t")
    with pytest.raises(KeyError):
        metrics.inc("turnstile_unheard_of_total")  # type: ignore[arg-type]
