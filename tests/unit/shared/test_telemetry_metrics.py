"""Metrics come from closed lists, whole and well-formed."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared import metrics
from shared.metric_names import (
    COUNTERS,
    GAUGES,
    HISTOGRAMS,
    CounterName,
    GaugeName,
    HistogramName,
)
from shared.metric_sums import added_up

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


def test_what_several_processes_count_is_added_up_family_by_family() -> None:
    one = b'# HELP a_total A\n# TYPE a_total counter\na_total{x="1"} 2.0\n# HELP b B\n# TYPE b gauge\nb 1.0\n'
    two = b'# HELP a_total A\n# TYPE a_total counter\na_total{x="1"} 3.0\na_total{x="2"} 1.0\n'
    started = b"# HELP process_start_time_seconds S\nprocess_start_time_seconds 17.5\n"
    assert added_up([one + started, two + started]).decode().splitlines() == [
        "# HELP a_total A",
        "# TYPE a_total counter",
        'a_total{x="1"} 5.0',
        'a_total{x="2"} 1.0',
        "# HELP b B",
        "# TYPE b gauge",
        "b 1.0",
        "# HELP process_start_time_seconds S",
        "process_start_time_seconds 17.5",
    ]


def test_what_one_process_counts_is_unchanged() -> None:
    text = metrics.render()
    families = {one.name: one for one in text_string_to_metric_families(text.decode())}
    merged = text_string_to_metric_families(added_up([text]).decode())
    assert {one.name: one for one in merged} == families
