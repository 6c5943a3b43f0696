"""Tenants take turns, and who floods gives way."""

from __future__ import annotations

import pytest

from services.agent_worker.governor.pacer import FairQueue

pytestmark = pytest.mark.unit


def taken(queue: FairQueue[str]) -> list[str]:
    found = []
    while (item := queue.take()) is not None:
        found.append(item)
    return found


def test_tenants_take_turns_each_in_its_own_order() -> None:
    queue = FairQueue[str](100)
    for item in ("a1", "a2", "a3", "b1", "c1", "c2"):
        assert queue.put(item[0], item) is None
    assert taken(queue) == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert len(queue) == 0


def test_a_tenant_that_comes_late_waits_for_one_round() -> None:
    queue = FairQueue[str](1_000)
    for n in range(500):
        queue.put("flood", f"f{n}")
    assert [queue.take() for _ in range(3)] == ["f0", "f1", "f2"]
    queue.put("small", "s")
    assert "s" in (queue.take(), queue.take())


def test_a_full_queue_gives_up_the_newest_of_the_tenant_with_most() -> None:
    queue = FairQueue[str](3)
    for item in ("f1", "f2", "s1"):
        queue.put(item[0], item)
    assert queue.put("s", "s2") in ("f2", "s2")
    assert queue.put("f", "f3") in ("f2", "f3", "s2")
    assert len(queue) == 3
    assert queue.put("n", "n1") is not None
    assert "n1" in taken(queue)


def test_what_is_dropped_is_not_taken() -> None:
    queue = FairQueue[str](10)
    for item in ("a1", "a2", "b1"):
        queue.put(item[0], item)
    queue.drop("a", "a1")
    queue.drop("b", "b1")
    queue.drop("b", "b1")
    queue.drop("c", "c1")
    assert len(queue) == 1
    assert taken(queue) == ["a2"]
