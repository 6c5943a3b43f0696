"""Metrics by name from a closed list; a child is looked up once and then kept.

A name or a label that is not on the list is an error of the programmer: KeyError or ValueError at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from shared.metric_names import COUNTERS, GAUGES, HISTOGRAMS, CounterName, GaugeName, HistogramName

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_counters = {
    name: Counter(name, about.meaning, about.labels, registry=REGISTRY)
    for name, about in COUNTERS.items()
}
_gauges = {
    name: Gauge(name, about.meaning, about.labels, registry=REGISTRY)
    for name, about in GAUGES.items()
}
_histograms = {
    name: Histogram(name, about.meaning, about.labels, buckets=about.buckets, registry=REGISTRY)
    for name, about in HISTOGRAMS.items()
}

# Finding a labelled child costs several times as much as counting with it.
_Key = tuple[object, ...]
_counter_children: dict[_Key, Counter] = {}
_gauge_children: dict[_Key, Gauge] = {}
_histogram_children: dict[_Key, Histogram] = {}


def counter(name: CounterName, **labels: str) -> Counter:
    """The counter with these labels, for who counts with it again and again."""
    key = (name, *labels.items())
    child = _counter_children.get(key)
    if child is None:
        metric = _counters[name]
        child = _counter_children[key] = metric.labels(**labels) if labels else metric
    return child


def inc(name: CounterName, amount: float = 1, **labels: str) -> None:
    """Add `amount` (not negative) to a counter."""
    counter(name, **labels).inc(amount)


def histogram(name: HistogramName, **labels: str) -> Histogram:
    """The histogram with these labels, likewise."""
    key = (name, *labels.items())
    child = _histogram_children.get(key)
    if child is None:
        metric = _histograms[name]
        child = _histogram_children[key] = metric.labels(**labels) if labels else metric
    return child


def observe(name: HistogramName, value: float, **labels: str) -> None:
    """Put one value, in the metric's unit, into a histogram."""
    histogram(name, **labels).observe(value)


def set_gauge(name: GaugeName, value: float, **labels: str) -> None:
    """Say what a gauge stands at."""
    key = (name, *labels.items())
    child = _gauge_children.get(key)
    if child is None:
        metric = _gauges[name]
        child = _gauge_children[key] = metric.labels(**labels) if labels else metric
    child.set(value)


def read(name: CounterName | GaugeName, labels: Mapping[str, str] | None = None) -> float:
    """What a counter or gauge stands at; 0 before its first value. For tests and health pages."""
    return REGISTRY.get_sample_value(name, dict(labels or {})) or 0.0


def render(*, names: Sequence[str] = ()) -> bytes:
    """All metrics, or those of `names`, as Prometheus text, to be served as `CONTENT_TYPE`."""
    return generate_latest(REGISTRY.restricted_registry(names) if names else REGISTRY)
